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
from typing import Literal, Protocol

import anyio.to_thread
import polars as pl
from anyio.abc import TaskGroup

from asyncpersist.checkpoint.manifest import ObjectRef
from asyncpersist.columnar import codec
from asyncpersist.columnar.delta import PART, WEIGHT, Delta, concat
from asyncpersist.runtime.log_rule import LogRule
from asyncpersist.runtime.segments import LogCut, LogSegment

__all__ = ["LogStore", "SourceLog"]

_SEGMENT_BYTES = 32 << 20
"""Size in memory at which a segment is written without waiting for a barrier."""
_SMALL_BYTES = 4096
_MOST_SMALL = 256
"""So many small deltas in a row become one, under their epochs: each takes a kilobyte besides, and is looked at by
every retraction."""


class LogStore(Protocol):
    """Where the segments of logs lie."""

    temporary: bool
    """Whether only what is there matters, so that what was taken back is dropped rather than logged."""

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
    """Used between epochs. Segments are written by tasks of `group`, where a failure fails the run.

    `unseen`: operators never saw what is of the epoch `rule.apart` or older, so that it is taken back without a word to
    them.
    """

    def __init__(self, stream: str, store: LogStore, group: TaskGroup, rule: LogRule, *, unseen: bool = False) -> None:
        self.stream = stream
        self._store = store
        self._group = group
        self._rule = rule
        self._unseen = unseen
        self._deltas: list[tuple[codec.Runs, Delta]] = []
        self._size = self._small = 0
        self._segments: list[_Segment] = []
        self._cut: list[_Segment] = []
        self._begun_anew: Literal["no", "uncut", "cut"] = "no"

    def supersede(self) -> None:
        """Says that what is appended from here on takes the place of all that was named before.

        Before anything is appended. All that the log is to hold has to be appended before the next `cut`.
        """
        if self._deltas or self._segments:
            raise RuntimeError("a log begins anew only where nothing was appended since the last barrier")
        self._begun_anew = "uncut"

    def append(self, epoch: int, delta: Delta) -> None:
        """Takes what the source gave in an epoch."""
        if delta.is_empty():
            return
        self._deltas.append(([(epoch, delta.height)], delta))
        size = int(delta.rows.estimated_size())
        self._size += size
        if self._size >= _SEGMENT_BYTES:
            self._write()
            return
        self._small = self._small + 1 if size < _SMALL_BYTES else 0
        if self._small == _MOST_SMALL:
            self._deltas[-_MOST_SMALL:] = [_one(self._deltas[-_MOST_SMALL:])]
            self._small = 0

    def seal(self) -> None:
        """What was appended so far lies in other segments than what comes."""
        if self._deltas:
            self._write()

    def cut(self) -> LogCut:
        """At a barrier: the segments since the last one, in order, as they become written."""
        self.seal()
        self._cut, self._segments = self._segments, []
        complete = self._begun_anew == "uncut"
        self._begun_anew = "cut" if complete else self._begun_anew
        return LogCut([segment.written for segment in self._cut], complete)

    def committed(self) -> None:
        """Says that the store names what was cut last."""
        self._cut = []
        self._begun_anew = "no" if self._begun_anew == "cut" else self._begun_anew

    async def rows_of(self, parts: set[int], since: int) -> AsyncGenerator[Delta, None]:
        """What is there of parts, the oldest begun in the epoch `since`: the newest first, in pieces of bounded size.

        The columns are those of the rule. Rows may come with negative weights; taken away piece by piece, nothing that
        is there ever becomes negative.
        """
        async with aclosing(self._pieces(parts, since)) as pieces:
            async for _, piece in pieces:
                yield piece

    async def retract(self, epoch: int, parts: set[int], since: int) -> AsyncGenerator[Delta, None]:
        """What takes back all of some parts, in pieces of bounded size; logged, or dropped from a temporary log."""
        async with aclosing(self._pieces(parts, since)) as pieces:
            async for last_epoch, piece in pieces:
                assert piece.weights is not None
                taken_back = Delta(piece.rows, -piece.weights)
                if not self._store.temporary:
                    self.append(epoch, taken_back)
                if not self._unseen or last_epoch > self._rule.apart:
                    yield taken_back
        if self._store.temporary:
            await self._drop(parts)

    async def _pieces(self, parts: set[int], since: int) -> AsyncGenerator[tuple[int, Delta], None]:
        """The rows of parts, as in `rows_of`, with the last epoch of the object they lie in."""
        async with self._store.reading():
            # What is logged from here on, the retraction among it, is not looked at.
            recent = list(self._deltas)
            unnamed = [segment for segment in (*self._cut, *self._segments) if segment.last_epoch >= since]
            named = self._store.named(self.stream) if self._begun_anew == "no" else ()
            named = [ref for ref in named if ref.last_epoch >= since]
            if recent:
                piece = await anyio.to_thread.run_sync(self._only, [delta.weighted() for _, delta in recent], parts)
                if piece.height:
                    yield recent[-1][0][-1][0], piece
            for segment in reversed(unnamed):
                async with aclosing(self._fetch(await segment.written, parts)) as pieces:
                    async for piece in pieces:
                        segment.dropped_rows += piece.height
                        yield segment.last_epoch, piece
            for ref in reversed(named):
                async with aclosing(self._fetch(ref, parts)) as pieces:
                    async for piece in pieces:
                        yield ref.last_epoch, piece

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
                self._deltas.insert(0, ([(segment.last_epoch, rest.height)], rest))
                self._size += int(rest.rows.estimated_size())
        if self._size >= _SEGMENT_BYTES:
            self._write()

    async def _fetch(self, ref: ObjectRef, parts: set[int]) -> AsyncGenerator[Delta, None]:
        """The rows of parts in an object, the newest first."""
        for file in reversed(codec.files(await self._store.get(ref))):

            def rows(file: memoryview = file) -> Delta:
                return self._only(list(codec.parts(file)), parts)

            if (piece := await anyio.to_thread.run_sync(rows)).height:
                yield piece

    def _only(self, frames: Sequence[pl.DataFrame], parts: set[int]) -> Delta:
        columns = [*self._rule.columns, WEIGHT]
        found = [rows for frame in frames if (rows := frame.filter(pl.col(PART).is_in(list(parts)))).height]
        # Older parts of a log may lack columns, but hold nothing then that is still asked for.
        return Delta.from_weighted(pl.concat([rows.select(columns) for rows in found] or [frames[0].clear()]))

    def _write(self) -> None:
        segment = LogSegment(self.stream, self._deltas, self._rule.repeats, self._begun_anew == "uncut")
        last_epoch = self._deltas[-1][0][-1][0]
        self._deltas, self._size, self._small = [], 0, 0
        written: asyncio.Future[ObjectRef] = asyncio.get_running_loop().create_future()
        self._segments.append(_Segment(last_epoch, written))
        self._group.start_soon(self._put, segment, last_epoch, written)

    async def _put(self, segment: LogSegment, last_epoch: int, written: asyncio.Future[ObjectRef]) -> None:
        written.set_result(await self._store.put(segment, last_epoch))


def _one(deltas: Sequence[tuple[codec.Runs, Delta]]) -> tuple[codec.Runs, Delta]:
    runs: codec.Runs = []
    for epoch, rows in (run for some, _ in deltas for run in some):
        if runs and runs[-1][0] == epoch:
            runs[-1] = (epoch, runs[-1][1] + rows)
        else:
            runs.append((epoch, rows))
    whole = concat([delta for _, delta in deltas])
    return runs, Delta(whole.rows.rechunk(), whole.weights)


def _without(deltas: Sequence[tuple[codec.Runs, Delta]], parts: set[int]) -> list[tuple[codec.Runs, Delta]]:
    """For a temporary log, where epochs matter to nobody."""
    kept = [
        (runs[-1][0], Delta.from_weighted(d.weighted().filter(~pl.col(PART).is_in(list(parts))))) for runs, d in deltas
    ]
    return [([(epoch, delta.height)], delta) for epoch, delta in kept if delta.height]


def _remaining(data: bytes, dropped: set[int]) -> Delta:
    return Delta.from_weighted(codec.decode(data).filter(~pl.col(PART).is_in(list(dropped))).drop(codec.EPOCH))
