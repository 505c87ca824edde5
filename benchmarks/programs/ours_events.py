"""asyncpersist on rows from Python. Task: how ("one", "thread", "batch" or "paced"), rows, distinct, output, and what
`running` takes; for "paced" also rate (rows a second).
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import polars as pl
from measured import percentiles, report, task, timed
from running import run

import asyncpersist as ap

BATCH = 10_000
job: dict[str, Any] = task()
words = [f"word{number}" for number in range(job["distinct"])]


class Line(ap.Schema):
    word: str


class Event(ap.Schema):
    word: str
    number: int


class OneByOne(ap.io.python.ConnectorSubject):
    async def run(self) -> None:
        for _ in range(job["rows"] // len(words)):
            for word in words:
                await self.next(word=word)


class OneByOneInThread(ap.io.python.ConnectorSubject):
    def run(self) -> None:
        for _ in range(job["rows"] // len(words)):
            for word in words:
                self.next(word=word)


class Batches(ap.io.python.ConnectorSubject):
    async def run(self) -> None:
        batch = pl.DataFrame({"word": (words * (BATCH // len(words) + 1))[:BATCH]})
        for _ in range(job["rows"] // BATCH):
            await self.next_batch(batch)


class Paced(ap.io.python.ConnectorSubject):
    """Notes when it gave each row, at times that do not depend on how long anything takes."""

    def __init__(self) -> None:
        self.given = [0.0] * job["rows"]

    async def run(self) -> None:
        start = time.perf_counter()
        for number in range(job["rows"]):
            await asyncio.sleep(start + number / job["rate"] - time.perf_counter())
            self.given[number] = time.perf_counter()
            await self.next(word=words[number % len(words)], number=number)


async def main() -> None:
    figures: dict[str, Any] = {}
    lags: list[float] = []
    with timed(figures), ap.Graph() as graph:
        if job["how"] == "paced":
            subject = Paced()
            events = ap.io.python.read(subject, schema=Event, name="events", resume="live")
            last = events.groupby(ap.this.word).reduce(ap.this.word, last=ap.reducers.max(ap.this.number))

            def told(row: dict[str, Any], is_addition: bool, **_: object) -> None:
                if is_addition:
                    lags.append(time.perf_counter() - subject.given[row["last"]])

            ap.io.subscribe(last, told)
        else:
            kind = {"one": OneByOne, "thread": OneByOneInThread, "batch": Batches}[job["how"]]
            lines = ap.io.python.read(kind(), schema=Line, name="lines", resume="live")
            counts = lines.groupby(ap.this.word).reduce(ap.this.word, count=ap.reducers.count())
            ap.io.csv.write(counts, job["output"])
        await run(graph, job, figures)
    if lags:
        figures["latency_ms"] = percentiles(lags[len(lags) // 10 :])
    report(figures)


asyncio.run(main())
