"""Seeded schedules: two writers of one job, their collectors and a reader, over a store with every fault there is.

The job numbers its rows from 0 on and goes on where the head says that it is, so that a row written twice, lost, or
written by a run that had lost the root shows in the numbers. Each row says which run wrote it, so that what a run was
told to be committed can be told from what another put in its place. Every row goes into two streams, as two pieces
of one object. Beside them runs write answers, which count whether they come to commit them or not.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence

from asyncpersist.checkpoint.manifest import Manifest
from asyncpersist.checkpoint.root import Root
from asyncpersist.errors import DamagedState, StoreUnavailable
from asyncpersist.objectstore.contract import ObjectStore
from asyncpersist.objectstore.limited import LimitedStore
from asyncpersist.objectstore.memory import MemoryStore
from asyncpersist.objectstore.retrying import RetryingStore
from asyncpersist.testing.clocks import ManualClock
from asyncpersist.testing.stores import FaultyStore, Outcome
from tests.checkpoint.mortal import Inline, Killed, Mortal
from tests.checkpoint.scheduled_run import STREAMS, ScheduledRun, answers_of, number_of, rows_of

__all__ = ["Schedule"]

FAULTS = [outcome for outcome in Outcome if outcome is not Outcome.DONE]
CORRUPTING = {Outcome.SHORT_READ, Outcome.FLIPPED_BIT}


class Schedule:
    """One of them. `wrapped`: every process has its own `RetryingStore(LimitedStore(...))` before the faults."""

    def __init__(self, seed: int, *, wrapped: bool) -> None:
        self.rng = random.Random(seed)
        self.wrapped = wrapped
        self.inner = MemoryStore()
        self.clock = ManualClock(seed=seed)
        self.network = FaultyStore(self.inner, self._fate, latency=self._dawdle)
        self.kinds = FAULTS if self.rng.random() < 0.4 else self.rng.sample(FAULTS, self.rng.randint(0, 3))
        self.rate = self.rng.choice([0.02, 0.1, 0.2, 0.4]) if self.kinds else 0.0
        self.corrupting = not CORRUPTING.isdisjoint(self.kinds)
        self.reported: dict[int, str] = {}
        """By its number, every row that a run was told is committed."""
        self.named: dict[str, int] = {}
        """By its name, the sequence of the newest snapshot that a run was told is kept by it."""
        self.answered: list[str] = []
        """Every answer that a run was told is written."""
        self.seen: Counter[str] = Counter()
        """What happened, by what to call it."""
        self._running = 0

    async def run(self) -> None:
        """Two writers until both have ended, with a reader beside them; then everything is looked at in peace."""
        asyncio.get_running_loop().set_default_executor(Inline())
        self._running = 2
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write("a"))
            group.create_task(self._write("b"))
            group.create_task(self._read())
        await self.network.settle()
        await self._look_at_the_end()

    # The weather

    def _fate(self, method: str, key: str) -> Outcome:
        return self.rng.choice(self.kinds) if self.rng.random() < self.rate else Outcome.DONE

    async def _dawdle(self, method: str, key: str) -> None:
        for _ in range(self.rng.choice([0, 0, 1, 3, 20]) if self.rng.random() < 0.99 else 200):
            await asyncio.sleep(0)

    def _store(self, *, mortality: float = 0.0) -> ObjectStore:
        """A process's view of the store."""
        mortal = Mortal(self.network, lambda: mortality > 0 and self.rng.random() < mortality)
        if not self.wrapped:
            return mortal
        return RetryingStore(LimitedStore(mortal, requests=2), deadline=self.rng.choice([1.0, 30.0]), clock=self.clock)

    # A writer

    async def _write(self, name: str) -> None:
        try:
            for number in range(4):
                run = ScheduledRun(self, f"{name}{number}", self._store(mortality=self.rng.choice([0.0, 0.01])))
                try:
                    await run.live()
                except Killed:
                    self.seen["killed"] += 1
        finally:
            self._running -= 1

    def report(self, rows: Sequence[str]) -> None:
        """A run was told that these are committed."""
        self.seen["commits reported"] += 1
        for row in rows:
            before = self.reported.setdefault(number_of(row), row)
            assert before == row, f"{before} was reported as committed, and {row} as well"

    def report_answer(self, text: str) -> None:
        """A run was told that this is written."""
        self.seen["answers reported"] += 1
        self.answered.append(text)

    def report_name(self, name: str, root: Root) -> None:
        """A run was told that its newest snapshot is kept by that name."""
        assert root.head is not None
        self.seen["names reported"] += 1
        self.named[name] = max(self.named.get(name, 0), root.head.sequence)

    async def check_fenced(self, mine: Manifest) -> None:
        """A run was told that it has lost the root."""
        self.seen["fenced"] += 1
        root = await Root.open(self.inner, clock=self.clock)
        assert root.head is not None
        assert root.head.generation > mine.generation, f"{mine.owner.run} was told that it lost the root, and had not"

    # A reader

    async def _read(self) -> None:
        while self._running:
            await self._dawdle("", "")
            reported = dict(self.reported)
            root = None
            try:
                root = await Root.open(self._store(), clock=self.clock)
                await self._check(root, reported)
                self.seen["reads"] += 1
            except StoreUnavailable:
                continue
            except DamagedState:
                if not self.corrupting:
                    # An object may only be gone if the snapshot that names it is out of date.
                    newest = await Root.open(self.inner, clock=self.clock)
                    if root is None or root.head is None or newest.head is None:
                        raise
                    if newest.head.sequence <= root.head.sequence:
                        raise
                self.seen["damage found by the reader"] += 1

    async def _check(self, root: Root, reported: dict[int, str]) -> None:
        """Every row of the head is there once in each stream, in order, and those of `reported` as they were."""
        count = 0 if root.head is None else root.head.progress.get("rows", 0)
        for stream in STREAMS:
            refs = [] if root.head is None else root.head.streams.get(stream, [])
            rows = [row for ref in refs for row in await rows_of(root, stream, ref)]
            assert [number_of(row) for row in rows] == list(range(count)), f"{stream} holds {rows}, not {count} rows"
            lost = [row for number, row in reported.items() if number >= count or rows[number] != row]
            assert not lost, f"{lost} were reported as committed, and {stream} holds {rows}"

    # In the end

    async def _look_at_the_end(self) -> None:
        """By the store itself, without faults."""
        root = await Root.open(self.inner, clock=self.clock)
        await self._check(root, self.reported)
        await self._check_names(root)
        await self._check_answers(root)
        for manifest in (*root.chain, *root.pinned):
            assert await root.verify(manifest) == [], f"the snapshot {manifest.sequence} cannot be restored"
        last = ScheduledRun(self, "z", self.inner)
        await last.claim(takeover=False)
        await last.root.sweep()
        await last.adopt()
        for _ in range(self.rng.randint(0, 3)):
            await last.step()
            await last.collected()
        await last.commit_caches()
        await last.root.release()
        await last.end()
        await self._check(await Root.open(self.inner, clock=self.clock), self.reported)
        if not last.steps:  # What was only passed over is left to the next sweep.
            last = ScheduledRun(self, "z", self.inner)
            await last.claim(takeover=False)
            await last.root.sweep()
            await last.root.release()
        await self._check_names(last.root)
        await self._check_answers(last.root)
        stay = (*last.root.chain, *last.root.pinned)
        kept = {m.key for m in stay}.union(*(m.names() for m in stay))
        stored = {entry.key for entry in await self.inner.list()} - {"asyncpersist.json"}
        assert stored == kept, f"left lying: {stored - kept}; missing: {kept - stored}"

    async def _check_answers(self, root: Root) -> None:
        """What was reported as written is there, once, with nothing else but what was under way."""
        found = await answers_of(root)
        assert len(found) == len(set(found)), f"{sorted(found)} were found, some of them twice"
        # What cannot be read right after several attempts is taken for damaged.
        lost = set(self.answered) - set(found)
        assert self.corrupting or not lost, f"{lost} were reported as written, and {found} were found"

    async def _check_names(self, root: Root) -> None:
        """What was reported as kept by a name is, unless a later one has the name."""
        names = {} if root.head is None else root.head.keep
        there = {manifest.sequence for manifest in (*root.chain, *root.pinned)}
        assert set(names.values()) <= there
        for name, sequence in self.named.items():
            assert names.get(name, 0) >= sequence, f"{name} was reported to be snapshot {sequence}, and is not"
