"""How a run that failed leaves its root: released, with nothing that it wrote and never committed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio
import anyio.lowlevel
import polars as pl
import pytest

from asyncpersist.checkpoint.manifest import ObjectRef
from asyncpersist.checkpoint.ownership import OwnerState
from asyncpersist.checkpoint.root import Root
from asyncpersist.columnar.delta import Delta
from asyncpersist.errors import Fenced
from asyncpersist.objectstore.contract import ObjectStore
from asyncpersist.objectstore.memory import MemoryStore
from asyncpersist.runtime.segments import Capture, LogCut, LogSegment
from asyncpersist.runtime.snapshots import Snapshots
from asyncpersist.testing.clocks import ManualClock
from asyncpersist.testing.stores import FaultyStore, Outcome
from tests.amounts import PATIENCE


class Script:
    """A store that can be told what becomes of its calls from now on."""

    def __init__(self) -> None:
        self.inner = MemoryStore()
        self.decide: Callable[[str, str], Outcome] = lambda method, key: Outcome.DONE
        self.store = FaultyStore(self.inner, self._answer)

    def _answer(self, method: str, key: str) -> Outcome:
        return self.decide(method, key)


async def begin(store: ObjectStore, clock: ManualClock, *, takeover: bool = False) -> tuple[Root, Snapshots]:
    root = await Root.open(store, clock=clock)
    await root.claim(mode="M", access="A", takeover=takeover)
    return root, Snapshots(
        root,
        graph={},
        mode="PERSISTING",
        access="FULL",
        streams={},
        rules={},
        facts={},
        compression="zstd",
        clock=clock,
    )


async def segment(snapshots: Snapshots, n: int) -> ObjectRef:
    return await snapshots.put(
        LogSegment("log/s", [([(n, 1)], Delta(pl.DataFrame({"n": [n]})))], consolidated=False), n
    )


async def commit(snapshots: Snapshots, epoch: int, *refs: ObjectRef) -> None:
    written: list[asyncio.Future[ObjectRef]] = []
    for ref in refs:
        written.append(asyncio.get_running_loop().create_future())
        written[-1].set_result(ref)
    capture = Capture(epoch=epoch, states=[], logs={"log/s": LogCut(written)}, positions={}, progress={})
    await snapshots.write(capture, committed=lambda: None)


async def objects(store: ObjectStore) -> set[str]:
    return {entry.key for entry in await store.list("objects/")}


async def test_what_was_written_ahead_goes_and_the_root_is_free() -> None:
    clock, store = ManualClock(), MemoryStore()
    for n in range(5):
        root, snapshots = await begin(store, clock)
        if n == 0:
            await commit(snapshots, 2, await segment(snapshots, 2))
            committed = await objects(store)
        await segment(snapshots, 4)
        await segment(snapshots, 6)
        await snapshots.give_up()
        assert not root.claimed
        found = await Root.open(store, clock=clock)
        assert await found.owner_state() is OwnerState.RELEASED
        assert found.head is not None
        assert not found.head.ended_cleanly
        assert found.head.epoch == 2
        assert await objects(store) == committed
        assert len(await store.list("manifests/")) == 2


async def test_an_end_that_wrote_no_output_may_be_clean() -> None:
    clock, store = ManualClock(), MemoryStore()
    root, snapshots = await begin(store, clock)
    await snapshots.give_up(clean=True)
    assert root.head is not None
    assert root.head.ended_cleanly


async def test_a_run_that_was_released_or_abandoned_gives_nothing_up() -> None:
    clock, store = ManualClock(), MemoryStore()
    _, snapshots = await begin(store, clock)
    await snapshots.release()
    before = await store.list()
    await snapshots.give_up()
    assert await store.list() == before
    root = await Root.open(store, clock=clock)
    assert root.head is not None
    assert root.head.ended_cleanly


@pytest.mark.parametrize("known", [False, True])
async def test_a_fenced_run_gives_nothing_up(known: bool) -> None:
    clock, store = ManualClock(), MemoryStore()
    root, snapshots = await begin(store, clock)
    mine = await segment(snapshots, 2)
    other, _ = await begin(store, clock, takeover=True)
    if known:
        with pytest.raises(Fenced):
            await root.confirm()
    await snapshots.give_up()
    assert (await Root.open(store, clock=clock)).head == other.head
    assert mine.key in await objects(store)
    assert not root.claimed
    other.abandon()


async def test_a_deposed_run_whose_objects_are_gone_learns_that_it_is_deposed() -> None:
    clock, store = ManualClock(), MemoryStore()
    _, snapshots = await begin(store, clock)
    mine = await segment(snapshots, 2)
    other, others = await begin(store, clock, takeover=True)
    await others.sweep()
    with pytest.raises(Fenced):
        await snapshots.get(mine)
    other.abandon()


@pytest.mark.parametrize("outcome", [Outcome.LOST_REQUEST, Outcome.LOST_ANSWER, Outcome.REFUSED])
async def test_a_store_that_is_down_is_waited_for_until_the_deadline(outcome: Outcome) -> None:
    clock, script = ManualClock(), Script()
    root, snapshots = await begin(script.store, clock)
    mine = await segment(snapshots, 2)
    script.decide = lambda method, key: outcome
    snapshots.deadline = clock.monotonic() + 0.2
    with anyio.fail_after(PATIENCE):
        await snapshots.give_up()
    assert not root.claimed
    assert mine.key in await objects(script.inner)
    # The next run finds what became of it, and what was left.
    root, snapshots = await begin(script.inner, clock)
    await snapshots.sweep()
    assert await objects(script.inner) == set()
    root.abandon()


@pytest.mark.parametrize("outcome", [Outcome.LOST_REQUEST, Outcome.LOST_ANSWER])
async def test_a_snapshot_in_doubt_is_settled_first(outcome: Outcome) -> None:
    clock, script = ManualClock(), Script()
    root, snapshots = await begin(script.store, clock)
    first, second = await segment(snapshots, 2), await segment(snapshots, 4)
    script.decide = lambda method, key: outcome if method == "create" else Outcome.DONE
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            group.start_soon(commit, snapshots, 2, first)
            while not root.in_doubt:
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
    script.decide = lambda method, key: Outcome.DONE
    await snapshots.give_up()
    found = await Root.open(script.inner, clock=clock)
    assert found.head is not None
    assert found.head.names() == {first.key} == await objects(script.inner)
    assert second.key not in found.head.names()


async def test_a_cancelled_caller_does_not_cancel_it() -> None:
    clock, store = ManualClock(), MemoryStore()
    root, snapshots = await begin(store, clock)
    await segment(snapshots, 2)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await snapshots.give_up()
    assert await objects(store) == set()
    assert root.head is not None
    assert root.head.kind == "release"


async def test_a_sweep_in_doubt_is_not_taken_for_the_snapshot() -> None:
    clock, script = ManualClock(), Script()
    root, snapshots = await begin(script.store, clock)
    await segment(snapshots, 2)
    root.abandon()
    root, snapshots = await begin(script.store, clock)
    script.decide = lambda method, key: Outcome.LOST_ANSWER if method == "create" else Outcome.DONE
    await snapshots.sweep()
    assert root.in_doubt
    script.decide = lambda method, key: Outcome.DONE
    ref = await segment(snapshots, 4)
    await commit(snapshots, 4, ref)
    assert root.head is not None
    assert (root.head.kind, root.head.epoch, root.head.names()) == ("snapshot", 4, {ref.key})
    assert await objects(script.inner) == {ref.key}
    root.abandon()


async def test_what_was_merged_before_it_was_named_goes() -> None:
    clock, store = ManualClock(), MemoryStore()
    root, snapshots = await begin(store, clock)
    await commit(snapshots, 100, *[await segment(snapshots, n) for n in range(1, 41)])
    assert root.head is not None
    assert len(root.head.names()) < 40
    assert await objects(store) == root.head.names()
    root.abandon()
