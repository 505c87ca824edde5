"""The log of one source while a run goes on: its deltas since the last barrier, written ahead in bounded segments.

A segment is encoded and written as soon as it is large enough, while the dataflow goes on: so that memory stays
bounded, and little is left to be written at the barrier. It counts for nothing until a snapshot names it.
"""

from __future__ import annotations

import asyncio

from anyio.abc import TaskGroup

from asyncpersist.checkpoint.manifest import ObjectRef
from asyncpersist.columnar.delta import Delta
from asyncpersist.runtime.snapshots import LogSegment, Snapshots

__all__ = ["SourceLog"]

_SEGMENT_BYTES = 32 << 20
"""Size in memory at which a segment is written without waiting for a barrier."""


class SourceLog:
    """Used between epochs. Segments are written by tasks of `group`, where a failure fails the run."""

    def __init__(self, stream: str, snapshots: Snapshots, group: TaskGroup) -> None:
        self.stream = stream
        self._snapshots = snapshots
        self._group = group
        self._deltas: list[tuple[int, Delta]] = []
        self._size = 0
        self._segments: list[asyncio.Future[ObjectRef]] = []

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
        segments, self._segments = self._segments, []
        return segments

    def _write(self) -> None:
        consolidated = self.stream in self._snapshots.consolidated_logs
        segment = LogSegment(self.stream, self._deltas, consolidated)
        self._deltas, self._size = [], 0
        written: asyncio.Future[ObjectRef] = asyncio.get_running_loop().create_future()
        self._segments.append(written)
        self._group.start_soon(self._put, segment, written)

    async def _put(self, segment: LogSegment, written: asyncio.Future[ObjectRef]) -> None:
        written.set_result(await self._snapshots.put(segment, segment.deltas[-1][0]))
