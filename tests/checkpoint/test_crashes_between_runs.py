"""Killed, or without power, at every call of the disk while naming, restoring or pruning: the root is good, and the
same can be done again."""

from __future__ import annotations

import asyncio
import random
import shutil
from pathlib import Path

import pytest

from asyncpersist.checkpoint.naming import drop_name, give_name
from asyncpersist.checkpoint.prune import prune
from asyncpersist.checkpoint.restore import restore
from asyncpersist.checkpoint.root import Root
from asyncpersist.disk import Disk
from asyncpersist.objectstore.filesystem import FilesystemStore
from asyncpersist.testing.clocks import ManualClock
from asyncpersist.testing.disks import CountingDisk
from asyncpersist.testing.power import LossyDisk, PowerCut
from tests.amounts import PLACES, TIMES
from tests.checkpoint.mortal import Inline
from tests.checkpoint.runs import Run, items
from tests.checkpoint.test_crashes import Quick, assert_no_leftovers, litter
from tests.killed import kill, kills

DEEDS = ("give", "drop", "restore", "prune")
MADE = {"give": ["e"], "drop": ["e"], "restore": ["c"], "prune": ["e"]}
"""What the head holds once it is done; before, it is e."""


async def make_ready(path: Path) -> None:
    """Five snapshots of which three are kept for their age and one for its name, and what killed runs left."""
    store = FilesystemStore(path, Quick())
    run = await Run.start(store, ManualClock(), retain=3)
    for text in "abcde":
        await run.append(text, replace=True, keep="first" if text == "a" else None)
        await run.root.collect()
    await run.root.release()
    await store.aclose()
    await litter(path)


async def do(deed: str, path: Path, disk: Disk, seed: int = 5) -> None:
    store = FilesystemStore(path, disk)
    clock = ManualClock(seed=seed)
    try:
        if deed == "give":
            await give_name(store, "newest", clock=clock)
        elif deed == "drop":
            await drop_name(store, "first", clock=clock)
        elif deed == "restore":
            await restore(store, 4, clock=clock)
        else:
            await prune(store, clock=clock, retain_snapshots=1)
    finally:
        await store.aclose()


async def look(path: Path, deed: str) -> tuple[list[str], bool]:
    """What the head holds, and whether the deed was committed. All that is kept is whole."""
    store = FilesystemStore(path)
    root = await Root.open(store, clock=ManualClock())
    assert root.head is not None
    for manifest in (*root.chain, *root.pinned):
        assert await root.verify(manifest) == []
    held = {m.sequence: await items(root, m) for m in (*root.chain, *root.pinned)}
    names = {name: held[sequence] for name, sequence in root.head.keep.items()}
    texts = await items(root)
    done = {
        "give": "newest" in names,
        "drop": "first" not in names,
        "restore": texts == ["c"],
        "prune": len(root.chain) == 2,
    }[deed]
    assert texts == (MADE[deed] if done else ["e"])
    assert names.get("first") == (None if deed == "drop" and done else ["a"])
    assert names.get("newest") in (None, ["e"])
    await store.aclose()
    return texts, done


async def go_on(path: Path, deed: str) -> None:
    """Looks, does it again if it was not done, and goes on with a run; in the end nothing lies about."""
    texts, done = await look(path, deed)
    if not done:
        await do(deed, path, Quick(), seed=6)
        texts, done = await look(path, deed)
        assert done
    store = FilesystemStore(path, Quick())
    run = await Run.start(store, ManualClock(seed=7), retain=2)
    await run.root.sweep()
    assert await items(run.root) == texts
    await run.append("z")
    await run.root.collect()
    await run.root.release()
    root = await Root.open(store, clock=ManualClock())
    assert await items(root) == [*texts, "z"]
    for manifest in root.pinned:
        assert await root.verify(manifest) == []
    assert len(root.pinned) == len({*run.head.keep.values()} - {m.sequence for m in root.chain})
    await store.aclose()
    await assert_no_leftovers(path)


@pytest.mark.parametrize("deed", DEEDS)
async def test_a_power_cut_at_every_call(tmp_path: Path, deed: str) -> None:
    asyncio.get_running_loop().set_default_executor(Inline())
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    await make_ready(tmp_path / "ready")
    cut_at, over = 0, False
    while not over:
        cut_at += 1
        for chance in range(TIMES):
            path = tmp_path / f"{cut_at}-{chance}"
            shutil.copytree(tmp_path / "ready", path)
            disk = LossyDisk(path, cut_at)
            try:
                await do(deed, path, disk)
                over = True
            except PowerCut:
                pass
            disk.lose(random.Random(f"{seed} {cut_at} {chance}"))
            if over:
                assert (await look(path, deed))[1], "what was reported as done is done"
            await go_on(path, deed)
    assert cut_at > 5


async def do_it(path: Path, disk: Disk, deed: str) -> None:
    await do(deed, path, disk)


async def test_a_kill_at_every_call(tmp_path: Path) -> None:
    asyncio.get_running_loop().set_default_executor(Inline())
    await make_ready(tmp_path / "ready")
    deaths = []
    for deed in DEEDS:
        shutil.copytree(tmp_path / "ready", tmp_path / deed / "count")
        counting = CountingDisk()
        await do(deed, tmp_path / deed / "count", counting)
        deaths += kills(tmp_path / deed, counting.log, PLACES, deed)
    for death in deaths:
        shutil.copytree(tmp_path / "ready", death.path)
    kill(f"{__name__}:{do_it.__name__}", deaths)
    for death in deaths:
        await go_on(Path(death.path), *death.arguments)
