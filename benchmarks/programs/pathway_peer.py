"""Pathway on a workload. Task: kind, input, output, state or null, interval_ms. PATHWAY_THREADS is set from outside."""

from __future__ import annotations

import pathway as pw
from measured import report, task, timed


class Line(pw.Schema):
    word: str


class Sale(pw.Schema):
    store: str
    product: str
    tier: int | None
    quantity: int
    price: float


job, figures = task(), {}
with timed(figures):
    if job["kind"] == "words":
        lines = pw.io.jsonlines.read(job["input"], schema=Line, mode="static", name="lines")
        result = lines.groupby(pw.this.word).reduce(pw.this.word, count=pw.reducers.count())
    else:
        sales = pw.io.csv.read(job["input"], schema=Sale, mode="static", name="sales")
        keys = (pw.this.store, pw.this.product, pw.this.tier)
        result = sales.groupby(*keys).reduce(
            *keys,
            n=pw.reducers.count(),
            total=pw.reducers.sum(pw.this.quantity),
            mean=pw.reducers.avg(pw.this.price),
            top=pw.reducers.max(pw.this.price),
        )
    pw.io.csv.write(result, job["output"])
    config = job["state"] and pw.persistence.Config(
        pw.persistence.Backend.filesystem(job["state"]), snapshot_interval_ms=job["interval_ms"]
    )
    pw.run(monitoring_level=pw.MonitoringLevel.NONE, persistence_config=config or None)
report(figures)
