"""Runs that keep results of functions and nothing else, as short as they can be."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import polars as pl

from asyncpersist.checkpoint.caches import cache_stream, function_stream
from asyncpersist.checkpoint.manifest import CacheFacts, Manifest
from asyncpersist.checkpoint.root import Root
from asyncpersist.columnar.delta import WEIGHT
from asyncpersist.columnar.state import Increment, State
from asyncpersist.objectstore.contract import ObjectStore
from asyncpersist.runtime import recovery
from asyncpersist.runtime.caches import capture_all
from asyncpersist.runtime.segments import Capture, StateSegment
from asyncpersist.runtime.snapshots import Snapshots
from asyncpersist.testing.clocks import ManualClock

__all__ = ["STREAM", "Cache", "CachingRun", "Table", "found"]

STREAM = cache_stream("ca/che", "0" * 32)

_SCHEMA = {"key": pl.UInt128, "value": pl.Int64, WEIGHT: pl.Int64}


class Table(State):
    """Results by their key."""

    key = ("key",)

    def __init__(self) -> None:
        self.values: dict[int, int] = {}
        self._touched: dict[int, None] = {}
        self._complete = False

    def put(self, key: int, value: int) -> None:
        self.values[key] = value
        self._touched[key] = None

    def drop(self, key: int) -> None:
        del self.values[key]
        self._touched[key] = None

    def begin_anew(self) -> None:
        """The next increment takes the place of all before."""
        self._complete = True
        self._touched = dict.fromkeys(self.values)

    def capture(self) -> Increment | None:
        if not self._touched and not self._complete:
            return None
        rows = [(key, self.values.get(key, 0), int(key in self.values)) for key in self._touched]
        increment = Increment(pl.DataFrame(rows, schema=_SCHEMA, orient="row"), complete=self._complete)
        self._touched, self._complete = {}, False
        return increment

    def load(self, frame: pl.DataFrame) -> None:
        assert not self.values
        self.values = dict(frame.select("key", "value").iter_rows())


class Cache:
    """One function with one cache."""

    def __init__(self, *streams: str) -> None:
        self.tables = {stream: Table() for stream in streams or (STREAM,)}
        self.hits = self.calls = 0
        self.gone: set[str] = set()

    @property
    def states(self) -> Mapping[str, State]:
        return self.tables

    @property
    def table(self) -> Table:
        return self.tables[STREAM]

    def capture(self) -> list[StateSegment]:
        return capture_all(self.tables)

    def found(self, others: Mapping[str, tuple[CacheFacts, int]]) -> None:
        pass

    def dropped(self) -> Collection[str]:
        return self.gone

    def facts(self) -> dict[str, CacheFacts]:
        known = CacheFacts(function="f", cache="ca/che", hits=self.hits, calls=self.calls, used=float(self.calls))
        return dict.fromkeys(map(function_stream, self.tables), known)


class CachingRun:
    """A run that has claimed its root, adopted what there was, and filled its cache."""

    def __init__(self, root: Root, snapshots: Snapshots, cache: Cache) -> None:
        self.root = root
        self.snapshots = snapshots
        self.cache = cache

    @classmethod
    async def start(
        cls,
        store: ObjectStore,
        clock: ManualClock,
        *,
        takeover: bool = False,
        retain: int = 10,
        cache: Cache | None = None,
        streams: bool = False,
    ) -> CachingRun:
        """`streams`: goes on with what else the head holds."""
        root = await Root.open(store, clock=clock, retain_snapshots=retain)
        await root.claim(mode="M", access="A", takeover=takeover)
        cache = Cache() if cache is None else cache
        snapshots = Snapshots(
            root,
            graph={},
            mode="M",
            access="A",
            streams=(root.head.streams if root.head and streams else {}),
            rules={},
            facts={},
            compression="zstd",
            clock=clock,
            caches=cache,
        )
        try:
            frames = await recovery.fetch(root, root.head, cache.states)
            await recovery.add_answers(root, frames, cache.states, await snapshots.adopt())
            await recovery.fill(cache.states, frames)
        except BaseException:
            root.abandon()
            raise
        return cls(root, snapshots, cache)

    @property
    def head(self) -> Manifest:
        assert self.root.head is not None
        return self.root.head

    async def write(self, *states: StateSegment) -> Manifest:
        """A snapshot of the next epoch."""
        capture = Capture(epoch=self.head.epoch + 2, states=states, logs={}, positions={}, progress={})
        return await self.snapshots.write(capture, committed=lambda: None)

    async def answer(self, **values: int) -> None:
        """Puts results into the table, `k7=1` under the key 7, and returns once they are durable."""
        for key, value in values.items():
            self.cache.table.put(int(key[1:]), value)
            self.cache.calls += 1
        await self.snapshots.put_answers(self.cache.capture)

    def kill(self) -> None:
        """As if the process were gone."""
        self.root.abandon()


async def found(store: ObjectStore, clock: ManualClock) -> dict[int, int]:
    """What the next run would find, by reading alone."""
    root = await Root.open(store, clock=clock)
    cache = Cache()
    frames = await recovery.fetch(root, root.head, cache.states)
    await recovery.add_answers(root, frames, cache.states, await root.unnamed_answers())
    await recovery.fill(cache.states, frames)
    return cache.table.values
