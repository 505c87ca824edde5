"""Killed, or without power, at every call of the disk: what is found afterwards is the old content or the new."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from pathlib import Path

import pytest

from asyncpersist.checkpoint.root import Root
from asyncpersist.disk import Disk
from asyncpersist.objectstore.filesystem import FilesystemStore
from asyncpersist.testing.clocks import ManualClock
from asyncpersist.testing.disks import CountingDisk
from asyncpersist.testing.power import LossyDisk, PowerCut
from tests.amounts import PLACES, TIMES
from tests.checkpoint.mortal import Inline
from tests.checkpoint.runs import Run, items
from tests.killed import kill, kills


async def work(path: Path, disk: Disk, seed: int, told: list[str]) -> None:
    """Claims, sweeps, commits three snapshots with collections, writes what none names, and releases.

    `told` gets the items known to be committed.
    """
    store = FilesystemStore(path, disk)
    run = None
    try:
        run = await Run.start(store, ManualClock(seed=seed), retain=1)
        await run.root.sweep()
        for n in range(3):
            item = f"{seed}.{n}"
            await run.append(item)
            told.append(item)
            await run.root.collect()
        await run.put("never named")
        await run.root.release(clean=False)
    finally:
        if run is not None:
            run.root.abandon()
        await store.aclose()


class Quick(Disk):
    """A disk that nobody will cut from its power."""

    def fsync(self, fd: int) -> None:
        pass

    def fsync_directory(self, path: Path) -> None:
        pass


async def found(path: Path) -> list[str]:
    store = FilesystemStore(path)
    root = await Root.open(store, clock=ManualClock())
    assert await root.verify() == []
    texts = await items(root)
    await store.aclose()
    return texts


async def litter(path: Path) -> None:
    """What runs that were killed leave: objects that nobody names. Another process may claim the root afterwards."""
    store = FilesystemStore(path, Quick())
    for seed in range(3):
        run = await Run.start(store, ManualClock(seed=seed))
        await run.put("never named")
        run.root.abandon()
    await (await Run.start(store, ManualClock(seed=3))).root.release()
    await store.aclose()


async def assert_no_leftovers(path: Path) -> None:
    """After the end of a run there is what the next one needs, and nothing else."""
    store = FilesystemStore(path)
    root = await Root.open(store, clock=ManualClock())
    stay = (*root.chain, *root.pinned)
    kept = {m.key for m in stay}.union(*(m.names() for m in stay))
    assert {entry.key for entry in await store.list()} == {"asyncpersist.json"} | kept
    await store.aclose()


def check(texts: list[str], before: list[str], told: list[str], seed: int) -> None:
    """The content is what was there before and a first part of this run's items, all it was told of among them."""
    mine = texts[len(before) :]
    assert texts[: len(before)] == before
    assert mine == [f"{seed}.{n}" for n in range(len(mine))]
    assert mine[: len(told)] == told


@pytest.mark.parametrize("fresh", [True, False])
async def test_a_power_cut_at_every_call(tmp_path: Path, fresh: bool) -> None:
    asyncio.get_running_loop().set_default_executor(Inline())
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    cut_at = 0
    before: list[str] = []
    (tmp_path / "ready").mkdir()
    if not fresh:
        await work(tmp_path / "ready", Quick(), 7, before)
        await litter(tmp_path / "ready")
    while True:
        cut_at += 1
        for chance in range(TIMES):
            path = tmp_path / f"{cut_at}-{chance}"
            shutil.copytree(tmp_path / "ready", path)
            disk = LossyDisk(path, cut_at)
            told: list[str] = []
            over = False
            try:
                await work(path, disk, 8, told)
                over = True
            except PowerCut:
                pass
            disk.lose(random.Random(f"{seed} {cut_at} {chance}"))
            texts = await found(path)
            check(texts, before, told, 8)
            told = []
            await work(path, Quick(), 9, told)
            check(await found(path), texts, told, 9)
            await assert_no_leftovers(path)
        if over:
            break
    assert cut_at > 50


async def work_and_tell(path: Path, disk: Disk) -> None:
    """`work` in a process of its own, with what it is told in a file beside `path`."""

    class Told(list[str]):
        def append(self, item: str) -> None:
            os.write(file, f"{item} ".encode())

    file = os.open(f"{path}.told", os.O_WRONLY | os.O_CREAT)
    await work(path, disk, 8, Told())


async def test_a_kill_at_every_call(tmp_path: Path) -> None:
    asyncio.get_running_loop().set_default_executor(Inline())
    counting = CountingDisk()
    before: list[str] = []
    await work(tmp_path / "ready", Quick(), 7, before)
    await litter(tmp_path / "ready")
    shutil.copytree(tmp_path / "ready", tmp_path / "count")
    await work(tmp_path / "count", counting, 8, [])
    deaths = kills(tmp_path, counting.log, PLACES)
    assert len(deaths) > 50
    for death in deaths:
        shutil.copytree(tmp_path / "ready", death.path)
    kill(f"{__name__}:{work_and_tell.__name__}", deaths)
    for death in deaths:
        path = Path(death.path)
        texts = await found(path)
        check(texts, before, Path(f"{path}.told").read_text().split(), 8)
        root = await Root.open(FilesystemStore(path), clock=ManualClock())
        assert (await root.owner_state()).proven_gone
        told: list[str] = []
        await work(path, Quick(), 9, told)
        check(await found(path), texts, told, 9)
        await assert_no_leftovers(path)
