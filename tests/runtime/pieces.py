"""Sources and sinks to turn by hand, for tests of the runtime alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import polars as pl

import asyncpersist as ap
from asyncpersist.clock import Clock
from asyncpersist.columnar.delta import Delta
from asyncpersist.disk import Disk
from asyncpersist.dtypes import DType
from asyncpersist.graph.context import current_graph
from asyncpersist.graph.node import SinkNode, SourceNode
from asyncpersist.io.sink import Position, Sink, SinkWriter
from asyncpersist.io.source import Batch, Needs, Offsets, Source, SourceReader
from asyncpersist.table.table import Table

COLUMNS = {"word": DType("str")}


class Feed(Source):
    """Gives one batch for each list of words, the offset being how many were given; `hold` keeps it from ending."""

    def __init__(self, *batches: Sequence[str], hold: bool = False) -> None:
        self.batches = list(batches)
        self.hold = hold
        self.given = asyncio.Event()
        self.opened_at: list[int] = []

    async def check(self, offsets: Offsets | None, *, persistent: bool) -> None:
        pass

    async def open(self, offsets: Offsets | None, *, identity: str, needs: Needs) -> SourceReader:
        start = (offsets or {}).get("feed", 0)
        self.opened_at.append(start)
        return _FeedReader(self, start)


class _FeedReader(SourceReader):
    def __init__(self, feed: Feed, start: int) -> None:
        self._feed = feed
        self._next = start

    async def read(self) -> Batch | None:
        if self._next == len(self._feed.batches):
            self._feed.given.set()
            if self._feed.hold:
                await asyncio.Event().wait()
            return None
        words = self._feed.batches[self._next]
        self._next += 1
        rows = pl.DataFrame({"word": words}, schema={"word": pl.String})
        return Batch(Delta(rows), {"feed": self._next}, size=len(words))

    async def aclose(self) -> None:
        pass


class Collected(Sink):
    """Keeps what it is given; `on_write` and `on_flush` are called first and may raise."""

    def __init__(self) -> None:
        self.written: list[tuple[int, Delta]] = []
        self.on_write: Callable[[], None] = lambda: None
        self.on_flush: Callable[[], None] = lambda: None
        self.closed = 0

    @property
    def identity(self) -> str:
        return f"memory:{id(self)}"

    async def check(self, position: Position | None, *, persistent: bool, clean: bool = False) -> None:
        pass

    def initial(self) -> Position:
        return {"written": 0}

    async def open(
        self, position: Position | None, *, persistent: bool, exclusive: bool, disk: Disk, clock: Clock
    ) -> SinkWriter:
        del self.written[0 if position is None else position["written"] :]
        return _CollectedWriter(self)

    def totals(self) -> dict[str, int]:
        """word -> count, summed up from the changes."""
        live: dict[tuple[object, ...], int] = {}
        for _, delta in self.written:
            for *row, weight in delta.weighted().select("word", "count", "__weight").iter_rows():
                live[tuple(row)] = live.get(tuple(row), 0) + weight
        assert set(live.values()) <= {0, 1}
        return {str(word): int(str(count)) for (word, count), there in live.items() if there}


class _CollectedWriter(SinkWriter):
    def __init__(self, sink: Collected) -> None:
        self._sink = sink

    async def write(self, epoch: int, delta: Delta) -> None:
        self._sink.on_write()
        self._sink.written.append((epoch, delta))

    async def flush(self) -> Position:
        self._sink.on_flush()
        return {"written": len(self._sink.written)}

    async def aclose(self) -> None:
        self._sink.closed += 1


def counting(feed: Source, collected: Collected) -> ap.Graph:
    """A graph that counts the words of `feed` into `collected`."""
    with ap.Graph() as graph:
        words = Table(SourceNode(kind="source", definition={"type": "feed"}, columns=COLUMNS, source=feed))
        counts = words.groupby(ap.this.word).reduce(ap.this.word, count=ap.reducers.count())
        current_graph().add(
            SinkNode(kind="sink", definition={"type": "collected"}, inputs=(counts.node,), sink=collected)
        )
    return graph
