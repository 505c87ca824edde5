"""Collectors that are stopped after their commit, before or in the middle of deleting, and wake up late.

Whatever was committed meanwhile, by other runs or between runs, no manifest that is kept names anything they delete.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta

import pytest

from asyncpersist.checkpoint.naming import drop_name, give_name
from asyncpersist.checkpoint.prune import prune
from asyncpersist.checkpoint.restore import restore
from asyncpersist.checkpoint.root import Root
from asyncpersist.errors import DamagedState, StateError
from asyncpersist.objectstore.memory import MemoryStore
from asyncpersist.testing.clocks import ManualClock
from tests.amounts import TIMES
from tests.checkpoint.mortal import Inline, Killed, Mortal
from tests.checkpoint.runs import Run, items

NAMES = ("x", "y")
WORLDS = 80 * TIMES


class Stalling(Mortal):
    """A process's way to a store. If it is `stopped`, it stops where it would delete, and `held` is what it would."""

    def __init__(self, inner: MemoryStore) -> None:
        super().__init__(inner, lambda: False)
        self.held: list[str] = []
        self.stopped = False

    async def delete(self, keys: Iterable[str]) -> None:
        if not self.stopped:
            return await super().delete(keys)
        self.held = [*keys]
        raise Killed


class World:
    """A root, those who write to it one after the other, and what each of them was told to be there."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.clock = ManualClock(seed=seed)
        self.store = MemoryStore()
        self.asleep: list[Stalling] = []
        self.texts: dict[int, list[str]] = {}
        """By its sequence, what each manifest holds."""
        self.names: dict[str, int] = {}
        self.seen: Counter[str] = Counter()
        self._count = 0

    async def live(self) -> None:
        deeds: list[Callable[[Stalling], Awaitable[None]]] = [
            self._run,
            self._run,
            self._restore,
            self._give_name,
            self._drop_name,
            self._prune,
        ]
        await self._run(Stalling(self.store))
        for _ in range(12):
            process = Stalling(self.store)
            process.stopped = self.rng.random() < 0.6
            try:
                await self.rng.choice(deeds)(process)
            except Killed:
                self.seen["stalled"] += 1
                self.asleep.append(process)
            await self._look()
            if self.asleep and self.rng.random() < 0.4:
                await self._wake()
                await self._look()
        while self.asleep:
            await self._wake()
            await self._look()

    async def _wake(self) -> None:
        keys = self.asleep.pop(self.rng.randrange(len(self.asleep))).held
        self.rng.shuffle(keys)
        self.seen["deleted late"] += len(keys)
        await self.store.delete(keys)

    async def _run(self, process: Stalling) -> None:
        run = await Run.start(process, self.clock, takeover=True, retain=self.rng.choice([1, 2, 4]))
        before = await items(run.root)
        self.texts[run.head.sequence] = before
        try:
            if self.rng.random() < 0.5:
                await run.root.sweep()
            for _ in range(self.rng.randint(0, 4)):
                self._count += 1
                self.clock.advance(10)
                text, replaces = str(self._count), self.rng.random() < 0.4
                name = self.rng.choice(NAMES) if self.rng.random() < 0.3 else None
                await run.append(text, replace=replaces, keep=name)
                before = [text] if replaces else [*before, text]
                self.texts[run.head.sequence] = before
                if name is not None:
                    self.names[name] = run.head.sequence
                if self.rng.random() < 0.7:
                    await run.root.collect()
            if self.rng.random() < 0.5:
                await run.root.release()
        finally:
            self.texts[run.head.sequence] = before
            run.root.abandon()

    async def _restore(self, process: Stalling) -> None:
        sequence = await self._any()
        try:
            manifest = await restore(process, sequence, clock=self.clock, takeover=True)
        except DamagedState as exc:
            if "expired" not in str(exc):
                raise
            self.seen["refused"] += 1
            return
        self.seen["restored"] += 1
        self.texts[manifest.sequence] = self.texts[sequence]

    async def _give_name(self, process: Stalling) -> None:
        name = self.rng.choice(NAMES)
        sequence = await self._any()
        before = await self._head()
        try:
            manifest = await give_name(process, name, sequence, clock=self.clock, takeover=True)
        except DamagedState as exc:
            if "expired" not in str(exc) and "missing" not in str(exc):
                raise
            self.seen["refused"] += 1
            return
        self.seen["named"] += 1
        self.names[name] = sequence
        self.texts[manifest.sequence] = before

    async def _drop_name(self, process: Stalling) -> None:
        before = await self._head()
        name = self.rng.choice(NAMES)
        try:
            manifest = await drop_name(process, name, clock=self.clock, takeover=True)
        except StateError:
            assert name not in self.names
            return
        del self.names[name]
        self.texts[manifest.sequence] = before

    async def _prune(self, process: Stalling) -> None:
        before, newest = await self._head(), max(await self._sequences())
        try:
            await prune(
                process,
                clock=self.clock,
                retain_snapshots=self.rng.choice([None, 1, 2]),
                retain_for=self.rng.choice([None, timedelta(seconds=25)]),
                takeover=True,
            )
        finally:
            for sequence in await self._sequences():
                if sequence > newest:
                    self.texts[sequence] = before

    async def _any(self) -> int:
        return self.rng.choice(sorted(await self._sequences()))

    async def _sequences(self) -> set[int]:
        return {int(entry.key[-17:-5]) for entry in await self.store.list("manifests/")}

    async def _head(self) -> list[str]:
        return await items(await Root.open(self.store, clock=self.clock))

    async def _look(self) -> None:
        """All that is kept is whole and holds what it held when it was written; all names are there."""
        root = await Root.open(self.store, clock=self.clock)
        assert root.head is not None
        stay = (*root.chain, *root.pinned)
        for manifest in stay:
            assert await items(root, manifest) == self.texts[manifest.sequence], manifest.sequence
        assert root.head.keep == self.names
        assert set(self.names.values()) <= {manifest.sequence for manifest in stay}


async def test_a_collector_that_wakes_up_late_destroys_nothing() -> None:
    asyncio.get_running_loop().set_default_executor(Inline())
    seen: Counter[str] = Counter()
    for seed in range(WORLDS):
        world = World(seed)
        try:
            await world.live()
        except BaseException as exc:
            exc.add_note(f"the world: World({seed})")
            raise
        seen += world.seen
    # Of each in a world, a good half of what there was when this was written.
    for what, least in {"stalled": 1.53, "deleted late": 6.6, "refused": 0.2, "restored": 0.8, "named": 0.86}.items():
        assert seen[what] >= least * WORLDS, f"{what}: {seen[what]} times in {WORLDS} worlds"


async def test_what_a_restored_snapshot_names_was_not_condemned_two_commits_ago(clock: ManualClock) -> None:
    """The collector sleeps since before a restore of something else; that restore does not make it forgotten."""
    store = MemoryStore()
    process = Stalling(store)
    run = await Run.start(process, clock, retain=1)
    for text in "abc":
        await run.append(text, replace=True)
    process.stopped = True
    with pytest.raises(Killed):
        await run.root.collect()
    run.root.abandon()
    assert any(key.startswith("objects/") for key in process.held)
    old, younger = 2, 3
    await restore(store, younger, clock=clock)
    with pytest.raises(DamagedState, match="has expired"):
        await restore(store, old, clock=clock)
    with pytest.raises(DamagedState, match="has expired"):
        await give_name(store, "x", old, clock=clock)
    await store.delete(process.held)
    assert await items(await Root.open(store, clock=clock)) == ["b"]
