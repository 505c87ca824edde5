"""Writing and committing what was captured at a barrier, while the dataflow goes on.

A snapshot that the store refuses is not given up but tried again, with the same objects, until it is known to be
committed or lost: nothing captured is ever dropped, and what is touched meanwhile waits for the next capture.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from asyncpersist.checkpoint.answers import Answers
from asyncpersist.checkpoint.caches import uncached
from asyncpersist.checkpoint.manifest import LogFacts, Manifest, ObjectRef
from asyncpersist.checkpoint.packing import SMALL, packs
from asyncpersist.checkpoint.root import Piece, Root
from asyncpersist.checkpoint.tiers import plan_merges
from asyncpersist.clock import Clock
from asyncpersist.columnar import codec
from asyncpersist.columnar.log_merging import Merged, merge_log
from asyncpersist.errors import AsyncPersistError, DamagedState, Fenced, StoreUnavailable
from asyncpersist.runtime.cache_log import CacheLog
from asyncpersist.runtime.caches import Caches
from asyncpersist.runtime.log_book import Job, LogBook, Replacement
from asyncpersist.runtime.log_plans import Bounds
from asyncpersist.runtime.log_rule import LogRule
from asyncpersist.runtime.segments import Capture, Encoded, LogSegment, StateSegment
from asyncpersist.runtime.store_calls import StoreCalls

__all__ = ["Snapshots"]

logger = logging.getLogger("asyncpersist")

_T = TypeVar("_T")

_ENCODERS = 1
"""At once: with more, what has to be stepped and whoever uses the loop wait for a processor."""
_GIVING_UP = 5.0


class Snapshots:
    """The objects that make up the newest snapshot of a run, and how the next one comes about.

    One snapshot is written at a time. It is the `LogStore` of a run with a root. `streams`: what the head holds of
    those that go on, save for caches, which always do. `rules`: by stream, how each log is kept. `facts`: by source,
    what is known of its log. `caches`: those of this run; what is new in them is part of every commit.
    """

    temporary = False

    def __init__(
        self,
        root: Root,
        *,
        graph: Mapping[str, Any],
        mode: str,
        access: str,
        streams: Mapping[str, Sequence[ObjectRef]],
        rules: Mapping[str, LogRule],
        facts: Mapping[str, LogFacts],
        bounds: Bounds | None = None,
        compression: codec.Compression,
        clock: Clock,
        caches: Caches | None = None,
    ) -> None:
        assert root.head is not None, "a root is claimed before snapshots are written"
        self._root = root
        self._graph = dict(graph)
        self._mode = mode
        self._access = access
        self._book = LogBook(rules, facts, bounds or Bounds())
        self._writing = asyncio.Lock()
        """Held while what is named changes, so that nobody plans with what it was."""
        self._reading = asyncio.Lock()
        self.compression = compression
        self._clock = clock
        self.calls = StoreCalls(root.store, clock)
        self._encoders = anyio.CapacityLimiter(_ENCODERS)
        self._streams = uncached(streams)
        self._caches = CacheLog(root, caches, calls=self.calls, compression=compression)
        self._state_bytes = 0
        self.log_bytes = 0
        self.committed = asyncio.Event()
        """Set whenever a snapshot is."""

    @property
    def state_bytes(self) -> int:
        """How many were written of state and of caches."""
        return self._state_bytes + self._caches.bytes

    @property
    def keeps_caches(self) -> bool:
        """Whether this run has caches, so that `write_caches` may find something."""
        return self._caches.active

    def end_within(self, seconds: float, *, cut: bool) -> None:
        """Says that the run ends: from then on an unavailable store is an error; with `cut` one that is slow, too."""
        self.calls.end_within(seconds, cut=cut)

    @property
    def deadline(self) -> float | None:
        """Seconds on the monotonic clock after which an unavailable store is an error."""
        return self.calls.deadline

    @deadline.setter
    def deadline(self, deadline: float | None) -> None:
        self.calls.deadline = deadline

    async def write(self, capture: Capture, *, committed: Callable[[], None], keep: str | None = None) -> Manifest:
        """Makes `capture` durable and returns its manifest; `committed` is called as soon as its objects are `named`.

        `keep`: a name by which the snapshot is kept.

        The store is asked again while it is unavailable, until `deadline` if there is one. Raises `StoreUnavailable`
        then, and `Fenced` if another run has taken the root.
        """
        added = await self._put_states(capture.states, capture.epoch)
        logs = {stream: [await segment for segment in cut.segments] for stream, cut in capture.logs.items()}
        keys = {segment.stream: segment.key for segment in capture.states}
        complete = {segment.stream for segment in capture.states if segment.increment.complete}
        await self._caches.put()
        async with self._writing:
            streams = dict(self._streams)
            for stream, refs in added.items():
                before = [] if stream in complete else streams.get(stream, [])
                streams[stream], merged = await self._merged([*before, *refs], stream, keys[stream])
                self._root.discard(merged)
            for stream, refs in logs.items():
                starts = capture.logs[stream].complete
                self._root.discard(self._book.extend(stream, refs, complete=starts))
                streams[stream] = [*([] if starts else streams.get(stream, [])), *refs]
            self._splice(streams)
            for stream in logs:
                streams[stream] = await self._merged_inline(streams[stream], stream)
            positions = {identity: dict(await answer) for identity, answer in capture.positions.items()}
            manifest = await self._commit(capture.epoch, streams, positions, dict(capture.progress), keep=keep)
            committed()
        await self._delete(self._root.collect)
        return manifest

    async def rewrite(self) -> Manifest | None:
        """Commits the head's content with what takes the place of objects of logs; None if nothing does.

        Not while a `write` goes on. Raises as that does.
        """
        async with self._writing:
            head = self._root.head
            assert head is not None
            streams = dict(self._streams)
            if not self._splice(streams):
                return None
            sinks = {identity: position for identity, position in head.sinks.items() if identity in self._graph}
            manifest = await self._commit(head.epoch, streams, sinks, head.progress)
        await self._delete(self._root.collect)
        return manifest

    def _splice(self, streams: dict[str, list[ObjectRef]]) -> bool:
        """Puts what waits for it into `streams`; whether anything did."""
        waiting = self._book.waiting
        for stream in waiting:
            streams[stream], gone = self._book.splice(stream, streams[stream])
            self._root.discard(gone)
        return bool(waiting)

    async def _commit(
        self,
        epoch: int,
        streams: dict[str, list[ObjectRef]],
        sinks: Mapping[str, Mapping[str, Any]],
        progress: Mapping[str, Any],
        *,
        keep: str | None = None,
    ) -> Manifest:
        logs = dict(self._book.facts)
        cached, answered, merged = await self._cached()
        caches = self._caches.book.facts()

        async def commit() -> Manifest:
            return await self._root.commit(
                epoch=epoch,
                streams={**streams, **cached},
                sinks=sinks,
                graph=self._graph,
                progress=progress,
                logs=logs,
                mode=self._mode,
                access=self._access,
                keep=keep,
                caches=caches,
                answered=answered,
            )

        manifest = await self.calls.insist(commit)
        self._root.discard(merged)
        self._streams = streams
        self.committed.set()
        return manifest

    # caches

    async def adopt(self) -> list[Answers]:
        """What earlier runs wrote of answers and did not come to name, in the order in which they apply: the next
        commit does. To be called before anything is written. Raises `StoreUnavailable`."""
        return await self._caches.adopt()

    async def put_answers(self, capture: Callable[[], Sequence[StateSegment]]) -> None:
        """Makes what is new in some caches durable, at once; the next commit names it. As `CacheLog.put`."""
        await self._caches.put(capture)

    async def write_caches(self) -> Manifest | None:
        """Commits the head's content with what is new in caches; None if nothing is. At any time, also beside an epoch.

        It is no snapshot: it does not count as one for retention. Raises as `write` does.
        """
        await self._caches.put()
        async with self._writing:
            cached, answered, merged = await self._cached()
            assert self._root.head is not None
            if not self._caches.book.unnamed(self._root.head):
                return None
            facts = self._caches.book.facts()
            manifest = await self.calls.insist(
                lambda: self._root.commit_caches(cached, caches=facts, answered=answered)
            )
            self._root.discard(merged)
        await self._delete(self._root.collect)
        return manifest

    async def _cached(self) -> tuple[dict[str, list[ObjectRef]], int, list[ObjectRef]]:
        """What the next manifest names of caches, up to which serial that has this run's answers, and what was merged:
        to be discarded once that is committed, as answers that nothing names are good until then."""
        # What is in doubt may name some of it.
        await self.calls.insist(self._root.settle)
        assert self._root.head is not None
        streams, keys, answered = self._caches.book.streams(self._root.head)
        gone: list[ObjectRef] = []
        for stream, key in keys.items():
            streams[stream], merged = await self._merged(streams[stream], stream, key)
            gone += merged
        return streams, answered, gone

    async def sweep(self) -> None:
        """Deletes what earlier runs left lying about; before the first `write`, while the dataflow goes on.

        Best effort. Raises `Fenced`.
        """
        await self._delete(self._root.sweep)

    async def _delete(self, call: Callable[[], Awaitable[int]]) -> None:
        try:
            async with self._reading:
                await self.calls.cuttable(call)
        except StoreUnavailable as exc:
            logger.warning("%s; what is no longer needed will be deleted later", exc)

    async def put(self, part: StateSegment | LogSegment, epoch: int) -> ObjectRef:
        """Encodes and writes one object of the snapshot after the head, of state as it was at `epoch`.

        It counts for nothing until a `write` names it. Raises `StoreUnavailable` as `write` does.
        """
        encoded = await self._encode(part)
        ref = (await self._put({part.stream: self._piece(encoded, epoch)}))[part.stream]
        if isinstance(part, LogSegment):
            self._book.wrote(ref, encoded.retracted)
        return ref

    async def _put_states(self, segments: Sequence[StateSegment], epoch: int) -> dict[str, list[ObjectRef]]:
        refs: dict[str, ObjectRef] = {}
        small: dict[str, Piece] = {}

        async def encode(segment: StateSegment) -> None:
            piece = self._piece(await self._encode(segment), epoch)
            if len(piece.data) > SMALL:
                await put({segment.stream: piece})
            else:
                small[segment.stream] = piece

        async def put(pieces: Mapping[str, Piece]) -> None:
            refs.update(await self._put(pieces))

        async with anyio.create_task_group() as group:
            for segment in segments:
                group.start_soon(encode, segment)
        async with anyio.create_task_group() as group:
            items = list(small.items())
            for positions in packs([len(piece.data) for piece in small.values()]):
                group.start_soon(put, dict(items[position] for position in positions))
        return {stream: [ref] for stream, ref in refs.items()}

    async def _encode(self, part: StateSegment | LogSegment) -> Encoded:
        return await self.in_thread(lambda: part.encode(self.compression))

    def _piece(self, encoded: Encoded, epoch: int) -> Piece:
        first = min(epoch, self._root.head.epoch + 1 if self._root.head else 0)
        return Piece(
            data=encoded.data, rows=encoded.rows, first_epoch=first, last_epoch=epoch, compacted=encoded.compacted
        )

    async def in_thread(self, work: Callable[[], _T]) -> _T:
        """Does what takes a processor, one thing at a time."""
        return await anyio.to_thread.run_sync(work, limiter=self._encoders)

    async def _put(self, pieces: Mapping[str, Piece]) -> dict[str, ObjectRef]:
        """Writes pieces of streams as one object."""
        refs = await self.calls.insist(lambda: self._root.put(*pieces.values()))
        for stream, piece in pieces.items():
            self._count(stream, len(piece.data))
        return dict(zip(pieces, refs, strict=True))

    async def get(self, ref: ObjectRef) -> bytes:
        """Reads and verifies an object. Raises `DamagedState`, and `StoreUnavailable` and `Fenced` as `write` does."""
        try:
            return await self.calls.insist(lambda: self._root.get(ref))
        except DamagedState:
            # Whoever took the root over deletes what this run has written and not committed.
            with contextlib.suppress(StoreUnavailable):
                await self._root.confirm()
            raise

    async def delete(self, ref: ObjectRef) -> None:
        """Never asked for: what no snapshot names any more is collected."""
        raise NotImplementedError

    def named(self, stream: str) -> Sequence[ObjectRef]:
        """The objects of a stream in the newest snapshot, in the order in which they apply."""
        return self._streams.get(stream, [])

    def reading(self) -> AbstractAsyncContextManager[object]:
        """While it is entered, nothing that is `named` is deleted."""
        return self._reading

    async def release(self) -> None:
        """Commits that the run has ended cleanly, and before that what is new in caches. Raises as `write` does."""
        await self.write_caches()
        await self.calls.insist(self._root.release)

    async def give_up(self, *, clean: bool = False) -> None:
        """The end of a run that failed: releases the root, and deletes what the run wrote and never committed. What
        functions had answered is committed before that.

        To be called when nothing of the run writes any more, outputs neither. `clean`: outputs hold nothing beyond what
        is committed. Best effort: raises nothing, and takes no longer than until `deadline` (5 seconds if there is
        none), also when the caller is cancelled. A run that is fenced or has released its root, and one whose last
        commit stays in doubt, commits nothing. The run has ended then, in any case.
        """
        now = self._clock.monotonic()
        if self.deadline is None:
            self.deadline = now + _GIVING_UP
        try:
            if self._root.claimed:
                with anyio.move_on_after(max(0.0, self.deadline - now), shield=True):
                    await self._keep_answers()
                    await self.calls.insist(lambda: self._root.release(clean=clean))
        except Fenced:
            return
        except AsyncPersistError as exc:
            logger.warning("%s; what this run wrote and did not commit will be deleted by a later run", exc)
        finally:
            self._root.abandon()

    async def _keep_answers(self) -> None:
        try:
            await self.write_caches()
        except Fenced:
            raise
        except Exception as exc:
            logger.warning("%s; what functions answered last may be asked for again by the next run", exc)

    async def _merged(
        self, refs: list[ObjectRef], stream: str, key: tuple[str, ...]
    ) -> tuple[list[ObjectRef], list[ObjectRef]]:
        """The objects of a stream after what is due was merged, and those that were."""
        gone: list[ObjectRef] = []
        while (span := plan_merges([ref.length for ref in refs])) is not None:
            parts = await asyncio.gather(*(self.get(ref) for ref in refs[span]))

            def merge(parts: Sequence[bytes] = parts, whole: bool = span.start == 0) -> tuple[bytes, int]:
                merged = codec.merge_state(parts, key, drop_tombstones=whole)
                return merged, codec.decode(merged).height

            data, rows = await anyio.to_thread.run_sync(merge)
            first, last = refs[span][0].first_epoch, refs[span][-1].last_epoch
            piece = Piece(data=data, rows=rows, first_epoch=first, last_epoch=last)
            merged = (await self._put({stream: piece}))[stream]
            gone += refs[span]
            refs = [*refs[: span.start], merged, *refs[span.stop :]]
        return refs, gone

    async def _merged_inline(self, refs: list[ObjectRef], stream: str) -> list[ObjectRef]:
        while (job := self._book.inline(stream, refs)) is not None:
            (span,) = job.spans
            parts = await asyncio.gather(*map(self.get, span))

            def merge(parts: Sequence[bytes] = parts, job: Job = job) -> Merged:
                return merge_log(parts, job.counting, whole=job.whole, compression=self.compression)

            merged = await self.in_thread(merge)
            new = await self.put_log(stream, span, merged.data, job.rows - merged.saved, compacted=merged.compacted)
            refs = self._book.spliced(Replacement(stream, span, (new,), merged.retracted), refs)
            self._root.discard(span)
        return refs

    # what keeps logs small meanwhile

    async def begin_job(self) -> Job | None:
        """What is due for a log, with regard to what already waits to be named; until `end_job` nobody else touches
        its objects, and none of them is deleted."""
        async with self._writing:
            return self._book.begin(self._streams)

    def end_job(self, job: Job, *, settled: int | None = None, left: bool = False) -> None:
        """As `LogBook.end`."""
        self._book.end(job, settled=settled, left=left)

    def holds(self, job: Job) -> bool:
        """Whether the objects of a job are still those of the log: it may have begun anew."""
        return self._book.holds(job, self.named(job.stream))

    async def put_log(
        self, stream: str, span: Sequence[ObjectRef], data: bytes, rows: int, *, compacted: bool
    ) -> ObjectRef:
        """Writes an object that says what those of a `span` say, or a part of it. Raises `StoreUnavailable`."""
        piece = Piece(
            data=data,
            rows=rows,
            first_epoch=min(ref.first_epoch for ref in span),
            last_epoch=max(ref.last_epoch for ref in span),
            compacted=compacted or any(ref.compacted for ref in span),
        )
        return (await self._put({stream: piece}))[stream]

    async def replace(self, replacement: Replacement) -> None:
        """Has objects take the place of others in the next snapshot, if those are still of the log by then."""
        async with self._writing:
            if not self._book.replace(replacement, self.named(replacement.stream)):
                self.discard(replacement.new)

    def discard(self, refs: Iterable[ObjectRef]) -> None:
        """Says that no snapshot will name these objects."""
        self._root.discard(refs)

    def _count(self, stream: str, size: int) -> None:
        if stream.startswith("log/"):
            self.log_bytes += size
        else:
            self._state_bytes += size
