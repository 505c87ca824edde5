"""Killed at every call of the store, or without power at calls of the disk: no answer that was written is lost."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from asyncpersist.checkpoint.root import Root
from asyncpersist.disk import Disk
from asyncpersist.objectstore.contract import ObjectStore
from asyncpersist.objectstore.filesystem import FilesystemStore
from asyncpersist.objectstore.memory import MemoryStore
from asyncpersist.testing.clocks import ManualClock
from asyncpersist.testing.power import LossyDisk, PowerCut
from tests.checkpoint.mortal import Killed, Mortal
from tests.checkpoint.test_crashes import Quick
from tests.runtime.cached import CachingRun, found


async def make_ready(store: ObjectStore) -> dict[int, int]:
    """A root with answers that are named, answers of a run that was killed, and of one that was fenced; all of them."""
    first = await CachingRun.start(store, ManualClock(seed=1), retain=2)
    await first.answer(k1=1, k2=1)
    await first.write()
    await first.answer(k2=2, k3=1)
    second = await CachingRun.start(store, ManualClock(seed=2), takeover=True)
    await first.answer(k4=1)
    await second.answer(k5=1)
    first.kill()
    second.kill()
    return {1: 1, 2: 2, 3: 1, 4: 1, 5: 1}


async def work(store: ObjectStore, told: dict[int, int], begun: dict[int, int]) -> None:
    """One run from its claim to its end. `told` gets what was said to be written, `begun` what may have been."""
    run = None
    try:
        run = await CachingRun.start(store, ManualClock(seed=8), retain=1)
        await run.snapshots.sweep()
        for n in range(3):
            more = {10 + n: n, 10: n}
            begun |= more
            await run.answer(**{f"k{key}": value for key, value in more.items()})
            told |= more
            if n == 0:
                await run.snapshots.write_caches()
            elif n < 2:
                await run.write()
        run.cache.table.put(99, 0)
        begun[99] = 0
        await run.snapshots.give_up()
    finally:
        if run is not None:
            run.kill()


def check(there: dict[int, int], before: dict[int, int], told: dict[int, int], begun: dict[int, int]) -> None:
    """All is there that was, and that was told; what else is there was begun."""
    assert {key: there.get(key) for key in before} == before
    for key, value in told.items():
        assert value <= there.get(key, -1) <= begun[key], key
    assert there.keys() <= before.keys() | begun.keys()


async def go_on(store: ObjectStore) -> None:
    """A run that commits once; in the end nothing lies about."""
    there = await found(store, ManualClock())
    run = await CachingRun.start(store, ManualClock(seed=9), retain=1)
    assert run.cache.table.values == there
    await run.snapshots.sweep()
    assert await found(store, ManualClock()) == there
    await run.write()
    await run.snapshots.sweep()
    await run.snapshots.release()
    root = await Root.open(store, clock=ManualClock())
    assert await root.verify() == []
    assert await found(store, ManualClock()) == there
    needed = {m.key for m in root.chain}.union(*(m.names() for m in root.chain))
    assert {entry.key for entry in await store.list()} == needed | {"asyncpersist.json"}


async def test_a_kill_at_every_call_of_the_store() -> None:
    ready: dict[str, bytes] = {}
    before = await make_ready(MemoryStore(ready))
    calls, over = 0, False
    while not over:
        calls += 1
        objects, left = dict(ready), calls

        def dies() -> bool:
            nonlocal left
            left -= 1
            return left < 0

        told: dict[int, int] = {}
        begun: dict[int, int] = {}
        try:
            await work(Mortal(MemoryStore(objects), dies), told, begun)
            over = left >= 0
        except Killed:
            pass
        store = MemoryStore(objects)
        check(await found(store, ManualClock()), before, told, begun)
        if over or calls % 3 == 0:
            await go_on(store)
    assert calls > 50


async def test_power_cuts(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path / "ready", Quick())
    before = await make_ready(store)
    await store.aclose()
    cut_at, over, seed = 0, False, random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    while not over:
        cut_at += rng.randint(1, 9)
        path = tmp_path / str(cut_at)
        shutil.copytree(tmp_path / "ready", path)
        disk = LossyDisk(path, cut_at)
        told: dict[int, int] = {}
        begun: dict[int, int] = {}
        over = await _cut(path, disk, told, begun)
        disk.lose(rng)
        store = FilesystemStore(path, Quick())
        check(await found(store, ManualClock()), before, told, begun)
        await go_on(store)
        await store.aclose()
    assert cut_at > 50


async def _cut(path: Path, disk: Disk, told: dict[int, int], begun: dict[int, int]) -> bool:
    """Whether the power held until the end."""
    store = FilesystemStore(path, disk)
    try:
        await work(store, told, begun)
    except PowerCut:
        return False
    finally:
        await store.aclose()
    return True
