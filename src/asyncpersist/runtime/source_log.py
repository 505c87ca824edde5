"""The log of one source while a run goes on: its deltas since the last barrier, written ahead in bounded segments.

A segment is encoded and written as soon as it is large enough, while the dataflow goes on: so that memory stays
bounded, and little is left to be written at the barrier. It counts for nothing until a snapshot names it. What a
partition gave is found again here when it has to be taken back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import anyio.to_thread
import polars as pl
from anyio.abc import TaskGroup

from asyncpersist.checkpoint.manifest import ObjectRef
from asyncpersist.columnar import codec
from asyncpersist.columnar.delta import PART, Delta
from asyncpersist.runtime.snapshots import LogSegment

__all__ = ["LogStore", "SourceLog"]

_SEGMENT_BYTES = 32 << 20
"""Size in memory at which a segment is written without waiting for a barrier."""


class LogStore(Protocol):
    """Where the segments of logs lie."""

    def is_consolidated(self, stream: str) -> bool:
        """Whether neither ids nor epochs of a log matter to anyone, so that equal rows may become one."""

    async def put(self, part: LogSegment, epoch: int) -> ObjectRef:
        """Writes a segment, of deltas up to `epoch`."""

    async def get(self, ref: ObjectRef) -> bytes:
        """Reads one."""

    def named(self, stream: str) -> Sequence[ObjectRef]:
        """The objects of a log that no `SourceLog` has to remember, in order."""

    def reading(self) -> AbstractAsyncContextManager[object]:
        """While it is entered, nothing that is `named` is deleted."""


@dataclass(eq=False, slots=True)
class _Segment:
    last_epoch: int
    written: asyncio.Future[ObjectRef]


class SourceLog:
    """Used between epochs. Segments are written by tasks of `group`, where a failure fails the run."""

    def __init__(self, stream: str, store: LogStore, group: TaskGroup) -> None:
        self.stream = stream
        self._store = store
        self._group = group
        self._deltas: list[tuple[int, Delta]] = []
        self._size = 0
        self._segments: list[_Segment] = []
        self._cut: list[_Segment] = []

    def append(self, epoch: int, delta: Delta) -> None:
        """Takes what the source gave in an epoch."""
        if delta.is_empty():
            return
        self._deltas.append((epoch, delta))
        self._size += int(delta.rows.estimated_size())
        if self._size >= _SEGMENT_BYTES:
            self._write()

    def cut(self) -> list[asyncio.Future[ObjectRef]]:
        """At a barrier: the segments since the last one, in order, as they become written."""
        if self._deltas:
            self._write()
        self._cut, self._segments = self._segments, []
        return [segment.written for segment in self._cut]

    def committed(self) -> None:
        """Says that the store names what was cut last."""
        self._cut = []

    async def rows_of(self, part: int, since: int) -> AsyncGenerator[Delta, None]:
        """What is there of a part that was begun in the epoch `since`, the newest first, in pieces of bounded size.

        Rows may come with negative weights; taken away piece by piece, nothing that is there ever becomes negative.
        """
        async with self._store.reading():
            # What is logged from here on, the retraction among it, is not looked at.
            recent = [delta for _, delta in self._deltas]
            unnamed = [segment for segment in (*self._cut, *self._segments) if segment.last_epoch >= since]
            named = [ref for ref in self._store.named(self.stream) if ref.last_epoch >= since]
            if recent and (piece := await anyio.to_thread.run_sync(_only, recent, part)).height:
                yield piece
            for segment in reversed(unnamed):
                if (piece := await self._fetch(await segment.written, part)).height:
                    yield piece
            for ref in reversed(named):
                if (piece := await self._fetch(ref, part)).height:
                    yield piece

    async def _fetch(self, ref: ObjectRef, part: int) -> Delta:
        data = await self._store.get(ref)

        def rows() -> Delta:
            frame = codec.decode(data)
            return Delta.from_weighted(frame.filter(pl.col(PART) == part).drop(codec.EPOCH))

        return await anyio.to_thread.run_sync(rows)

    def _write(self) -> None:
        segment = LogSegment(self.stream, self._deltas, self._store.is_consolidated(self.stream))
        last_epoch = self._deltas[-1][0]
        self._deltas, self._size = [], 0
        written: asyncio.Future[ObjectRef] = asyncio.get_running_loop().create_future()
        self._segments.append(_Segment(last_epoch, written))
        self._group.start_soon(self._put, segment, last_epoch, written)

    async def _put(self, segment: LogSegment, last_epoch: int, written: asyncio.Future[ObjectRef]) -> None:
        written.set_result(await self._store.put(segment, last_epoch))


def _only(deltas: Sequence[Delta], part: int) -> Delta:
    found = [delta.weighted().filter(pl.col(PART) == part) for delta in deltas]
    return Delta.from_weighted(pl.concat(found))
