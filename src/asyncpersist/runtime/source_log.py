"""The log of one source while a run goes on: its deltas since the last barrier, written ahead in bounded segments.

A segment is encoded and written as soon as it is large enough, while the dataflow goes on: so that memory stays
bounded, and little is left to be written at the barrier. It counts for nothing until a snapshot names it. What a
partition gave is found again here when it has to be taken back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, field
from typing import Protocol

import anyio.to_thread
import polars as pl
from anyio.abc import TaskGroup

from asyncpersist.checkpoint.manifest import ObjectRef
from asyncpersist.columnar import codec
from asyncpersist.columnar.delta import PART, Delta, concat
from asyncpersist.runtime.snapshots import LogSegment

__all__ = ["LogStore", "SourceLog"]

_SEGMENT_BYTES = 32 << 20
"""Size in memory at which a segment is written without waiting for a barrier."""
_SMALL_ROWS = 4096
_MOST_SMALL = 256
"""So many small deltas in a row become one: each takes a kilobyte besides, and is looked at by every retraction."""


class LogStore(Protocol):
    """Where the segments of logs lie."""

    temporary: bool
    """Whether only what is there matters, so that what was taken back is dropped rather than logged."""

    def is_consolidated(self, stream: str) -> bool:
        """Whether neither ids nor epochs of a log matter to anyone, so that equal rows may become one."""

    async def put(self, part: LogSegment, epoch: int) -> ObjectRef:
        """Writes a segment, of deltas up to `epoch`."""

    async def get(self, ref: ObjectRef) -> bytes:
        """Reads one."""

    def named(self, stream: str) -> Sequence[ObjectRef]:
        """The objects of a log that no `SourceLog` has to remember, in order."""

    async def delete(self, ref: ObjectRef) -> None:
        """Deletes a segment of a temporary store."""

    def reading(self) -> AbstractAsyncContextManager[object]:
        """While it is entered, nothing that is `named` is deleted."""


@dataclass(eq=False, slots=True)
class _Segment:
    last_epoch: int
    written: asyncio.Future[ObjectRef]
    dropped: set[int] = field(default_factory=set)
    dropped_rows: int = 0


class SourceLog:
    """Used between epochs. Segments are written by tasks of `group`, where a failure fails the run."""

    def __init__(self, stream: str, store: LogStore, group: TaskGroup) -> None:
        self.stream = stream
        self._store = store
        self._group = group
        self._deltas: list[tuple[int, Delta]] = []
        self._size = self._small = 0
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
            return
        self._small = self._small + 1 if delta.height < _SMALL_ROWS else 0
        if self._small == _MOST_SMALL and self._store.is_consolidated(self.stream):
            whole = concat([delta for _, delta in self._deltas[-_MOST_SMALL:]])
            self._deltas[-_MOST_SMALL:] = [(epoch, Delta(whole.rows.rechunk(), whole.weights))]
            self._small = 0

    def supersede(self) -> None:
        """Says that what the store names is replaced by what is appended from now on."""
        raise NotImplementedError

    def cut(self) -> list[asyncio.Future[ObjectRef]]:
        """At a barrier: the segments since the last one, in order, as they become written."""
        if self._deltas:
            self._write()
        self._cut, self._segments = self._segments, []
        return [segment.written for segment in self._cut]

    def committed(self) -> None:
        """Says that the store names what was cut last."""
        self._cut = []

    async def rows_of(self, parts: set[int], since: int) -> AsyncGenerator[Delta, None]:
        """What is there of parts, the oldest begun in the epoch `since`: the newest first, in pieces of bounded size.

        Rows may come with negative weights; taken away piece by piece, nothing that is there ever becomes negative.
        """
        async with self._store.reading():
            # What is logged from here on, the retraction among it, is not looked at.
            recent = [delta for _, delta in self._deltas]
            unnamed = [segment for segment in (*self._cut, *self._segments) if segment.last_epoch >= since]
            named = [ref for ref in self._store.named(self.stream) if ref.last_epoch >= since]
            if recent and (piece := await anyio.to_thread.run_sync(_only, recent, parts)).height:
                yield piece
            for segment in reversed(unnamed):
                if (piece := await self._fetch(await segment.written, parts)).height:
                    segment.dropped_rows += piece.height
                    yield piece
            for ref in reversed(named):
                if (piece := await self._fetch(ref, parts)).height:
                    yield piece

    async def retract(self, epoch: int, parts: set[int], since: int) -> AsyncGenerator[Delta, None]:
        """What takes back all of some parts, in pieces of bounded size; logged, or dropped from a temporary log."""
        async with aclosing(self.rows_of(parts, since)) as pieces:
            async for piece in pieces:
                assert piece.weights is not None
                taken_back = Delta(piece.rows, -piece.weights)
                if not self._store.temporary:
                    self.append(epoch, taken_back)
                yield taken_back
        if self._store.temporary:
            await self._drop(parts)

    async def _drop(self, parts: set[int]) -> None:
        """Forgets parts whose rows were all taken back. Segments that are half of such rows are written anew."""
        deltas = await anyio.to_thread.run_sync(_without, self._deltas, parts)
        self._small = 0
        self._deltas, self._size = deltas, sum(int(delta.rows.estimated_size()) for _, delta in deltas)
        for segment in list(self._segments):
            segment.dropped |= parts
            ref = await segment.written
            if 2 * segment.dropped_rows <= ref.rows:
                continue
            rest = await anyio.to_thread.run_sync(_remaining, await self._store.get(ref), segment.dropped)
            await self._store.delete(ref)
            self._segments.remove(segment)
            if rest.height:
                self._deltas.insert(0, (segment.last_epoch, rest))
                self._size += int(rest.rows.estimated_size())
        if self._size >= _SEGMENT_BYTES:
            self._write()

    async def _fetch(self, ref: ObjectRef, parts: set[int]) -> Delta:
        data = await self._store.get(ref)

        def rows() -> Delta:
            frame = codec.decode(data)
            return Delta.from_weighted(frame.filter(pl.col(PART).is_in(list(parts))).drop(codec.EPOCH))

        return await anyio.to_thread.run_sync(rows)

    def _write(self) -> None:
        segment = LogSegment(self.stream, self._deltas, self._store.is_consolidated(self.stream))
        last_epoch = self._deltas[-1][0]
        self._deltas, self._size, self._small = [], 0, 0
        written: asyncio.Future[ObjectRef] = asyncio.get_running_loop().create_future()
        self._segments.append(_Segment(last_epoch, written))
        self._group.start_soon(self._put, segment, last_epoch, written)

    async def _put(self, segment: LogSegment, last_epoch: int, written: asyncio.Future[ObjectRef]) -> None:
        written.set_result(await self._store.put(segment, last_epoch))


def _without(deltas: Sequence[tuple[int, Delta]], parts: set[int]) -> list[tuple[int, Delta]]:
    kept = [(epoch, Delta.from_weighted(d.weighted().filter(~pl.col(PART).is_in(list(parts))))) for epoch, d in deltas]
    return [(epoch, delta) for epoch, delta in kept if delta.height]


def _remaining(data: bytes, dropped: set[int]) -> Delta:
    return Delta.from_weighted(codec.decode(data).filter(~pl.col(PART).is_in(list(dropped))).drop(codec.EPOCH))


def _only(deltas: Sequence[Delta], parts: set[int]) -> Delta:
    found = [delta.weighted().filter(pl.col(PART).is_in(list(parts))) for delta in deltas]
    return Delta.from_weighted(pl.concat(found))
