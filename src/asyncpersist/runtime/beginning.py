"""What a run does before it reads anything: what has no state is given what is there, and logs are replayed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing

import anyio.to_thread

from asyncpersist.clock import Clock
from asyncpersist.columnar.delta import Delta
from asyncpersist.graph.plan import Plan
from asyncpersist.persistence.keeping import Replaying
from asyncpersist.runtime.dataflow import Dataflow
from asyncpersist.runtime.epochs import EpochClock
from asyncpersist.runtime.launch import Launched
from asyncpersist.runtime.log_reading import LogReader, identified
from asyncpersist.runtime.replay import Replay, in_epochs
from asyncpersist.runtime.scratch import Scratch
from asyncpersist.runtime.source_log import SourceLog
from asyncpersist.runtime.stepping import Stepping

__all__ = ["Beginning", "StoppedEarly"]


class StoppedEarly(Exception):
    """The run is to end before anything of it counts."""


class Beginning:
    """`logs` are those that are kept on. `tell` ends an epoch: it steps the rest and tells the sinks what there is.

    A replay holds `between` while it steps an epoch; `fill` is called with it held. Once `stop` is set it ends early.
    """

    def __init__(
        self,
        launched: Launched,
        *,
        plan: Plan,
        dataflow: Dataflow,
        stepping: Stepping,
        epochs: EpochClock,
        logs: Mapping[str, SourceLog],
        tell: Callable[[int], Awaitable[None]],
        between: asyncio.Lock,
        stop: asyncio.Event,
        scratch: Scratch,
        clock: Clock,
    ) -> None:
        self._made = launched.resumption
        self._found: Mapping[str, LogReader] = launched.logs
        self._plan = plan
        self._dataflow = dataflow
        self._stepping = stepping
        self._epochs = epochs
        self._logs = logs
        self._tell = tell
        self._between = between
        self._stop = stop
        self._scratch = scratch
        self._clock = clock

    async def fill(self) -> bool:
        """One epoch in which everything that has no state gets what is there, if anything needs that.

        Whether something changed by it that the next snapshot holds.

        Raises `StoppedEarly`: what is half filled counts for nothing.
        """
        made = self._made
        if made is None or not (made.filled or made.identifies):
            return False
        epoch = await self._epochs.next_one()
        await self._stepping.fill(self._contents(epoch), made.filled, made.filled & made.loads)
        await self._tell(epoch)
        new = any(start.how == "new" for start in made.sinks.values())
        return new or bool(made.filled & made.keeps) or made.identifies

    async def _contents(self, epoch: int) -> AsyncGenerator[tuple[str, Delta], None]:
        """What is given to what is filled, by the identity of who gives it.

        A log whose rows have no ids yet is written anew on the way, as of `epoch`.
        """
        assert self._made is not None
        for position in sorted(self._made.given):
            pieces = self._dataflow.present(position)
            while (piece := await anyio.to_thread.run_sync(next, pieces, None)) is not None:
                self._refuse_stopped()
                yield self._plan.vertices[position].identity, piece
        async with aclosing(self._history()) as history:
            async for identity, delta in history:
                yield identity, delta
        for number, (identity, log) in enumerate(self._found.items()):
            if log.rule.kept == "whole":
                continue
            start, reads = self._made.sources[identity], identity in self._made.read
            identifies = start.identified
            if not (identifies or reads):
                continue
            if identifies:
                self._logs[identity].supersede()
            # Of a row that replaces another one, the last one counts.
            in_order = log.rule.kept == "latest"
            async with aclosing(log.deltas() if in_order else log.net(self._scratch, f"log-{number}")) as deltas:
                async for found in deltas:
                    self._refuse_stopped()
                    delta = found
                    if identifies:
                        delta = await anyio.to_thread.run_sync(identified, found, identity, start.rule)
                        # What operators had not seen before they have not seen now.
                        self._logs[identity].append(start.rule.apart or epoch, delta)
                    if reads:
                        yield identity, delta
            if identifies:
                self._logs[identity].seal()

    async def _history(self) -> AsyncGenerator[tuple[str, Delta], None]:
        """What is in the logs that are kept whole: epoch by epoch over all of them, and stepped so."""
        assert self._made is not None
        kept = {i: log for i, log in self._found.items() if log.rule.kept == "whole" and i in self._made.read}
        epoch = 0
        async with aclosing(Replay(kept, together=False).rows()) as rows:
            async for recorded, identity, delta in rows:
                self._refuse_stopped()
                if recorded != epoch:
                    epoch = recorded
                    await self._stepping.step()
                yield identity, delta

    def _refuse_stopped(self) -> None:
        if self._stop.is_set():
            raise StoppedEarly

    async def replay(self, how: Replaying) -> AsyncGenerator[Delta, None]:
        """Steps what is in the logs, and gives what is stepped to be counted. Ends early where it is to stop."""
        replay = Replay(self._found, together=how == "batch")
        begun: tuple[int, float] | None = None
        async with aclosing(in_epochs(replay.rows())) as epochs:
            async for recorded, pieces in epochs:
                if how == "realtime":
                    begun = begun or (recorded, self._clock.monotonic())
                    await self._wait_until(begun[1] + (recorded - begun[0]) / 1000)
                if self._stop.is_set():
                    return
                async with self._between:
                    epoch = await self._epochs.next_one() if how == "batch" else recorded
                    async for source, delta in pieces:
                        await self._stepping.replay(source, delta)
                        yield delta
                    await self._tell(epoch)

    async def _wait_until(self, moment: float) -> None:
        """Returns at a moment on the monotonic clock, or when the run is to end."""
        pause = moment - self._clock.monotonic()
        if pause <= 0:
            return
        sleeping = asyncio.ensure_future(self._clock.sleep(pause))
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({sleeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            stopping.cancel()
