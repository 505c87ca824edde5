"""asyncpersist on a workload. Task: kind, input, output, lag (bool), and what `running` takes."""

from __future__ import annotations

import asyncio

from measured import report, task, ticked, timed
from running import run

import asyncpersist as ap

IDLE_SECONDS = 3.0


class Line(ap.Schema):
    word: str


class Sale(ap.Schema):
    store: str
    product: str
    tier: int | None
    quantity: int
    price: float


def build(kind: str, inputs: str, output: str) -> ap.Graph:
    with ap.Graph() as graph:
        if kind == "words":
            lines = ap.io.jsonlines.read(inputs, schema=Line, mode="static", name="lines")
            result = lines.groupby(ap.this.word).reduce(ap.this.word, count=ap.reducers.count())
        else:
            sales = ap.io.csv.read(inputs, schema=Sale, mode="static", name="sales")
            keys = (ap.this.store, ap.this.product, ap.this.tier)
            result = sales.groupby(*keys).reduce(
                *keys,
                n=ap.reducers.count(),
                total=ap.reducers.sum(ap.this.quantity),
                mean=ap.reducers.avg(ap.this.price),
                top=ap.reducers.max(ap.this.price),
            )
        ap.io.csv.write(result, output)
    return graph


async def main() -> None:
    job, figures = task(), {}
    if job["lag"]:
        figures["idle_lag_ms"] = await ticked(asyncio.sleep(IDLE_SECONDS))
    with timed(figures):
        graph = build(job["kind"], job["input"], job["output"])
        running = run(graph, job, figures)
        if job["lag"]:
            figures["lag_ms"] = await ticked(running)
        else:
            await running
    report(figures)


asyncio.run(main())
