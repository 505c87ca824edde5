"""Writing and committing what was captured at a barrier, while the dataflow goes on.

A snapshot that the store refuses is not given up but tried again, with the same objects, until it is known to be
committed or lost: nothing captured is ever dropped, and what is touched meanwhile waits for the next capture.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from asyncpersist.checkpoint.manifest import LogFacts, Manifest, ObjectRef
from asyncpersist.checkpoint.packing import SMALL, packs
from asyncpersist.checkpoint.root import Piece, Root
from asyncpersist.checkpoint.tiers import LOG, STATE, plan_merges
from asyncpersist.clock import Clock
from asyncpersist.columnar import codec
from asyncpersist.columnar.consolidate import consolidate_if_few
from asyncpersist.columnar.delta import WEIGHT, Delta, concat
from asyncpersist.columnar.state import Increment
from asyncpersist.errors import AsyncPersistError, DamagedState, Fenced, StoreUnavailable
from asyncpersist.io.sink import Position
from asyncpersist.objectstore.contract import OutcomeUnknown, Throttled
from asyncpersist.runtime.log_rule import LogRule

__all__ = ["Capture", "LogSegment", "Snapshots", "StateSegment"]

logger = logging.getLogger("asyncpersist")

_T = TypeVar("_T")

_ENCODERS = 1
"""At once: with more, what has to be stepped and whoever uses the loop wait for a processor."""
_LONGEST_PAUSE = 5.0
_GIVING_UP = 5.0


@dataclass(frozen=True, slots=True)
class StateSegment:
    """What one piece of state adds to a snapshot; the last row under `key` wins."""

    stream: str
    key: tuple[str, ...]
    increment: Increment

    def encode(self, compression: codec.Compression) -> bytes:
        return codec.encode(self.increment.rows, key=self.key, compression=compression)

    @property
    def rows(self) -> int:
        return self.increment.rows.height


@dataclass(frozen=True, slots=True)
class LogSegment:
    """What one source's log adds to a snapshot: its deltas, with their epochs.

    `consolidated`: neither ids nor epochs matter to anyone, so that equal rows may become one.
    """

    stream: str
    deltas: Sequence[tuple[int, Delta]]
    consolidated: bool

    def encode(self, compression: codec.Compression) -> bytes:
        whole = concat([delta for _, delta in self.deltas])
        epochs = [(epoch, delta.height) for epoch, delta in self.deltas]
        if self.consolidated and len(epochs) > 1:
            before, whole = whole, consolidate_if_few(whole)
            if whole is not before:
                epochs = [(epochs[-1][0], whole.height)]
        rows = whole.rows if whole.weights is None else whole.weighted()
        runs = {} if whole.weights is not None else {WEIGHT: [(1, whole.height)]}
        return codec.encode(rows, key=None, runs=runs | {codec.EPOCH: epochs}, compression=compression)

    @property
    def rows(self) -> int:
        return sum(delta.height for _, delta in self.deltas)


@dataclass(frozen=True, slots=True)
class Capture:
    """One barrier: all that a snapshot taken there consists of. `logs`: by stream, the segments being written."""

    epoch: int
    states: Sequence[StateSegment]
    logs: Mapping[str, Sequence[asyncio.Future[ObjectRef]]]
    positions: Mapping[str, asyncio.Future[Position]]
    progress: Mapping[str, Any]


class Snapshots:
    """The objects that make up the newest snapshot of a run, and how the next one comes about.

    One snapshot is written at a time. It is the `LogStore` of a run with a root. `streams`: what the head
    holds of those that go on. `rules`: by stream, how each log is kept; `facts`: by source, what is known of it.
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
        compression: codec.Compression,
        clock: Clock,
    ) -> None:
        assert root.head is not None, "a root is claimed before snapshots are written"
        self._root = root
        self._graph = dict(graph)
        self._mode = mode
        self._access = access
        self._rules = dict(rules)
        self._facts = dict(facts)
        self._reading = asyncio.Lock()
        self._compression = compression
        self._clock = clock
        self._encoders = anyio.CapacityLimiter(_ENCODERS)
        self._streams = {name: list(refs) for name, refs in streams.items()}
        self.state_bytes = 0
        self.log_bytes = 0
        self.failure: StoreUnavailable | None = None
        self.deadline: float | None = None
        """Seconds on the monotonic clock after which an unavailable store is an error."""
        self._cut = math.inf
        self._calls: set[anyio.CancelScope] = set()

    def end_within(self, seconds: float, *, cut: bool) -> None:
        """Says that the run ends: from then on an unavailable store is an error; with `cut` one that is slow, too."""
        self.deadline = self._clock.monotonic() + seconds
        if cut:
            self._cut = anyio.current_time() + seconds
            for call in self._calls:
                call.deadline = self._cut

    async def write(self, capture: Capture, *, committed: Callable[[], None], keep: str | None = None) -> Manifest:
        """Makes `capture` durable and returns its manifest; `committed` is called as soon as its objects are `named`.

        `keep`: a name by which the snapshot is kept.

        The store is asked again while it is unavailable, until `deadline` if there is one. Raises `StoreUnavailable`
        then, and `Fenced` if another run has taken the root.
        """
        added = await self._put_states(capture.states, capture.epoch)
        for stream, segments in capture.logs.items():
            added[stream] = [await segment for segment in segments]
        keys = {segment.stream: segment.key for segment in capture.states}
        complete = {segment.stream for segment in capture.states if segment.increment.complete}
        streams = dict(self._streams)
        for stream, refs in added.items():
            before = [] if stream in complete else streams.get(stream, [])
            streams[stream] = await self._merged([*before, *refs], stream, keys.get(stream))
        positions = {identity: dict(await answer) for identity, answer in capture.positions.items()}

        async def commit() -> Manifest:
            return await self._root.commit(
                epoch=capture.epoch,
                streams=streams,
                sinks=positions,
                graph=self._graph,
                progress=dict(capture.progress),
                logs=self._facts,
                mode=self._mode,
                access=self._access,
                keep=keep,
            )

        manifest = await self._insist(commit)
        self._streams = streams
        committed()
        await self._delete(self._root.collect)
        return manifest

    async def sweep(self) -> None:
        """Deletes what earlier runs left lying about; before the first `write`, while the dataflow goes on.

        Best effort. Raises `Fenced`.
        """
        await self._delete(self._root.sweep)

    async def _delete(self, call: Callable[[], Awaitable[int]]) -> None:
        try:
            async with self._reading:
                await self._cuttable(call)
        except StoreUnavailable as exc:
            logger.warning("%s; what is no longer needed will be deleted later", exc)

    async def put(self, part: StateSegment | LogSegment, epoch: int) -> ObjectRef:
        """Encodes and writes one object of the snapshot after the head, of state as it was at `epoch`.

        It counts for nothing until a `write` names it. Raises `StoreUnavailable` as `write` does.
        """
        return (await self._put({part.stream: await self._encode(part, epoch)}))[part.stream]

    async def _put_states(self, segments: Sequence[StateSegment], epoch: int) -> dict[str, list[ObjectRef]]:
        refs: dict[str, ObjectRef] = {}
        small: dict[str, Piece] = {}

        async def encode(segment: StateSegment) -> None:
            piece = await self._encode(segment, epoch)
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

    async def _encode(self, part: StateSegment | LogSegment, epoch: int) -> Piece:
        first = self._root.head.epoch + 1 if self._root.head else 0
        data = await anyio.to_thread.run_sync(part.encode, self._compression, limiter=self._encoders)
        return Piece(data=data, rows=part.rows, first_epoch=first, last_epoch=epoch)

    async def _put(self, pieces: Mapping[str, Piece]) -> dict[str, ObjectRef]:
        """Writes pieces of streams as one object."""
        refs = await self._insist(lambda: self._root.put(*pieces.values()))
        for stream, piece in pieces.items():
            self._count(stream, len(piece.data))
        return dict(zip(pieces, refs, strict=True))

    def is_consolidated(self, stream: str) -> bool:
        """Whether neither ids nor epochs of a log matter to anyone, so that equal rows may become one."""
        return stream in self._rules and self._rules[stream].repeats

    async def get(self, ref: ObjectRef) -> bytes:
        """Reads and verifies an object. Raises `DamagedState`, and `StoreUnavailable` and `Fenced` as `write` does."""
        try:
            return await self._insist(lambda: self._root.get(ref))
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
        """Commits that the run has ended cleanly. Raises as `write` does."""
        await self._insist(self._root.release)

    async def give_up(self, *, clean: bool = False) -> None:
        """The end of a run that failed: releases the root, and deletes what the run wrote and never committed.

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
                    await self._insist(lambda: self._root.release(clean=clean))
        except Fenced:
            return
        except AsyncPersistError as exc:
            logger.warning("%s; what this run wrote and did not commit will be deleted by a later run", exc)
        finally:
            self._root.abandon()

    async def _merged(self, refs: list[ObjectRef], stream: str, key: tuple[str, ...] | None) -> list[ObjectRef]:
        policy = LOG if key is None else STATE
        while (span := plan_merges([ref.length for ref in refs], policy=policy)) is not None:
            parts = await asyncio.gather(*(self.get(ref) for ref in refs[span]))

            def merge(parts: Sequence[bytes] = parts, whole: bool = span.start == 0) -> tuple[bytes, int]:
                if key is None:
                    merged = codec.merge_log(parts, consolidate=self.is_consolidated(stream))
                else:
                    merged = codec.merge_state(parts, key, drop_tombstones=whole)
                return merged, codec.decode(merged).height

            data, rows = await anyio.to_thread.run_sync(merge)
            first, last = refs[span][0].first_epoch, refs[span][-1].last_epoch
            piece = Piece(data=data, rows=rows, first_epoch=first, last_epoch=last)
            merged = (await self._put({stream: piece}))[stream]
            self._root.discard(refs[span])
            refs = [*refs[: span.start], merged, *refs[span.stop :]]
        return refs

    def _count(self, stream: str, size: int) -> None:
        if stream.startswith("log/"):
            self.log_bytes += size
        else:
            self.state_bytes += size

    async def _insist(self, call: Callable[[], Awaitable[_T]]) -> _T:
        pause = 0.05
        while True:
            try:
                result = await self._cuttable(call)
            except StoreUnavailable as exc:
                # Who asks for time is given it.
                pause = max(pause, exc.retry_after or 0.0 if isinstance(exc, Throttled) else 0.0)
                if self.deadline is not None and self._clock.monotonic() + pause > self.deadline:
                    raise
                if self.failure is None:
                    logger.warning("%s (The run goes on, and the snapshot is tried again.)", exc)
                self.failure = exc
                await anyio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                self.failure = None
                return result

    async def _cuttable(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """Raises `StoreUnavailable` where the call takes longer than the end of the run may."""
        with anyio.CancelScope(deadline=self._cut) as scope:
            self._calls.add(scope)
            try:
                return await call()
            finally:
                self._calls.discard(scope)
        raise self.failure or OutcomeUnknown(
            f"{self._root.store.describe()} gave no answer before the run had to end. What is not committed is "
            "not lost: the next run reads it again"
        )
