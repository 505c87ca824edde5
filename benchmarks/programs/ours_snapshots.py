"""How many bytes of state a snapshot writes when few groups changed. Task: state, output, groups, snapshots, seed.

All groups arrive and are snapshotted; then, for every further snapshot, one hundredth of them,
drawn anew, gets one row each.
"""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import polars as pl
from measured import report, task, timed

import asyncpersist as ap
from asyncpersist.columnar.delta import Delta
from asyncpersist.dtypes import DType
from asyncpersist.graph.node import SourceNode
from asyncpersist.io.source import Batch, Offsets, Source, SourceReader
from asyncpersist.table.table import Table

FIRST_BATCH = 100_000


class Channel(Source, SourceReader):
    """Gives out what is put into it, and never ends."""

    def __init__(self) -> None:
        self.batches: asyncio.Queue[pl.DataFrame] = asyncio.Queue()
        self.given = 0

    async def check(self, offsets: Offsets | None) -> None:
        pass

    async def open(self, offsets: Offsets | None, *, identity: str, ids: bool) -> SourceReader:
        return self

    async def read(self) -> Batch | None:
        rows = await self.batches.get()
        self.given += rows.height
        return Batch(Delta(rows), {"channel": self.given}, rows.estimated_size())

    async def aclose(self) -> None:
        pass


async def stepped(runtime: ap.Runtime, rows: int) -> None:
    """Returns once so many rows went through the dataflow."""
    while runtime.statistics().rows_read < rows:  # noqa: ASYNC110
        await asyncio.sleep(0.001)


async def main() -> None:
    job, figures = task(), dict[str, Any]()
    generator = np.random.default_rng(job["seed"])
    groups = job["groups"]
    names = pl.format("word{}_{}", pl.int_range(groups), pl.int_range(groups) * 7919 % 1_000_003)
    words = pl.select(names.alias("word")).to_series().gather(pl.Series(generator.permutation(groups)))
    channel = Channel()
    with ap.Graph() as graph:
        source = SourceNode(
            kind="source", definition={"type": "channel"}, columns={"word": DType("str")}, source=channel
        )
        counts = Table(source).groupby(ap.this.word).reduce(ap.this.word, count=ap.reducers.count())
        ap.io.csv.write(counts, job["output"])
    config = ap.persistence.Config(ap.persistence.Backend.filesystem(job["state"]), snapshot_interval_ms=3_600_000)

    written = []
    with timed(figures):
        async with ap.Runtime(graph, persistence_config=config) as runtime:
            before = runtime.statistics().state_bytes_written
            for start in range(0, groups, FIRST_BATCH):
                channel.batches.put_nowait(words.slice(start, FIRST_BATCH).to_frame())
            rows = groups
            for _ in range(job["snapshots"] + 1):
                await stepped(runtime, rows)
                await runtime.snapshot()
                now = runtime.statistics().state_bytes_written
                written.append(now - before)
                before = now
                changed = generator.choice(groups, groups // 100, replace=False)
                channel.batches.put_nowait(words.gather(pl.Series(changed)).to_frame())
                rows += changed.size
    figures["full_bytes"], *figures["bytes"] = written
    report(figures)


asyncio.run(main())
