"""A source's log over a root, without the rest of a run: written, taken back, snapshotted, read again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import numpy as np
import polars as pl
from anyio.abc import TaskGroup

from asyncpersist.checkpoint.manifest import LogFacts, Manifest, ObjectRef
from asyncpersist.checkpoint.root import Root
from asyncpersist.checkpoint.tiers import Policy
from asyncpersist.columnar import codec
from asyncpersist.columnar.delta import ID, PART, WEIGHT, Delta
from asyncpersist.objectstore.contract import ObjectStore
from asyncpersist.runtime.compaction import Compaction
from asyncpersist.runtime.log_plans import Bounds
from asyncpersist.runtime.log_rule import LogRule
from asyncpersist.runtime.scratch import Scratch
from asyncpersist.runtime.segments import Capture
from asyncpersist.runtime.snapshots import Snapshots
from asyncpersist.runtime.source_log import SourceLog
from asyncpersist.testing.clocks import ManualClock

STREAM = "log/s"
NET = LogRule(("word", PART))
WITH_IDS = LogRule(("word", ID, PART))
TINY = Bounds(
    policy=Policy(fan_in=3, most=6, waste=None, floor=600, together=6000),
    inline=0,
    least=1,
    large=1,
    memory=4000,
    base=2000,
)
"""So that a few rows are many, and everything happens to them."""


def rows(words: list[str], part: int = 1, *, ids_from: int | None = None, weight: int = 1) -> Delta:
    frame = pl.DataFrame({"word": words}, schema={"word": pl.String})
    if ids_from is not None:
        frame = frame.with_columns(pl.Series(ID, np.arange(ids_from, ids_from + len(words))).cast(pl.UInt128))
    frame = frame.with_columns(pl.lit(part, dtype=pl.Int64).alias(PART))
    return Delta(frame, None if weight == 1 else np.full(len(words), weight, np.int64))


class Writing:
    """One run that writes one log."""

    def __init__(
        self, snapshots: Snapshots, root: Root, log: SourceLog, compaction: Compaction, group: TaskGroup
    ) -> None:
        self.snapshots = snapshots
        self.root = root
        self.log = log
        self.compaction = compaction
        self.group = group

    async def retract(self, epoch: int, *parts: int, since: int = 0) -> Counter[str]:
        """What was said to be taken back, by word."""
        said: Counter[str] = Counter()
        async for piece in self.log.retract(epoch, set(parts), since):
            for word, weight in piece.weighted().select("word", WEIGHT).iter_rows():
                said[word] += weight
        return said

    async def snapshot(self, epoch: int) -> Manifest:
        capture = Capture(epoch=epoch, states=[], logs={STREAM: self.log.cut()}, positions={}, progress={})
        return await self.snapshots.write(capture, committed=self.log.committed)


@asynccontextmanager
async def writing(
    store: ObjectStore,
    rule: LogRule = NET,
    *,
    bounds: Bounds = TINY,
    facts: Mapping[str, LogFacts] | None = None,
    takeover: bool = False,
    unseen: bool = False,
) -> AsyncIterator[Writing]:
    """A run over a root; at its end the root is not released, as if it had been killed."""
    root = await Root.open(store, clock=(clock := ManualClock()), retain_snapshots=2)
    await root.claim(mode="M", access="A", takeover=takeover)
    assert root.head is not None
    snapshots = Snapshots(
        root,
        graph={},
        mode="M",
        access="A",
        streams=root.head.streams,
        rules={STREAM: rule},
        facts=root.head.logs if facts is None else facts,
        bounds=bounds,
        compression="zstd",
        clock=clock,
    )
    async with AsyncExitStack() as closing, anyio.create_task_group() as group:
        try:
            log = SourceLog(STREAM, snapshots, group, rule, unseen=unseen)
            yield Writing(snapshots, root, log, Compaction(snapshots, Scratch(closing), bounds=bounds), group)
        finally:
            group.cancel_scope.cancel()
            root.abandon()


async def head_of(store: ObjectStore) -> Manifest:
    found = await Root.open(store, clock=ManualClock())
    assert found.head is not None
    return found.head


async def named(store: ObjectStore) -> list[tuple[ObjectRef, list[pl.DataFrame]]]:
    """What the newest manifest says is the log, read by nothing but the root."""
    found = await Root.open(store, clock=ManualClock())
    assert found.head is not None
    refs = found.head.streams.get(STREAM, [])
    data = await asyncio.gather(*map(found.get, refs))
    return [(ref, list(codec.parts(some))) for ref, some in zip(refs, data, strict=True)]


async def net(store: ObjectStore) -> Counter[tuple[object, ...]]:
    """Rows of the log but for their epochs -> their weights in sum, those that are there."""
    total: Counter[tuple[object, ...]] = Counter()
    for ref, parts in await named(store):
        assert ref.rows == sum(part.height for part in parts)
        for part in parts:
            assert part.is_empty() or ref.first_epoch <= part[codec.EPOCH].min()  # type: ignore[operator]
            assert part.is_empty() or ref.last_epoch >= part[codec.EPOCH].max()  # type: ignore[operator]
            names = sorted(name for name in part.columns if not name.startswith("__") or name in (ID, PART))
            for *row, weight in part.select(*names, WEIGHT).iter_rows():
                total[tuple(row)] += weight
    return Counter({row: weight for row, weight in total.items() if weight})
