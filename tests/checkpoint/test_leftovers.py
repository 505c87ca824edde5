"""What ends, fails, is killed and starts again for ever leaves no more behind than doing so once."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncpersist.checkpoint import protocol
from asyncpersist.checkpoint.layout import MARKER, manifest_key
from asyncpersist.checkpoint.ownership import OwnerState
from asyncpersist.checkpoint.reading import MARKER_BYTES
from asyncpersist.checkpoint.restore import restore
from asyncpersist.checkpoint.retention import lineage
from asyncpersist.checkpoint.root import Piece, Root
from asyncpersist.errors import DamagedState, Fenced, StoreUnavailable
from asyncpersist.objectstore.contract import Entry, ObjectStore
from asyncpersist.objectstore.filesystem import FilesystemStore
from asyncpersist.objectstore.memory import MemoryStore
from asyncpersist.testing.stores import FaultyStore, Outcome
from tests.checkpoint.runs import Run, items, manifest, owner


@pytest.fixture(params=["memory", "filesystem"])
async def store(request: pytest.FixtureRequest, tmp_path: Path):
    chosen = MemoryStore() if request.param == "memory" else FilesystemStore(tmp_path / "root")
    yield chosen
    await chosen.aclose()


async def stored(store: ObjectStore) -> set[str]:
    return {entry.key for entry in await store.list()} - {MARKER}


def kept(root: Root) -> set[str]:
    return {m.key for m in root.chain}.union(*(m.names() for m in root.chain))


async def start(store: ObjectStore, clock, *, retain: int = 10) -> Run:
    run = await Run.start(store, clock, retain=retain)
    await run.root.sweep()
    return run


# Restarts with nothing new


@pytest.mark.parametrize("snapshots", [0, 3])
async def test_idle_restarts_leave_the_snapshots_and_the_newest_release(store, clock, snapshots) -> None:
    run = await Run.start(store, clock)
    for n in range(snapshots):
        await run.append(str(n))
    await run.root.release()
    before = await stored(store)
    costs = set()
    for _ in range(60):
        counting = FaultyStore(store, lambda method, key: Outcome.DONE)
        run = await Run.start(counting, clock)
        costs.add(len(counting.calls))
        assert len(run.root.chain) == snapshots + 1
        await run.root.release()
        assert len(run.head.condemned) <= 2
        assert len(await stored(store)) == len(before)
    assert len(costs) == 1, "every start asks the store the same number of times"
    root = await Root.open(store, clock=clock)
    assert await stored(store) == kept(root)
    assert [m.kind for m in root.chain] == ["release", *["snapshot"] * snapshots]
    assert await items(root) == [str(n) for n in range(snapshots)]


@pytest.mark.parametrize("snapshots", [0, 3])
async def test_claim_after_claim_without_release_is_bounded(store, clock, snapshots) -> None:
    run = await Run.start(store, clock)
    for n in range(snapshots):
        await run.append(str(n))
    for _ in range(60):
        run.root.abandon()
        run = await start(store, clock)
        assert len(run.root.chain) == snapshots + 1
        assert len(await stored(store)) < 2 * snapshots + 12
        assert len(run.head.condemned) < 12
    await run.root.release()
    assert await stored(store) == kept(run.root)


async def test_without_a_sweep_a_release_or_a_snapshot_cleans_up_after_killed_runs(clock) -> None:
    for end in ("release", "snapshot"):
        store = MemoryStore()
        run = await Run.start(store, clock)
        await run.append("a")
        for _ in range(20):
            run.root.abandon()
            run = await Run.start(store, clock)
        assert len(await stored(store)) > 20
        if end == "release":
            await run.root.release()
        else:
            await run.append("b")
            await run.root.collect()
        assert await stored(store) == kept(run.root)
        run.root.abandon()


async def test_what_a_release_could_not_delete_goes_later_and_lists_do_not_grow(clock) -> None:
    inner = MemoryStore()
    run = await Run.start(inner, clock)
    await run.append("a")
    await run.root.release()
    for _ in range(20):
        run = await Run.start(FaultyStore(inner, _no_deletes), clock)
        await run.root.put(Piece(data=b"x", rows=1, first_epoch=1, last_epoch=1))
        await run.root.release(clean=False)
    assert len(await stored(inner)) > 60
    for _ in range(2):
        run = await Run.start(inner, clock)
        await run.root.release()
    assert await stored(inner) == kept(run.root)
    assert len(run.head.condemned) <= 2


def _no_deletes(method: str, key: str) -> Outcome:
    return Outcome.REFUSED if method == "delete" else Outcome.DONE


async def test_what_the_listing_shows_to_be_gone_is_not_carried_on(clock) -> None:
    store = MemoryStore()
    run = await Run.start(store, clock)
    await run.append("a")
    await run.root.release()
    run = await Run.start(store, clock)
    await run.root.release()
    assert len(run.head.condemned) == 2
    run = await Run.start(store, clock)
    assert run.head.condemned == []
    run.root.abandon()


async def test_what_a_snapshot_named_is_not_condemned_once_more_by_the_release(clock) -> None:
    store = MemoryStore()
    run = await Run.start(store, clock, retain=1)
    await run.append("a")
    await run.append("b", replace=True)
    await run.append("c", replace=True)
    await run.root.collect()
    released = await run.root.release()
    assert [key for key in released.condemned if not key.startswith("manifests/")] == []


# Runs that fail


async def test_runs_that_fail_again_and_again_leave_nothing(store, clock) -> None:
    run = await Run.start(store, clock)
    await run.append("a")
    await run.root.release()
    sizes = set()
    for _ in range(30):
        run = await Run.start(store, clock)
        for _ in range(3):
            await run.put("never named")
        await run.root.release(clean=False)
        sizes.add(len(await stored(store)))
        assert len(run.head.condemned) <= 5
    assert sizes == {3}
    assert await items(await Root.open(store, clock=clock)) == ["a"]


async def test_only_a_clean_end_is_said_to_be_clean(clock) -> None:
    store = MemoryStore()
    run = await Run.start(store, clock)
    assert not run.head.ended_cleanly
    await run.append("a")
    assert not run.head.ended_cleanly
    assert (await run.root.release()).ended_cleanly
    run = await Run.start(store, clock)
    assert not (await run.root.release(clean=False)).ended_cleanly
    root = await Root.open(store, clock=clock)
    assert await root.owner_state() is OwnerState.RELEASED
    run = await Run.start(store, clock)
    assert run.head.clean, "a claim starts afresh"
    assert (await run.root.release()).ended_cleanly
    assert not (await restore(store, 2, clock=clock)).ended_cleanly


# Runs that are killed


@pytest.mark.parametrize("takeover", [False, True])
async def test_killed_runs_that_never_commit_do_not_fill_the_store(store, clock, takeover) -> None:
    run = await Run.start(store, clock)
    await run.append("a")
    for _ in range(30):
        if not takeover:
            run.root.abandon()
        run = await Run.start(store, clock, takeover=takeover)
        await run.root.sweep()
        for _ in range(3):
            await run.put("never named")
        assert len(await stored(store)) < 16
    assert await items(await Root.open(store, clock=clock)) == ["a"]


async def test_a_sweep_touches_no_snapshot_and_nothing_of_the_living(clock) -> None:
    store = MemoryStore()
    zombie = await Run.start(store, clock)
    for item in "abc":
        await zombie.append(item, replace=True)
    reader = await Root.open(store, clock=clock)
    lost = await zombie.put("lost")
    run = await Run.start(store, clock, takeover=True)
    mine = await run.put("mine")
    assert not run.root.exclusive
    await run.root.sweep()
    assert run.head.kind == "sweep"
    assert not run.root.exclusive, "an owner before may still hold outputs open"
    assert lost.key not in await stored(store)
    for snapshot in reader.chain:
        assert await reader.verify(snapshot) == []
    with pytest.raises(Fenced):
        await zombie.commit([lost])
    await run.commit([*run.head.streams["s"], mine])
    assert await items(run.root) == ["c", "mine"]
    assert await run.root.verify() == []
    run.root.abandon()


async def test_a_sweep_with_nothing_to_do_commits_nothing(clock) -> None:
    store = MemoryStore()
    run = await Run.start(store, clock)
    await run.append("a")
    await run.root.release()
    run = await Run.start(store, clock)
    assert await run.root.sweep() == 0
    assert run.head.kind == "claim"
    run.root.abandon()


async def test_nothing_is_deleted_before_its_deletion_is_committed(clock) -> None:
    inner = MemoryStore()
    run = await Run.start(inner, clock)
    await run.append("a")
    orphan = await run.put("orphan")
    run.root.abandon()
    script = [Outcome.REFUSED]
    run = await Run.start(inner, clock)
    run.root.abandon()
    creates: list[Outcome] = []
    faulty = FaultyStore(inner, lambda m, k: creates.pop(0) if m == "create" and creates else Outcome.DONE)
    run = await Run.start(faulty, clock)
    creates += script
    with pytest.raises(StoreUnavailable):
        await run.root.sweep()
    assert orphan.key in await stored(inner)
    creates += [Outcome.LOST_REQUEST] * 3
    with pytest.raises(StoreUnavailable):
        await run.root.sweep()
    assert run.root.in_doubt
    assert orphan.key in await stored(inner)
    await run.append("b")
    await run.root.collect()
    assert await stored(inner) == kept(run.root)
    assert await items(run.root) == ["a", "b"]
    run.root.abandon()


# Restoring


async def test_older_snapshots_stay_within_reach(store, clock) -> None:
    run = await Run.start(store, clock)
    for item in "abc":
        await run.append(item)
    for n in range(30):
        if n % 3:
            await run.root.release(clean=n % 2 == 0)
        else:
            await run.put("never named")
            run.root.abandon()
        run = await start(store, clock)
    run.root.abandon()
    await restore(store, 3, clock=clock)
    for _ in range(3):
        run = await start(store, clock)
        assert await items(run.root) == ["a", "b"]
        await run.root.release()
    run = await start(store, clock)
    await run.append("d")
    await run.root.collect()
    assert await items(await Root.open(store, clock=clock)) == ["a", "b", "d"]
    assert await stored(store) == kept(run.root)
    run.root.abandon()


@pytest.mark.parametrize("kind", ["claim", "sweep", "release"])
async def test_what_is_no_snapshot_can_be_restored_too(clock, kind) -> None:
    store = MemoryStore()
    run = await Run.start(store, clock)
    await run.append("a")
    await run.put("never named")
    run.root.abandon()
    run = await Run.start(store, clock)
    if kind == "sweep":
        await run.root.sweep()
    elif kind == "release":
        await run.root.release()
    run.root.abandon()
    assert run.head.kind == kind
    await restore(store, run.head.sequence, clock=clock)
    for _ in range(3):
        run = await start(store, clock)
        assert await items(run.root) == ["a"]
        assert await run.root.verify() == []
        await run.root.release()
    for item in "bc":
        run = await start(store, clock, retain=1)
        await run.append(item)
        await run.root.collect()
        await run.root.release()
    assert await items(await Root.open(store, clock=clock)) == ["a", "b", "c"]
    assert await stored(store) == kept(run.root)


async def test_the_way_out_of_a_damaged_head_names_a_manifest_that_is_there(clock) -> None:
    store = MemoryStore()
    run = await Run.start(store, clock)
    await run.append("a")
    for _ in range(3):
        await run.root.release()
        run = await Run.start(store, clock)
    await run.root.release()
    await store.put(run.head.key, b"garbage")
    with pytest.raises(Exception, match="restore memory --to 2`"):
        await Root.open(store, clock=clock)
    await restore(store, 2, clock=clock)
    assert await items(await Root.open(store, clock=clock)) == ["a"]


async def test_the_predecessor_has_to_be_there_although_nothing_links_to_it(clock) -> None:
    store = MemoryStore()
    run = await Run.start(store, clock)
    await store.delete([run.head.key])
    with pytest.raises(DamagedState, match="disappeared"):
        await run.append("a")
    run.root.abandon()


@pytest.mark.parametrize("marked", [False, True])
async def test_a_first_run_between_two_looks_is_neither_foreign_nor_damage(clock, marked) -> None:
    inner = MemoryStore()
    if marked:
        await inner.put(MARKER, MARKER_BYTES)

    class Overtaken(FaultyStore):
        async def list(self, prefix: str = "", *, limit: int | None = None) -> list[Entry]:
            listed = await super().list(prefix, limit=limit)
            if await stored(inner):
                return listed
            await (await Run.start(inner, clock)).append("a")
            return listed if marked else await super().list(prefix, limit=limit)

    root = await Root.open(Overtaken(inner, lambda method, key: Outcome.DONE), clock=clock)
    assert await items(root) == ["a"]


# Decisions


@pytest.mark.parametrize(
    ("kinds", "kept"),
    [
        ([], []),
        (["claim"], [1]),
        (["claim", "snapshot", "claim", "snapshot"], [4, 2]),
        (["snapshot", "release", "claim", "sweep"], [1]),
        (["release", "claim"], [1]),
    ],
)
def test_claims_sweeps_and_releases_are_passed_over(kinds, kept) -> None:
    chain = [manifest(n + 1, kind=kind) for n, kind in enumerate(kinds)][::-1]
    assert [m.sequence for m in lineage(chain)] == kept


def test_a_claim_links_past_others_and_condemns_nothing() -> None:
    chain = [manifest(5, kind="release"), manifest(4, kind="sweep"), manifest(3, "o"), manifest(2, "o")]
    claim = protocol.claim(
        chain, token="t", owner=owner(), exclusive=True, now=0.0, mode="M", access="A", graph={}, sinks={}
    )
    assert (claim.sequence, claim.parent, claim.parent_sequence, claim.horizon) == (6, "t3", 3, 2)
    assert claim.condemned == []
    assert manifest_key(5) == chain[0].key
