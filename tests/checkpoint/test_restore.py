"""Going back to an older snapshot."""

from __future__ import annotations

import pytest

from asyncpersist.checkpoint.layout import manifest_key
from asyncpersist.checkpoint.restore import restore
from asyncpersist.checkpoint.root import Root
from asyncpersist.errors import DamagedState, Fenced, StateInUse
from asyncpersist.objectstore.memory import MemoryStore
from tests.checkpoint.runs import Run, items


async def written(store: MemoryStore, clock) -> Run:
    run = await Run.start(store, clock)
    for item in "abc":
        await run.append(item)
    return run


async def test_a_damaged_snapshot_is_left_behind(clock) -> None:
    store = MemoryStore()
    run = await written(store, clock)
    run.root.abandon()
    await store.put(manifest_key(4), b"garbage")
    with pytest.raises(DamagedState, match="restore memory --to 3`"):
        await Root.open(store, clock=clock)
    await restore(store, 3, clock=clock)
    run = await Run.start(store, clock)
    assert await items(run.root) == ["a", "b"]
    await run.append("d")
    await run.root.collect()
    assert await items(await Root.open(store, clock=clock)) == ["a", "b", "d"]
    stored = {entry.key for entry in await store.list()} - {"asyncpersist.json"}
    assert stored == {m.key for m in run.root.chain} | run.head.names()
    run.root.abandon()


async def test_a_run_that_goes_on_is_not_overrun_but_can_be_deposed(clock) -> None:
    store = MemoryStore()
    run = await written(store, clock)
    with pytest.raises(StateInUse, match="in use by"):
        await restore(store, 2, clock=clock)
    await restore(store, 2, clock=clock, takeover=True)
    with pytest.raises(Fenced):
        await run.append("x")
    run.root.abandon()
    root = await Root.open(store, clock=clock)
    assert await items(root) == ["a"]
    await root.claim(mode="M", access="A")
    assert not root.exclusive
    root.abandon()


async def test_a_restored_root_fences_every_earlier_writer(clock) -> None:
    store = MemoryStore()
    (await written(store, clock)).root.abandon()
    last = await Run.start(store, clock)
    last.root.abandon()
    restored = await restore(store, 2, clock=clock)
    assert restored.generation > last.head.generation
    assert restored.sequence > last.head.sequence


async def test_what_cannot_be_restored_is_said_and_nothing_written(clock) -> None:
    store = MemoryStore()
    run = await written(store, clock)
    run.root.abandon()
    await store.delete([run.head.streams["s"][1].key])
    before = await store.list()
    with pytest.raises(DamagedState, match="no snapshot 9; it has 1, 2, 3, 4"):
        await restore(store, 9, clock=clock)
    with pytest.raises(DamagedState, match=r"the snapshot 3 needs objects/.* missing"):
        await restore(store, 3, clock=clock)
    assert await store.list() == before
    await restore(store, 2, clock=clock)
    assert await items(await Root.open(store, clock=clock)) == ["a"]


async def test_one_that_is_due_to_be_deleted_is_refused(clock) -> None:
    store = MemoryStore()
    run = await Run.start(store, clock, retain=1)
    for item in "abcd":
        await run.append(item, replace=True)
    before = await store.list()
    assert manifest_key(2) in {entry.key for entry in before}, "nothing was collected yet"
    with pytest.raises(DamagedState, match="expired"):
        await restore(store, 2, clock=clock, takeover=True)
    assert await store.list() == before
    run.root.abandon()
