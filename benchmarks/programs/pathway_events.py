"""Pathway on rows from Python. Task: how ("one" or "paced"), rows, distinct, output, state, interval_ms; for "paced"
also rate (rows a second) and autocommit_ms. PATHWAY_THREADS is set from outside.
"""

from __future__ import annotations

import time
from typing import Any

import pathway as pw
from measured import percentiles, report, task, timed

job: dict[str, Any] = task()
words = [f"word{number}" for number in range(job["distinct"])]


class Line(pw.Schema):
    word: str


class Event(pw.Schema):
    word: str
    number: int


class OneByOne(pw.io.python.ConnectorSubject):
    def run(self) -> None:
        for _ in range(job["rows"] // len(words)):
            for word in words:
                self.next(word=word)


given = [0.0] * job["rows"]
lags: list[float] = []


class Paced(pw.io.python.ConnectorSubject):
    """Notes when it gave each row, at times that do not depend on how long anything takes."""

    def run(self) -> None:
        start = time.perf_counter()
        for number in range(job["rows"]):
            time.sleep(max(0.0, start + number / job["rate"] - time.perf_counter()))
            given[number] = time.perf_counter()
            self.next(word=words[number % len(words)], number=number)


def told(key: object, row: dict[str, Any], time: int, is_addition: bool) -> None:
    if is_addition:
        lags.append(now() - given[row["last"]])


now = time.perf_counter
figures: dict[str, Any] = {}
with timed(figures):
    if job["how"] == "paced":
        events = pw.io.python.read(Paced(), schema=Event, name="events", autocommit_duration_ms=job["autocommit_ms"])
        last = events.groupby(pw.this.word).reduce(pw.this.word, last=pw.reducers.max(pw.this.number))
        pw.io.subscribe(last, told)
    else:
        lines = pw.io.python.read(OneByOne(), schema=Line, name="lines")
        counts = lines.groupby(pw.this.word).reduce(pw.this.word, count=pw.reducers.count())
        pw.io.csv.write(counts, job["output"])
    backend = pw.persistence.Backend.filesystem(job["state"])
    config = pw.persistence.Config(backend, snapshot_interval_ms=job["interval_ms"])
    pw.run(monitoring_level=pw.MonitoringLevel.NONE, persistence_config=config)
if lags:
    figures["latency_ms"] = percentiles(lags[len(lags) // 10 :])
report(figures)
