"""asyncpersist calling functions. Task: how, and what that needs.

`"sync"`, `"async"`: a trivial function, cached, over input to output, with state. `"slow"`: `rows` calls of a
coroutine that takes `seconds`, `capacity` at once. `"lag"`: how late a ticker in the loop is, idle and beside functions
that leave the interpreter to others: a coroutine, one that blocks its thread, one of whole columns.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import polars as pl
from measured import report, task, ticked, timed

import asyncpersist as ap
from asyncpersist.io.python import ConnectorSubject


class Document(ap.Schema):
    text: str


class Number(ap.Schema):
    n: int


class Numbers(ConnectorSubject):
    def __init__(self, count: int, batch: int) -> None:
        self.count, self.batch = count, batch

    async def run(self) -> None:
        for start in range(0, self.count, self.batch):
            await self.next_batch(pl.DataFrame({"n": range(start, min(start + self.batch, self.count))}))


job: dict[str, Any] = task()
figures: dict[str, Any] = {"calls": 0}


def turned(text: str) -> str:
    figures["calls"] += 1
    return text[::-1]


async def turned_later(text: str) -> str:
    figures["calls"] += 1
    return text[::-1]


async def cached() -> None:
    chosen = turned if job["how"] == "sync" else turned_later
    function = ap.udf(cache_strategy=ap.udfs.DefaultCache())(chosen)
    documents = ap.io.jsonlines.read(job["input"], schema=Document, mode="static")
    ap.io.csv.write(documents.select(ap.this.text, turned=function(ap.this.text)), job["output"])
    config = ap.persistence.Config(
        ap.persistence.Backend.filesystem(job["state"]), persistence_mode=ap.PersistenceMode.UDF_CACHING
    )
    await ap.run(persistence_config=config)


async def counted(function: Any, rows: int, batch: int) -> None:
    """Runs a function over numbers; it must have been called for each."""
    with ap.Graph() as graph:
        numbers = ap.io.python.read(Numbers(rows, batch), schema=Number)
        answered = numbers.select(m=function(ap.this.n)).reduce(n=ap.reducers.count())
        found: list[int] = []
        ap.io.subscribe(answered, lambda key, row, time, is_addition: found.append(row["n"]))
    await ap.run(graph)
    if found[-1] != rows:
        raise SystemExit(f"{found[-1]} of {rows} calls were answered")


async def slow() -> None:
    @ap.udf(executor=ap.udfs.async_executor(capacity=job["capacity"]))
    async def waits(n: int) -> int:
        await asyncio.sleep(job["seconds"])
        return n

    await counted(waits, job["rows"], job["rows"])


async def lag() -> None:
    @ap.udf(executor=ap.udfs.async_executor(capacity=500))
    async def waits(n: int) -> int:
        await asyncio.sleep(0.05)
        return n

    @ap.udf
    def blocks(n: int) -> int:
        time.sleep(0.002)
        return n

    @ap.udf(return_type=float, deterministic=True)
    def computes(n: pl.Series) -> pl.Series:
        return (n.cast(pl.Float64) ** 0.5).sin()

    for name, work in {
        "idle": asyncio.sleep(5),
        "coroutine": counted(waits, 40_000, 5_000),
        "blocking": counted(blocks, 2_000, 50),
        "columns": counted(computes, 20_000_000, 500_000),
    }.items():
        figures[name] = await ticked(work)


with timed(figures):
    asyncio.run({"slow": slow, "lag": lag}.get(job["how"], cached)())
report(figures)
