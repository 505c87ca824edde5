"""What happens inside a run: sources are pumped, epochs stepped, sinks fed, snapshots taken.

Tasks: one per source, one per sink, one for snapshots, and the one that steps. A lock lies between the last two:
whoever holds it has the dataflow between two epochs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, aclosing

import anyio
import anyio.to_thread

from asyncpersist.checkpoint.manifest import Manifest
from asyncpersist.checkpoint.root import Root
from asyncpersist.clock import Clock
from asyncpersist.columnar.delta import Delta
from asyncpersist.columnar.state import State
from asyncpersist.disk import Disk
from asyncpersist.errors import RunStopped
from asyncpersist.graph.plan import Plan
from asyncpersist.io.source import Batch, Source, SourceReader
from asyncpersist.persistence import Config
from asyncpersist.runtime import recovery
from asyncpersist.runtime.compaction import Compaction
from asyncpersist.runtime.dataflow import Dataflow
from asyncpersist.runtime.epochs import EpochClock
from asyncpersist.runtime.intake import Intake
from asyncpersist.runtime.launch import Launch
from asyncpersist.runtime.offsets import OffsetTable
from asyncpersist.runtime.outlet import Outlet
from asyncpersist.runtime.scratch import Scratch
from asyncpersist.runtime.segments import Capture, StateSegment
from asyncpersist.runtime.snapshots import Snapshots
from asyncpersist.runtime.source_log import SourceLog
from asyncpersist.runtime.spool import Spool
from asyncpersist.runtime.statistics import Statistics
from asyncpersist.runtime.stepping import Stepping

__all__ = ["Engine"]

_INTAKE_BYTES = 32 << 20
"""Bound on parsed but unstepped input, per source."""
_UNCOMMITTED_BYTES = 1 << 30
"""Uncommitted input at which the dataflow waits for the store."""


class Engine:
    """One run of one plan. `run` is the whole of it; the rest may be called from the same loop meanwhile."""

    def __init__(
        self,
        plan: Plan,
        config: Config | None,
        *,
        takeover: bool,
        shutdown_timeout: float,
        disk: Disk,
        clock: Clock,
    ) -> None:
        self._config = config
        self._shutdown_timeout = shutdown_timeout
        self._clock = clock
        self._sources = {vertex.identity: node.source for vertex, node in plan.sources}
        self._plan = plan
        self._dataflow = Dataflow(plan)
        self._offsets = {identity: OffsetTable() for identity in self._sources}
        self._states: dict[str, State] = dict(self._dataflow.states())
        self._states |= {f"offsets/{identity}": table for identity, table in self._offsets.items()}
        self._launch = Launch(
            plan=plan,
            config=config,
            states=self._states,
            offsets=self._offsets,
            takeover=takeover,
            disk=disk,
            clock=clock,
        )
        self._root: Root | None = None
        self._snapshots: Snapshots | None = None
        self._outlets: dict[str, Outlet] = {}
        self._logs: dict[str, SourceLog] = {}
        self._compaction: Compaction | None = None

        self._wake = asyncio.Event()
        self._due = asyncio.Event()
        self._snapshots_over = asyncio.Event()
        self._between = asyncio.Lock()
        self._pumps = [anyio.CancelScope() for _ in self._sources]
        streaming = [source.streaming for source in self._sources.values()]
        self._intake = Intake(streaming, bound=_INTAKE_BYTES, wake=self._wake)
        self._waiters: list[asyncio.Future[Manifest]] = []
        self._answering: list[asyncio.Future[Manifest]] = []
        self._stopping = self._ending = self._broken = self._dirty = False
        self._within_change = [False] * len(self._sources)
        self._fresh_bytes = self._captured_bytes = 0

        self.started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._rows = self._rows_before = self._skipped = self._epoch_count = self._committed = 0
        self._began, self._started_in = clock.monotonic(), 0.0
        self._fresh_since: float | None = None
        self._captured_since: float | None = None
        self._captured_at = self._began
        self._recovered: int | None = None

    # what others may call

    def stop(self) -> None:
        """Asks for the end: what is stepped is snapshotted, what is not will be read again.

        A change that is half way through the dataflow is finished first.
        """
        if self._ending and not self._stopping and self._snapshots is not None:
            self._snapshots.end_within(self._shutdown_timeout, cut=True)
        self._stopping = True
        if not any(self._within_change):
            self._stop_reading()
        self._wake.set()

    async def snapshot(self) -> Manifest:
        """The manifest of a snapshot whose barrier is after this call."""
        answer: asyncio.Future[Manifest] = asyncio.get_running_loop().create_future()
        if self._snapshots is None:
            raise RunStopped("this run has no persistence_config, so there is nothing to take a snapshot into")
        if self._snapshots_over.is_set():
            raise RunStopped("the run has ended")
        self._waiters.append(answer)
        self._due.set()
        return await answer

    def statistics(self) -> Statistics:
        since = self._fresh_since if self._captured_since is None else self._captured_since
        head = None if self._root is None else self._root.head
        return Statistics(
            rows_read=self._rows,
            rows_skipped=self._skipped,
            epochs=self._epoch_count,
            epoch=self._epochs.last if self.started.done() and not self.started.cancelled() else 0,
            snapshots=self._committed,
            snapshot=0 if head is None else head.sequence,
            snapshot_age=0.0 if since is None else self._clock.monotonic() - since,
            uncommitted_bytes=self._fresh_bytes + self._captured_bytes,
            state_bytes_written=self._snapshots.state_bytes if self._snapshots else 0,
            log_bytes_written=self._snapshots.log_bytes if self._snapshots else 0,
            started_in=self._started_in,
            recovered_epoch=self._recovered,
        )

    async def run(self) -> None:
        """From the first check to the release of the root. Raises one plain error if anything fails."""
        closing = AsyncExitStack()
        try:
            await self._run(closing)
        except BaseException as exc:
            error = await recovery.reason(self._root, _plain(exc))
            self._fail_waiters(error)
            if error is exc:
                raise
            raise error from error.__cause__
        finally:
            with anyio.CancelScope(shield=True):
                await closing.aclose()

    async def _run(self, closing: AsyncExitStack) -> None:
        launched = await self._launch.open(closing)
        self._root, self._snapshots, self._outlets = launched.root, launched.snapshots, launched.outlets
        if launched.head is not None:
            self._recovered = launched.head.epoch or None
            self._rows_before = int(launched.head.progress.get("rows", 0))
        self._dirty = any(outlet.moved for outlet in self._outlets.values())
        self._epochs = EpochClock(self._clock, self._recovered or 0)
        follows = launched.head is not None and launched.head.generation > 1
        for outlet in self._outlets.values():
            await outlet.begin((self._recovered or 0) if follows else None)
        self._started_in = self._clock.monotonic() - self._began
        self.started.set_result(None)
        await self._flow(launched.readers, closing)

    # flow

    async def _flow(self, readers: list[SourceReader], closing: AsyncExitStack) -> None:
        async with anyio.create_task_group() as group:
            for position, reader in enumerate(readers):
                group.start_soon(self._pump, position, reader)
            for outlet in self._outlets.values():
                group.start_soon(outlet.run)
            scratch = Scratch(closing)
            if self._snapshots is not None:
                group.start_soon(self._snapshot_in_turn, self._snapshots)
                self._compaction = Compaction(self._snapshots, scratch)
                group.start_soon(self._compaction.run)
            store = self._snapshots or Spool(scratch)
            self._logs = {
                identity: SourceLog(f"log/{identity}", store, group, self._launch.rules[f"log/{identity}"])
                for identity, source in self._sources.items()
                if self._keeps_log(source)
            }
            stepping = Stepping(self._plan, self._dataflow, offsets=self._offsets, logs=self._logs, scratch=scratch)
            try:
                await self._step_in_turn(stepping)
            except BaseException:
                self._broken = True
                raise
            await self._finish()
            group.cancel_scope.cancel()

    def _keeps_log(self, source: Source) -> bool:
        if self._config is not None and self._config.keeps_log:
            return True
        return source.retracts_parts(persistent=self._config is not None)

    async def _pump(self, position: int, reader: SourceReader) -> None:
        with self._pumps[position]:
            try:
                while (batch := await reader.read()) is not None:
                    await self._intake.put(position, batch)
            except Exception:
                self._broken = True
                raise
        self._intake.end(position)

    async def _step_in_turn(self, stepping: Stepping) -> None:
        while not (self._stopping or self._intake.exhausted):
            if self._intake.ready and self._fresh_bytes + self._captured_bytes < _UNCOMMITTED_BYTES:
                async with self._between:
                    # What arrives meanwhile goes along.
                    if pause := self._epochs.pause():
                        await anyio.sleep(pause)
                    if self._stopping:
                        break
                    await self._step(stepping, self._arrived())
                if self._stopping:
                    self._stop_reading()
            else:
                if self._intake.ready and not self._captured_bytes:
                    # Too much is uncommitted: the next snapshot does not wait for its time.
                    self._due.set()
                await self._wake.wait()
                self._wake.clear()

    async def _step(self, stepping: Stepping, taken: list[list[Batch]]) -> None:
        epoch = self._epochs.next()
        await self._take(stepping, epoch, taken)
        told = set()
        async with aclosing(stepping.finish()) as outputs:
            async for identity, delta in outputs:
                told.add(identity)
                await self._outlets[identity].put(epoch, delta)
        for identity in told:
            self._outlets[identity].end_epoch(epoch)
        self._epoch_count += 1
        self._dirty = True
        if self._fresh_since is None and self._snapshots is not None:
            self._fresh_since = self._clock.monotonic()
        if self._config is not None and self._config.snapshot_interval_ms == 0:
            self._due.set()

    async def _take(self, stepping: Stepping, epoch: int, taken: list[list[Batch]]) -> None:
        """Takes what has arrived into an epoch, and what comes until every change in it is whole."""
        while True:
            for identity, batches in zip(self._sources, taken, strict=True):
                await stepping.take(epoch, identity, batches)
                for batch in batches:
                    self._skipped += batch.skipped
                    self._rows += _rows(batch.delta)
                    if self._snapshots is not None:
                        self._fresh_bytes += batch.size
            if not any(self._within_change):
                return
            while not any(taken := self._arrived()):
                if self._intake.exhausted:
                    raise RuntimeError("internal error: a source ended within a change. Please report it.")
                self._wake.clear()
                await self._wake.wait()

    def _arrived(self) -> list[list[Batch]]:
        taken = self._intake.take()
        for position, batches in enumerate(taken):
            if batches:
                self._within_change[position] = batches[-1].open
        return taken

    def _stop_reading(self) -> None:
        for pump in self._pumps:
            pump.cancel()

    async def _finish(self) -> None:
        """The end of the input or of the run: everything written, a last snapshot, the root released."""
        ended = self._intake.exhausted and not self._stopping
        if self._snapshots is None or self._root is None:
            for outlet in self._outlets.values():
                await outlet.barrier()
            await self._tell_end(ended)
            return
        self._snapshots.end_within(self._shutdown_timeout, cut=self._stopping)
        self._ending = True
        self._due.set()
        await self._snapshots_over.wait()
        await self._tell_end(ended)
        if ended and self._compaction is not None:
            await self._compaction.finish()
        await self._snapshots.release()

    async def _tell_end(self, ended: bool) -> None:
        if ended:
            for outlet in self._outlets.values():
                await outlet.end()

    # snapshots

    async def _snapshot_in_turn(self, snapshots: Snapshots) -> None:
        await snapshots.sweep()
        while not self._ending:
            await self._until_due()
            await self._snapshot(snapshots)
        await self._snapshot(snapshots)
        self._snapshots_over.set()
        self._fail_waiters(None)

    async def _until_due(self) -> None:
        assert self._config is not None
        interval = self._config.snapshot_interval_ms / 1000
        remaining = self._captured_at + interval - self._clock.monotonic() if interval else float("inf")
        with anyio.move_on_after(max(0.0, remaining)):
            await self._due.wait()
        least = self._captured_at + self._config.backend.shortest_interval_ms / 1000 - self._clock.monotonic()
        if least > 0 and not self._ending:
            await anyio.sleep(least)
        self._due.clear()

    async def _snapshot(self, snapshots: Snapshots) -> None:
        self._captured_at = self._clock.monotonic()
        if not self._dirty and not self._waiters:
            return
        async with self._between:
            if self._broken:
                return
            waiters, self._waiters = self._waiters, []
            self._answering = waiters
            self._captured_since, self._fresh_since = self._fresh_since, None
            self._captured_bytes, self._fresh_bytes = self._fresh_bytes, 0
            capture = await self._capture()
        manifest = await snapshots.write(capture, committed=self._committed_logs)
        self._committed += 1
        self._captured_bytes, self._captured_since = 0, None
        self._wake.set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(manifest)
        self._answering = []

    def _committed_logs(self) -> None:
        for log in self._logs.values():
            log.committed()

    async def _capture(self) -> Capture:
        def gather() -> list[StateSegment]:
            captured = ((stream, state.key, state.capture()) for stream, state in self._states.items())
            return [StateSegment(stream, key, rows) for stream, key, rows in captured if rows is not None]

        self._dirty = False
        return Capture(
            epoch=self._epochs.last,
            states=await anyio.to_thread.run_sync(gather),
            logs={log.stream: log.cut() for log in self._logs.values()},
            positions={identity: outlet.barrier() for identity, outlet in self._outlets.items()},
            progress={"rows": self._rows_before + self._rows},
        )

    def _fail_waiters(self, error: BaseException | None) -> None:
        for waiter in (*self._waiters, *self._answering):
            if not waiter.done():
                stopped = RunStopped("the run ended before its snapshot was committed")
                stopped.__cause__ = error
                waiter.set_exception(stopped)


def _rows(delta: Delta) -> int:
    return delta.height if delta.weights is None else int(delta.weights.sum())


def _plain(error: BaseException) -> BaseException:
    """The first error of a group that is not a cancellation; the others are told in its notes."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [leaf for leaf in _leaves(error) if not isinstance(leaf, asyncio.CancelledError)]
    if not leaves:
        return asyncio.CancelledError()
    for other in leaves[1:]:
        leaves[0].add_note(f"and then: {type(other).__name__}: {other}")
    return leaves[0]


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
