"""When snapshots are taken: at the ticks of the timer, or when somebody asks for one; one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import anyio

from asyncpersist.checkpoint.manifest import Manifest
from asyncpersist.clock import Clock
from asyncpersist.errors import RunStopped
from asyncpersist.persistence import Config
from asyncpersist.runtime.pace import Pace
from asyncpersist.runtime.segments import Capture
from asyncpersist.runtime.snapshots import Snapshots
from asyncpersist.runtime.uncommitted import Uncommitted

__all__ = ["SnapshotTurns"]


_PATIENCE = 0.25
"""Seconds for which a turn waits for a barrier before it commits what is new in caches without one."""
_TICK = 0.2
"""Seconds between such commits where snapshots follow epochs and no timer."""


class SnapshotTurns:
    """The snapshots of one run.

    While one is due and an epoch keeps it waiting, what is new in caches is committed at every tick by itself.

    `capture` gives what is at a barrier, None if nothing may be captured any more; it is called with `between` held,
    which whoever steps an epoch holds. Nothing is captured unless something `changed`, or was asked for. `named` is
    called as soon as the newest snapshot names what was captured, `committed` when all about it is done.
    """

    def __init__(
        self,
        snapshots: Snapshots,
        config: Config,
        clock: Clock,
        *,
        between: asyncio.Lock,
        uncommitted: Uncommitted,
        capture: Callable[[], Awaitable[Capture | None]],
        named: Callable[[], None],
        committed: Callable[[], None],
    ) -> None:
        self._snapshots = snapshots
        self._config = config
        self._clock = clock
        self._between = between
        self._uncommitted = uncommitted
        self._capture = capture
        self._named = named
        self._committed = committed
        self._due = asyncio.Event()
        self._over = asyncio.Event()
        self._ending = False
        self._waiting: list[tuple[asyncio.Future[Manifest], str | None]] = []
        self._answering: list[tuple[asyncio.Future[Manifest], str | None]] = []
        self._captured_at = clock.monotonic()
        self._pace = Pace(config.snapshot_interval_ms / 1000, began=self._captured_at)
        self._written_before = 0
        self.changed = False
        """Whether there is something to be captured; taken back by whoever captures it."""
        self.count = 0
        """Snapshots that were committed."""
        self.seconds = 0.0
        """How long the last one took, from its barrier until it was committed."""
        self.bytes = 0
        """How much was written for it, since the one before."""

    async def take(self, keep: str | None) -> Manifest:
        """The manifest of a snapshot whose barrier is after this call, kept under a name if one is given.

        Raises `RunStopped` if the run ends first.
        """
        if self._over.is_set():
            raise RunStopped("the run has ended")
        answer: asyncio.Future[Manifest] = asyncio.get_running_loop().create_future()
        self._waiting.append((answer, keep))
        self._due.set()
        return await answer

    def hurry(self) -> None:
        """The next snapshot does not wait for its tick."""
        self._due.set()

    def step(self) -> None:
        """Says that an epoch was stepped."""
        self.changed = True
        self._uncommitted.change()
        if self._config.snapshot_interval_ms == 0:
            self._due.set()

    async def end(self) -> None:
        """Takes the last snapshot and returns when it is committed."""
        self._ending = True
        self._due.set()
        await self._over.wait()

    def fail(self, error: BaseException | None) -> None:
        """Answers whoever still waits that the run has ended."""
        for answer, _ in (*self._waiting, *self._answering):
            if not answer.done():
                stopped = RunStopped("the run ended before its snapshot was committed")
                stopped.__cause__ = error
                answer.set_exception(stopped)

    async def run(self) -> None:
        """Takes snapshots until `end`. Raises what writing them raises."""
        await self._snapshots.sweep()
        while not self._ending:
            await self._until_due()
            await self._turn()
        # Who asked for one before the end has it, under any name; whoever asks later has not.
        for _ in range(max(1, len({name for _, name in self._waiting}))):
            await self._turn()
        self._over.set()
        self.fail(None)

    async def _until_due(self) -> None:
        pause = self._pace.remaining(self._clock.monotonic())
        with anyio.move_on_after(min(pause, self._tick) if self._snapshots.keeps_caches else pause):
            await self._due.wait()
        least = self._captured_at + self._config.backend.shortest_interval_ms / 1000 - self._clock.monotonic()
        if least > 0 and not self._ending:
            await anyio.sleep(least)
        self._due.clear()

    @property
    def _tick(self) -> float:
        """Seconds between commits of caches alone."""
        shortest, interval = self._config.backend.shortest_interval_ms, self._config.snapshot_interval_ms
        return max(shortest, interval) / 1000 if interval else _TICK

    async def _barrier(self) -> None:
        """Returns when the dataflow stands between two epochs, with `between` held."""
        patience = min(self._tick, _PATIENCE) if self._config.snapshot_interval_ms else self._tick
        while self._snapshots.keeps_caches:
            with anyio.move_on_after(patience):
                await self._between.acquire()
                return
            await self._snapshots.write_caches()
            patience = self._tick
        await self._between.acquire()

    async def _turn(self) -> None:
        self._captured_at = self._clock.monotonic()
        self._pace.took(self._captured_at)
        if not (self.changed or self._waiting):
            # The first epoch of a run may take its time as well.
            if self._between.locked() and self._snapshots.keeps_caches:
                await self._snapshots.write_caches()
            return
        await self._barrier()
        try:
            keep = next((name for _, name in self._waiting if name is not None), None)
            # A snapshot is given one name: who asks for another one has the next.
            self._answering = [waiter for waiter in self._waiting if waiter[1] in (None, keep)]
            self._waiting = [waiter for waiter in self._waiting if waiter[1] not in (None, keep)]
            self.changed = False
            capture = await self._capture()
            if capture is None:
                self.fail(None)
                return
            self._uncommitted.capture()
        finally:
            self._between.release()
        manifest = await self._snapshots.write(capture, committed=self._named, keep=keep)
        self._uncommitted.commit()
        self._committed()
        self.count += 1
        self.seconds = self._clock.monotonic() - self._captured_at
        written = self._snapshots.state_bytes + self._snapshots.log_bytes
        self.bytes, self._written_before = written - self._written_before, written
        for answer, _ in self._answering:
            if not answer.done():
                answer.set_result(manifest)
        self._answering = []
        if self._waiting:
            self._due.set()
