"""What happens inside a run: sources are pumped, epochs stepped, sinks fed, snapshots taken.

Tasks: one per source, one per sink, one for snapshots, and the one that steps. A lock lies between the last two:
whoever holds it has the dataflow between two epochs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, aclosing
from functools import partial

import anyio
import anyio.lowlevel
import anyio.to_thread
from anyio.abc import TaskGroup

from asyncpersist.checkpoint.manifest import Manifest
from asyncpersist.checkpoint.root import Root
from asyncpersist.clock import Clock
from asyncpersist.columnar.delta import Delta
from asyncpersist.disk import Disk
from asyncpersist.errors import RunStopped
from asyncpersist.graph.plan import Plan
from asyncpersist.io.source import Batch, SourceReader
from asyncpersist.persistence import Config
from asyncpersist.runtime import recovery
from asyncpersist.runtime.beginning import Beginning, StoppedEarly
from asyncpersist.runtime.compaction import Compaction
from asyncpersist.runtime.dataflow import Dataflow
from asyncpersist.runtime.epochs import EpochClock
from asyncpersist.runtime.functions import Functions
from asyncpersist.runtime.intake import Intake
from asyncpersist.runtime.launch import Launch, Launched
from asyncpersist.runtime.offsets import OffsetTable
from asyncpersist.runtime.outlet import Outlet
from asyncpersist.runtime.overlay import Overlay
from asyncpersist.runtime.scratch import Scratch
from asyncpersist.runtime.segments import Capture, StateSegment
from asyncpersist.runtime.snapshot_turns import SnapshotTurns
from asyncpersist.runtime.snapshots import Snapshots
from asyncpersist.runtime.source_log import LogStore, SourceLog
from asyncpersist.runtime.spool import Spool
from asyncpersist.runtime.statistics import Statistics
from asyncpersist.runtime.stepping import Stepping
from asyncpersist.runtime.uncommitted import Uncommitted
from asyncpersist.udfs.calling.runner import CallsCancelled

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
        old_plan: Callable[[], Plan],
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
        self._wake = asyncio.Event()
        self._functions = Functions(self._dataflow, persistent=config is not None, clock=clock, wake=self._wake.set)
        self._offsets = {identity: OffsetTable() for identity in self._sources}
        self._launch = Launch(
            plan=plan,
            old_plan=old_plan,
            config=config,
            dataflow=self._dataflow,
            offsets=self._offsets,
            takeover=takeover,
            disk=disk,
            clock=clock,
            caches=self._functions.kept if self._functions.kept.states else None,
        )
        self._launched = Launched()
        self._root: Root | None = None
        self._snapshots: Snapshots | None = None
        self._outlets: dict[str, Outlet] = {}
        self._logs: dict[str, SourceLog] = {}
        self._compaction: Compaction | None = None

        self._stop_asked = asyncio.Event()
        self._between = asyncio.Lock()
        self._pumps = [anyio.CancelScope() for _ in self._sources]
        streaming = [source.streaming for source in self._sources.values()]
        self._intake = Intake(streaming, bound=_INTAKE_BYTES, wake=self._wake)
        self._turns: SnapshotTurns | None = None
        self._uncommitted = Uncommitted(clock)
        self._stopping = self._ending = self._broken = False
        self._within_change = [False] * len(self._sources)

        self.started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._rows = self._rows_before = self._skipped = self._epoch_count = 0
        self._began, self._started_in = clock.monotonic(), 0.0
        self._recovered: int | None = None

    # what others may call

    def stop(self) -> None:
        """Asks for the end: what is stepped is snapshotted, what is not will be read again.

        A change that is half way through the dataflow is finished first.
        """
        if self._ending and not self._stopping and self._snapshots is not None:
            self._snapshots.end_within(self._shutdown_timeout, cut=True)
        self._functions.end_within(self._shutdown_timeout)
        self._stopping = True
        self._stop_asked.set()
        if not any(self._within_change):
            self._stop_reading()
        self._wake.set()

    def cancel_calls(self) -> None:
        """Ends the functions that are being called, and with them the epoch that waits for them."""
        self._functions.cancel()

    async def snapshot(self, keep: str | None = None) -> Manifest:
        """The manifest of a snapshot whose barrier is after this call, kept under a name if one is given."""
        if self._turns is None:
            why = "has no persistence_config" if self._config is None else "only reads its state"
            raise RunStopped(f"this run {why}, so there is nothing to take a snapshot into")
        return await self._turns.take(keep)

    def statistics(self) -> Statistics:
        turns = self._turns
        head = None if self._root is None else self._root.head
        return Statistics(
            rows_read=self._rows,
            rows_skipped=self._skipped,
            epochs=self._epoch_count,
            epoch=self._epochs.last if self.started.done() and not self.started.cancelled() else 0,
            snapshots=turns.count if turns else 0,
            snapshot=0 if head is None else head.sequence,
            snapshot_age=self._uncommitted.age,
            uncommitted_bytes=self._uncommitted.bytes,
            state_bytes_written=self._snapshots.state_bytes if self._snapshots else 0,
            log_bytes_written=self._snapshots.log_bytes if self._snapshots else 0,
            snapshot_seconds=turns.seconds if turns else 0.0,
            snapshot_bytes=turns.bytes if turns else 0,
            started_in=self._started_in,
            recovered_epoch=self._recovered,
            functions=self._functions.statistics(),
        )

    async def run(self) -> None:
        """From the first check to the release of the root. Raises one plain error if anything fails."""
        closing = AsyncExitStack()
        try:
            await self._run(closing)
        except BaseException as exc:
            error = await recovery.reason(self._root, _plain(exc))
            if self._turns is not None:
                self._turns.fail(error)
            if error is exc:
                raise
            raise error from error.__cause__
        finally:
            with anyio.CancelScope(shield=True):
                await closing.aclose()

    async def _run(self, closing: AsyncExitStack) -> None:
        closing.push_async_callback(self._functions.aclose)
        scratch = Scratch(closing)
        self._launched = launched = await self._launch.open(closing, scratch)
        self._root, self._snapshots, self._outlets = launched.root, launched.snapshots, launched.outlets
        if launched.head is not None:
            self._recovered = launched.head.epoch or None
            self._rows_before = int(launched.head.progress.get("rows", 0))
        if self._snapshots is not None and self._config is not None:
            self._turns = SnapshotTurns(
                self._snapshots,
                self._config,
                self._clock,
                between=self._between,
                uncommitted=self._uncommitted,
                capture=self._capture,
                named=self._committed_logs,
                committed=self._wake.set,
            )
            moved = any(outlet.moved for i, outlet in self._outlets.items() if self._goes_on(i))
            self._turns.changed = moved or bool(launched.resumption and launched.resumption.changes)
        self._epochs = EpochClock(self._clock, self._recovered or 0)
        follows = self._root is not None and launched.head is not None
        for identity, outlet in self._outlets.items():
            await outlet.begin((self._recovered or 0) if follows and self._goes_on(identity) else None)
        self._started_in = self._clock.monotonic() - self._began
        self.started.set_result(None)
        await self._flow(launched.readers, scratch)

    def _goes_on(self, sink: str) -> bool:
        """Whether a sink has a position that is committed."""
        resumption = self._launched.resumption
        return resumption is not None and resumption.sinks[sink].how != "anew"

    # flow

    async def _flow(self, readers: list[SourceReader], scratch: Scratch) -> None:
        async with anyio.create_task_group() as group:
            for outlet in self._outlets.values():
                group.start_soon(outlet.run)
            group.start_soon(self._cancel_calls_with_the_run)
            if self._snapshots is not None and (writer := self._functions.writing(self._snapshots)) is not None:
                group.start_soon(writer.run)
            if self._snapshots is not None:
                self._compaction = Compaction(self._snapshots, scratch)
            self._logs = self._open_logs(scratch, group)
            stepping = Stepping(
                self._plan,
                self._dataflow,
                offsets=self._offsets,
                logs=self._logs,
                scratch=scratch,
                unseen=self._launched.unseen,
            )
            try:
                await self._functions.resume()
                # Nothing is captured before what has no state was filled: until then the root holds more.
                beginning = self._beginning(stepping, scratch)
                async with self._between:
                    if self._turns is not None:
                        group.start_soon(self._turns.run)
                    if await beginning.fill() and self._turns is not None:
                        self._turns.step()
                if self._compaction is not None:
                    group.start_soon(self._compaction.run)
                if (how := self._launch.keeping.replay) is not None:
                    async for delta in beginning.replay(how):
                        rows = _rows(delta)
                        self._rows += rows
                        self._rows_before -= rows  # they count there, too
                for position, reader in enumerate(() if self._stopping else readers):
                    group.start_soon(self._pump, position, reader)
                if not self._launch.starts_sources:
                    self._intake.end_all()
                await self._step_in_turn(stepping)
                await self._end_calls(stepping)
            except CallsCancelled as exc:
                self._broken = True
                await anyio.lowlevel.checkpoint()
                raise RunStopped(
                    "the run was stopped while functions had not answered for the epoch under way; none of it counts. "
                    "The next run goes on from the last snapshot; what was answered is kept by functions with a cache."
                ) from exc
            except StoppedEarly:
                if self._turns is not None:
                    self._turns.fail(None)
                group.cancel_scope.cancel()
                return
            except BaseException:
                self._broken = True
                raise
            await self._finish()
            group.cancel_scope.cancel()

    async def _cancel_calls_with_the_run(self) -> None:
        """A step cannot be cancelled from outside: it ends when the calls that it waits for do."""
        try:
            await anyio.sleep_forever()
        finally:
            self._functions.cancel()

    def _open_logs(self, scratch: Scratch, group: TaskGroup) -> dict[str, SourceLog]:
        """Of each source that keeps a log: in the root, or where that is for this run alone."""
        logs: dict[str, SourceLog] = {}
        named = {f"log/{identity}": log.refs for identity, log in self._launched.logs.items()}
        resumption = self._launched.resumption
        for identity, source in self._sources.items():
            start = None if resumption is None else resumption.sources[identity]
            store: LogStore
            if start is not None and start.logs and self._snapshots is not None:
                store = self._snapshots
            elif not source.retracts_parts(persistent=self._config is not None):
                continue
            elif identity in self._launched.logs and self._launch.keeping.replay is not None:
                store = Overlay(scratch, named, self._launched.logs[identity].get)
            else:
                store = Spool(scratch)
            rule = self._launch.rules[identity] if start is None else start.rule
            logs[identity] = SourceLog(f"log/{identity}", store, group, rule, unseen=rule.apart > 0)
        return logs

    def _beginning(self, stepping: Stepping, scratch: Scratch) -> Beginning:
        return Beginning(
            self._launched,
            plan=self._plan,
            dataflow=self._dataflow,
            stepping=stepping,
            epochs=self._epochs,
            logs=self._logs,
            tell=partial(self._tell, stepping),
            between=self._between,
            stop=self._stop_asked,
            scratch=scratch,
            clock=self._clock,
        )

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
        while not (self._stopping or (self._intake.exhausted and not self._functions.busy)):
            due = self._intake.ready or self._functions.ready
            if due and self._uncommitted.bytes < _UNCOMMITTED_BYTES:
                async with self._between:
                    # What arrives meanwhile goes along.
                    if pause := self._epochs.pause():
                        await anyio.sleep(pause)
                    if self._stopping:
                        break
                    await self._step(stepping, self._arrived() if self._intake.ready else self._nothing())
                if self._stopping:
                    self._stop_reading()
            else:
                if due and self._turns is not None and not self._uncommitted.is_being_written:
                    # Too much is uncommitted: the next snapshot does not wait for its time.
                    self._turns.hurry()
                await self._wake.wait()
                self._wake.clear()

    async def _step(self, stepping: Stepping, taken: list[list[Batch]]) -> None:
        epoch = self._epochs.next()
        if self._functions.answered:
            stepping.take_answers()
        await self._take(stepping, epoch, taken)
        await self._tell(stepping, epoch)
        if self._turns is not None:
            self._turns.step()

    async def _tell(self, stepping: Stepping, epoch: int) -> None:
        """Ends an epoch: steps what was taken, and gives sinks what there is to tell."""
        told = set()
        async with aclosing(stepping.finish()) as outputs:
            async for identity, delta in outputs:
                told.add(identity)
                await self._outlets[identity].put(epoch, delta)
        for identity in told:
            self._outlets[identity].end_epoch(epoch)
        self._epoch_count += 1

    async def _take(self, stepping: Stepping, epoch: int, taken: list[list[Batch]]) -> None:
        """Takes what has arrived into an epoch, and what comes until every change in it is whole."""
        while True:
            for identity, batches in zip(self._sources, taken, strict=True):
                await stepping.take(epoch, identity, batches)
                for batch in batches:
                    self._skipped += batch.skipped
                    self._rows += _rows(batch.delta)
                    if self._turns is not None:
                        self._uncommitted.add(batch.size)
            if not any(self._within_change):
                return
            while not any(taken := self._arrived()):
                if self._intake.exhausted:
                    raise RuntimeError("internal error: a source ended within a change. Please report it.")
                self._wake.clear()
                await self._wake.wait()

    async def _end_calls(self, stepping: Stepping) -> None:
        """Ends the calls that no epoch waits for: the next run makes them. What was answered before is taken in."""
        self._functions.cancel_later()
        if self._functions.answered:
            async with self._between:
                if pause := self._epochs.pause():
                    await anyio.sleep(pause)
                await self._step(stepping, self._nothing())

    def _nothing(self) -> list[list[Batch]]:
        return [[] for _ in self._sources]

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
        if self._snapshots is not None and self._turns is not None:
            self._snapshots.end_within(self._shutdown_timeout, cut=self._stopping)
            self._ending = True
            await self._turns.end()
        for identity, outlet in self._outlets.items():
            if not self._goes_on(identity):
                await outlet.barrier()
        await self._tell_end(ended)
        if ended and self._compaction is not None:
            await self._compaction.finish()
        if self._snapshots is not None:
            await self._snapshots.release()

    async def _tell_end(self, ended: bool) -> None:
        if ended:
            for outlet in self._outlets.values():
                await outlet.end()

    # snapshots

    def _committed_logs(self) -> None:
        for log in self._kept_logs():
            log.committed()

    def _kept_logs(self) -> list[SourceLog]:
        """The logs that lie in the root."""
        resumption = self._launched.resumption
        assert resumption is not None
        return [log for identity, log in self._logs.items() if resumption.sources[identity].logs]

    async def _capture(self) -> Capture | None:
        """What is at this barrier; None where a step has failed and left what must not be kept."""
        if self._broken:
            return None

        def gather() -> list[StateSegment]:
            captured = ((stream, state.key, state.capture()) for stream, state in self._launched.states.items())
            return [StateSegment(stream, key, rows) for stream, key, rows in captured if rows is not None]

        return Capture(
            epoch=self._epochs.last,
            states=await anyio.to_thread.run_sync(gather),
            logs={log.stream: log.cut() for log in self._kept_logs()},
            positions={i: outlet.barrier() for i, outlet in self._outlets.items() if self._goes_on(i)},
            progress={"rows": self._rows_before + self._rows},
        )


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
