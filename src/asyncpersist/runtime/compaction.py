"""What keeps logs small while a run goes on: objects are merged, and compacted to the rows that still count.

Off the hot path: it reads what the newest snapshot names, works in a thread, one thing at a time, and what comes out
takes its place in the next snapshot. Nothing depends on it: what fails is left as it was, and what is not finished when
the run is stopped is thrown away.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread

from asyncpersist.checkpoint.manifest import ObjectRef
from asyncpersist.columnar.log_merging import Counting, LogMerge, Merged, MissingColumns, left_of
from asyncpersist.errors import DamagedState, StoreUnavailable
from asyncpersist.runtime.disk_merging import DiskMerge, Made
from asyncpersist.runtime.log_book import Job, Replacement
from asyncpersist.runtime.log_plans import Bounds
from asyncpersist.runtime.overflow import Overflow
from asyncpersist.runtime.scratch import Scratch
from asyncpersist.runtime.snapshots import Snapshots

__all__ = ["Compaction"]

logger = logging.getLogger("asyncpersist")

Span = tuple[ObjectRef, ...]

_WORTH = 0.75
"""The share of rows that may remain for a compaction to pay."""
_BUCKET = 1 << 20
"""Bytes of files for each of which there is a bucket, within `_BUCKETS`."""
_BUCKETS = (16, 1024)
_END = object()


class Compaction:
    """Of the logs of one run. `scratch`: for what is too large for memory."""

    def __init__(self, snapshots: Snapshots, scratch: Scratch, *, bounds: Bounds | None = None) -> None:
        self._snapshots = snapshots
        self._scratch = scratch
        self._bounds = bounds or Bounds()
        self._working = asyncio.Lock()
        self._count = itertools.count()

    async def run(self) -> None:
        """Does what is due after each snapshot; ends where it may no longer, else never. Raises `Fenced`."""
        while True:
            await self._snapshots.committed.wait()
            self._snapshots.committed.clear()
            if not await self._catch_up():
                return

    async def finish(self) -> None:
        """At the end of the input, when the last snapshot is written: does what is due, and commits it.

        So that a log stays small over runs that all end soon. How much there is to do is in proportion to what came
        since it was done last; a run that is stopped meanwhile leaves it. Raises `Fenced`.
        """
        try:
            with self._snapshots.calls.time_out():
                await self._catch_up()
            await self._snapshots.rewrite()
        except StoreUnavailable as exc:
            logger.warning("%s; logs will be compacted by a later run", exc)

    async def _catch_up(self) -> bool:
        """Does all that is due; whether that was possible."""
        with self._snapshots.calls.tidying():
            async with self._working:
                try:
                    while (job := await self._snapshots.begin_job()) is not None:
                        await self._carry_out(job)
                except StoreUnavailable as exc:
                    logger.warning("%s; logs will be compacted by a later run", exc)
                    return False
                return True
        return False

    async def _carry_out(self, job: Job) -> None:
        settled: int | None = None
        left = True
        try:
            if job.compacts:
                settled = await self._compact(job)
            else:
                await self._merge(job)
            left = False
        except MissingColumns:
            # Where that matters to somebody, the log is rewritten as a whole.
            logger.debug("%s holds parts of an older schema, and is not compacted", job.stream)
        except (StoreUnavailable, asyncio.CancelledError):
            left = False
            raise
        except (DamagedState, OSError, ValueError) as exc:
            # One that began anew meanwhile may be deleted already.
            left = self._snapshots.holds(job)
            if left:
                logger.warning("%s cannot be compacted, and stays as it is in this run: %s", job.stream, exc)
        finally:
            self._snapshots.end_job(job, settled=settled, left=left)

    async def _merge(self, job: Job) -> None:
        (span,) = job.spans
        merge = LogMerge(job.counting, whole=job.whole, compression=self._snapshots.compression)
        merged = await self._merged(merge, span)
        made = Made(merged.data, job.rows - merged.saved, merged.retracted)
        async with self._replacing(job.stream, span) as new:
            new.refs.append(await self._put(job.stream, span, made, compacted=merged.compacted))
            new.retracted = merged.retracted

    async def _compact(self, job: Job) -> int:
        """Returns how many rows there are afterwards."""
        counting = job.counting
        assert counting is not None
        if not job.sure and not await self._promises(job, counting):
            return job.rows
        rows = 0
        for span in job.spans:
            whole = job.whole and span is job.spans[0]
            if sum(ref.length for ref in span) <= self._bounds.memory:
                rows += await self._compact_in_memory(job, span, counting, whole=whole)
            else:
                rows += await self._compact_over_disk(job, span, counting, whole=whole)
        return rows

    async def _promises(self, job: Job, counting: Counting) -> bool:
        """Whether two objects of what is too much to just try it say that a quarter of the rows is saved."""
        span = max(job.spans, key=lambda span: sum(ref.length for ref in span))
        if len(span) < 2 or sum(ref.length for ref in span) <= self._bounds.memory:
            return True
        first, second = span[0], max(span[1:], key=lambda ref: ref.length)
        one, other = await self._snapshots.get(first), await self._snapshots.get(second)
        rows = sum(ref.rows for ref in span)
        return await self._snapshots.in_thread(lambda: left_of(one, other, rows, counting)) <= _WORTH

    async def _compact_in_memory(self, job: Job, span: Span, counting: Counting, *, whole: bool) -> int:
        before = sum(ref.rows for ref in span)
        merge = LogMerge(counting, whole=whole, always=True, compression=self._snapshots.compression)
        merged = await self._merged(merge, span)
        rows = before - merged.saved
        if not job.sure and rows > _WORTH * before:
            return before
        async with self._replacing(job.stream, span) as new:
            if rows:
                made = Made(merged.data, rows, merged.retracted)
                new.refs.append(await self._put(job.stream, span, made, compacted=True))
            new.retracted = merged.retracted
        return rows

    async def _compact_over_disk(self, job: Job, span: Span, counting: Counting, *, whole: bool) -> int:
        buckets = min(max(sum(ref.length for ref in span) // _BUCKET, _BUCKETS[0]), _BUCKETS[1])
        directory = await self._scratch.directory()
        overflow = Overflow(directory, f"{next(self._count)}-log", by=counting.by, buckets=buckets)
        merge = DiskMerge(
            overflow, counting, whole=whole, base=self._bounds.base, compression=self._snapshots.compression
        )
        try:
            await self._feed(merge, span)
            rows = 0
            async with self._replacing(job.stream, span) as new:
                new.retracted = merge.retracted
                making = functools.partial(next, merge.made(), _END)
                while (made := await self._snapshots.in_thread(making)) is not _END:
                    if isinstance(made, Made):
                        new.refs.append(await self._put(job.stream, span, made, compacted=True))
                        new.retracted -= made.retracted
                        rows += made.rows
            return rows
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(overflow.remove)

    async def _merged(self, merge: LogMerge, span: Span) -> Merged:
        await self._feed(merge, span)
        return await self._snapshots.in_thread(merge.finish)

    async def _feed(self, merge: LogMerge | DiskMerge, span: Span) -> None:
        for ref in span:
            adding = functools.partial(next, merge.add(await self._snapshots.get(ref)), _END)
            while await self._snapshots.in_thread(adding) is not _END:
                pass

    async def _put(self, stream: str, span: Span, made: Made, *, compacted: bool) -> ObjectRef:
        return await self._snapshots.put_log(stream, span, made.data, made.rows, compacted=compacted)

    @asynccontextmanager
    async def _replacing(self, stream: str, span: Span) -> AsyncIterator[_New]:
        """What is put meanwhile takes the place of `span`; where that does not come to its end, nothing does."""
        new = _New()
        try:
            yield new
            await self._snapshots.replace(Replacement(stream, span, tuple(new.refs), new.retracted))
        except BaseException:
            self._snapshots.discard(new.refs)
            raise


class _New:
    """Objects, and how many fewer rows of negative weight they hold."""

    def __init__(self) -> None:
        self.refs: list[ObjectRef] = []
        self.retracted = 0
