"""Snapshots kept by name, and pruning between runs."""

from __future__ import annotations

from datetime import timedelta

import pytest

from asyncpersist.checkpoint.copying import copy
from asyncpersist.checkpoint.layout import MARKER, manifest_key
from asyncpersist.checkpoint.naming import drop_name, give_name
from asyncpersist.checkpoint.prune import plan_pruning, prune
from asyncpersist.checkpoint.restore import restore
from asyncpersist.checkpoint.root import Root
from asyncpersist.errors import DamagedState, StateError, StateInUse
from asyncpersist.objectstore.contract import ObjectStore
from asyncpersist.objectstore.memory import MemoryStore
from asyncpersist.testing.clocks import ManualClock
from asyncpersist.testing.stores import FaultyStore, Outcome
from tests.checkpoint.runs import Run, items


async def stored(store: ObjectStore) -> set[str]:
    return {entry.key for entry in await store.list()} - {MARKER}


def needed(root: Root) -> set[str]:
    stay = (*root.chain, *root.pinned)
    return {m.key for m in stay}.union(*(m.names() for m in stay))


async def named(store: ObjectStore, clock: ManualClock) -> dict[str, list[str]]:
    """What the snapshot of each name holds, verified."""
    root = await Root.open(store, clock=clock)
    assert root.head is not None
    found = {manifest.sequence: manifest for manifest in (*root.pinned, *root.chain)}
    return {name: await items(root, found[sequence]) for name, sequence in root.head.keep.items()}


async def replaced(run: Run, *texts: str, keep: str | None = None) -> None:
    """A snapshot a text, none of which needs what another names; deletes what has expired."""
    for text in texts:
        await run.append(text, replace=True, keep=keep)
        await run.root.collect()


# By a run


@pytest.mark.parametrize("retain_for", [None, timedelta(seconds=25)])
async def test_a_named_snapshot_outlives_count_and_age_and_what_lies_between_does_not(clock, retain_for) -> None:
    store = MemoryStore()
    root = await Root.open(store, clock=clock, retain_snapshots=2, retain_for=retain_for)
    await root.claim(mode="M", access="A")
    run = Run(root)
    for number in range(30):
        clock.advance(10)
        await replaced(run, str(number), keep={5: "five", 11: "eleven"}.get(number))
    assert await named(store, clock) == {"five": ["5"], "eleven": ["11"]}
    assert [await items(root, m) for m in root.pinned] == [["11"], ["5"]]
    assert len(root.chain) == (2 if retain_for is None else 3)
    assert await stored(store) == needed(root)
    await root.release()


async def test_names_go_through_every_kind_of_end(clock) -> None:
    store = MemoryStore()
    run = await Run.start(store, clock, retain=1)
    await replaced(run, "a", keep="x")
    for number in range(12):
        await run.put("never named")
        if number % 3 == 0:
            await run.root.release(clean=False)
        run.root.abandon()
        run = await Run.start(store, clock, retain=1)
        if number % 2:
            await run.root.sweep()
        await replaced(run, str(number))
        assert await named(store, clock) == {"x": ["a"]}
    await run.root.sweep()
    await run.root.release()
    assert await stored(store) == needed(run.root)


async def test_a_name_moves_and_what_had_it_expires(clock) -> None:
    store = MemoryStore()
    run = await Run.start(store, clock, retain=2)
    await replaced(run, "a", keep="x")
    await replaced(run, *"bcd")
    assert await named(store, clock) == {"x": ["a"]}
    await replaced(run, "e", keep="x")
    assert await named(store, clock) == {"x": ["e"]}
    assert run.root.pinned == ()
    assert await stored(store) == needed(run.root)
    await run.root.release()


async def test_two_names_of_one_snapshot(clock) -> None:
    store = MemoryStore()
    run = await Run.start(store, clock, retain=1)
    await replaced(run, "a", keep="x")
    run.root.abandon()
    await give_name(store, "y", clock=clock)
    run = await Run.start(store, clock, retain=1)
    await replaced(run, "b", "c")
    await run.root.release()
    await drop_name(store, "x", clock=clock)
    run = await Run.start(store, clock, retain=1)
    await run.root.sweep()
    await replaced(run, "d")
    assert await named(store, clock) == {"y": ["a"]}
    await run.root.release()


@pytest.mark.parametrize("name", ["", " x", "x ", "a/b", "a@b", "12", "٣", "a\nb", "x" * 101])
async def test_what_cannot_be_a_name(clock, name) -> None:
    store = MemoryStore()
    run = await Run.start(store, clock)
    await run.append("a")
    before = await stored(store)
    with pytest.raises(ValueError, match="cannot be the name of a snapshot"):
        await run.root.commit(epoch=9, streams={}, sinks={}, graph={}, keep=name)
    run.root.abandon()
    with pytest.raises(ValueError, match="cannot be the name of a snapshot"):
        await give_name(store, name, clock=clock)
    assert await stored(store) == before


async def test_a_commit_in_doubt_is_named_once_it_is_settled(clock) -> None:
    for first, again in (("x", "x"), (None, "x"), ("x", None)):
        inner = MemoryStore()
        creates: list[Outcome] = []
        faulty = FaultyStore(inner, lambda m, k, c=creates: c.pop(0) if m == "create" and c else Outcome.DONE)
        run = await Run.start(faulty, clock)
        refs = [await run.put("a")]
        epoch = run.head.epoch + 2

        async def commit(keep: str | None, run: Run = run, refs=refs, epoch: int = epoch) -> int:
            streams = {"s": refs}
            return (await run.root.commit(epoch=epoch, streams=streams, sinks={}, graph={}, keep=keep)).sequence

        creates += [Outcome.LOST_ANSWER] * 3
        try:
            await commit(first)
        except OSError:
            assert run.root.in_doubt
        sequence = await commit(again)
        assert run.head.sequence == sequence
        assert await named(inner, clock) == {"x": ["a"]}
        run.root.abandon()


# Between runs


async def test_naming_one_that_is_there(clock) -> None:
    store = MemoryStore()
    run = await Run.start(store, clock, retain=3)
    await replaced(run, *"abcd")
    with pytest.raises(StateInUse, match="in use by"):
        await give_name(store, "x", clock=clock)
    await run.root.release()
    await give_name(store, "newest", clock=clock)
    await give_name(store, "older", run.root.chain[-1].sequence, clock=clock)
    with pytest.raises(DamagedState, match="no snapshot 2 any more; it has"):
        await give_name(store, "gone", 2, clock=clock)
    run = await Run.start(store, clock, retain=1)
    await run.root.sweep()
    await replaced(run, *"efg")
    assert await named(store, clock) == {"newest": ["d"], "older": ["b"]}
    await run.root.release()
    assert await stored(store) == needed(run.root)


async def test_a_name_that_was_dropped_by_mistake_can_be_given_again_until_a_run(clock) -> None:
    store = MemoryStore()
    run = await Run.start(store, clock, retain=1)
    await replaced(run, "a", keep="x")
    sequence = run.head.sequence
    await replaced(run, "b", "c")
    await run.root.release()
    await drop_name(store, "x", clock=clock)
    with pytest.raises(StateError, match="no snapshot by the name 'x'; its names are: none"):
        await drop_name(store, "x", clock=clock)
    await give_name(store, "x", sequence, clock=clock)
    run = await Run.start(store, clock, retain=1)
    await run.root.sweep()
    assert await named(store, clock) == {"x": ["a"]}
    await run.root.release()
    await drop_name(store, "x", clock=clock)
    run = await Run.start(store, clock, retain=1)
    await run.root.sweep()
    await run.root.release()
    assert await stored(store) == needed(run.root)
    with pytest.raises(DamagedState, match="any more"):
        await give_name(store, "x", sequence, clock=clock)


@pytest.mark.parametrize("harm", ["missing", "damaged"])
async def test_without_what_a_name_stands_for_nothing_goes_on_until_the_name_is_dropped(clock, harm) -> None:
    store = MemoryStore()
    run = await Run.start(store, clock, retain=1)
    await replaced(run, "a", keep="my name")
    sequence = run.head.sequence
    await replaced(run, "b", "c")
    await run.root.release()
    if harm == "missing":
        await store.delete([manifest_key(sequence)])
    else:
        await store.put(manifest_key(sequence), b"{}")
    with pytest.raises(DamagedState, match=rf"{manifest_key(sequence)}, kept as 'my name',.* --drop 'my name'`"):
        await Root.open(store, clock=clock)
    await drop_name(store, "my name", clock=clock)
    run = await Run.start(store, clock, retain=1)
    await run.root.sweep()
    assert await items(run.root) == ["c"]
    await run.root.release()
    assert await stored(store) == needed(run.root)


async def test_nothing_can_be_named_where_there_is_no_snapshot(clock) -> None:
    store = MemoryStore()
    with pytest.raises(StateError, match="holds no state"):
        await give_name(store, "x", clock=clock)
    await (await Run.start(store, clock)).root.release()
    with pytest.raises(StateError, match="no snapshot yet"):
        await give_name(store, "x", clock=clock)


async def test_a_copy_has_the_names(clock) -> None:
    source, target = MemoryStore(), MemoryStore()
    run = await Run.start(source, clock, retain=1)
    await replaced(run, "a", keep="x")
    await replaced(run, "b", "c")
    await run.root.release()
    done = await copy(source, target, clock=clock)
    assert (done.snapshots, done.objects) == (4, 3)
    assert await named(target, clock) == {"x": ["a"]}
    assert await stored(target) == await stored(source)


async def test_restoring_a_named_one_and_back(clock) -> None:
    store = MemoryStore()
    run = await Run.start(store, clock, retain=1)
    await replaced(run, "a", keep="x")
    sequence = run.head.sequence
    await replaced(run, "b", "c")
    head = await run.root.release()
    await restore(store, sequence, clock=clock)
    assert await items(await Root.open(store, clock=clock)) == ["a"]
    await restore(store, head.sequence, clock=clock)
    assert await items(await Root.open(store, clock=clock)) == ["c"]
    await restore(store, sequence, clock=clock)
    run = await Run.start(store, clock, retain=1)
    await run.root.sweep()
    await replaced(run, "d", "e")
    assert await named(store, clock) == {"x": ["a"]}
    await run.root.release()
    with pytest.raises(DamagedState, match=f"no snapshot {head.sequence} any more"):
        await restore(store, head.sequence, clock=clock)


async def test_a_name_that_only_the_damaged_head_knew_to_be_dropped_does_not_stand_in_the_way(clock) -> None:
    store = MemoryStore()
    run = await Run.start(store, clock, retain=1)
    await replaced(run, "a", keep="moves")
    await replaced(run, "b", keep="stays")
    await replaced(run, "c")
    before = run.head.sequence
    await replaced(run, "d", keep="moves")
    run.root.abandon()
    await store.put(run.head.key, b"{}")
    with pytest.raises(DamagedState, match=f"restore memory --to {before}`"):
        await Root.open(store, clock=clock)
    await restore(store, before, clock=clock)
    assert await named(store, clock) == {"stays": ["b"]}
    assert await items(await Root.open(store, clock=clock)) == ["c"]


async def test_the_ancestors_of_a_restored_one_stay(clock) -> None:
    store = MemoryStore()
    run = await Run.start(store, clock, retain=5)
    await replaced(run, *"abcdef")
    await run.root.release()
    chain = run.root.chain
    assert [await items(run.root, m) for m in chain] == [["f"], ["f"], ["e"], ["d"], ["c"], ["b"]]
    await restore(store, chain[3].sequence, clock=clock)
    run = await Run.start(store, clock, retain=5)
    await run.root.sweep()
    await replaced(run, "g")
    assert [await items(run.root, m) for m in run.root.chain] == [["g"], ["d"], ["c"], ["b"]]
    await run.root.release()
    assert await stored(store) == needed(run.root)


# Pruning


async def test_pruning_without_limits_deletes_only_what_nobody_needs(clock) -> None:
    store = MemoryStore()
    run = await Run.start(store, clock, retain=3)
    await replaced(run, "a", keep="x")
    await replaced(run, *"bcde")
    orphan = await run.put("never named")
    run.root.abandon()
    before = await stored(store)
    planned = await plan_pruning(store, clock=clock)
    assert await stored(store) == before
    assert (planned.keys, planned.objects, planned.expired) == ((orphan.key,), 1, ())
    assert planned.bytes == len("never named")
    done = await prune(store, clock=clock)
    assert done.keys == planned.keys
    root = await Root.open(store, clock=clock)
    assert await stored(store) == needed(root)
    assert [await items(root, m) for m in (*root.chain, *root.pinned)] == [["e"], ["e"], ["d"], ["c"], ["a"]]
    assert root.head is not None
    assert not root.head.ended_cleanly, "the run was killed"
    assert (await prune(store, clock=clock)).keys == ()
    assert (await Root.open(store, clock=clock)).head == root.head


@pytest.mark.parametrize(
    ("count", "age", "left"),
    [
        (1, None, ["f"]),
        (3, None, ["f", "e", "d"]),
        (99, None, ["f", "e", "d", "c", "b", "a"]),
        (None, 25, ["f", "e", "d"]),
        (None, 0, ["f"]),
        (2, 35, ["f", "e", "d", "c"]),
        (4, 15, ["f", "e", "d", "c"]),
    ],
)
async def test_pruning_by_count_and_age(clock, count, age, left) -> None:
    store = MemoryStore()
    run = await Run.start(store, clock)
    for text in "abcdef":
        clock.advance(10)
        await replaced(run, text, keep="kept" if text == "b" else None)
    await run.root.release()
    limit = {"retain_snapshots": count, "retain_for": None if age is None else timedelta(seconds=age)}
    planned = await plan_pruning(store, clock=clock, **limit)
    done = await prune(store, clock=clock, **limit)
    assert done == planned
    root = await Root.open(store, clock=clock)
    assert [await items(root, m) for m in root.chain[1:]] == [[text] for text in left]
    assert await named(store, clock) == {"kept": ["b"]}
    assert len(done.expired) == 6 - len({*left, "b"})
    assert await stored(store) == needed(root)
    run = await Run.start(store, clock)
    assert await items(run.root) == ["f"]
    assert root.head is not None
    assert root.head.ended_cleanly
    run.root.abandon()


async def test_pruning_is_refused_while_a_run_has_the_root_and_deposes_it_if_so_told(clock) -> None:
    store = MemoryStore()
    run = await Run.start(store, clock)
    await replaced(run, *"abc")
    before = await stored(store)
    with pytest.raises(StateInUse, match="in use by"):
        await prune(store, clock=clock, retain_snapshots=1)
    assert await stored(store) == before
    coming = await run.put("d")
    await prune(store, clock=clock, retain_snapshots=1, takeover=True)
    with pytest.raises(StateError, match="taken over"):
        await run.commit([coming])
    run.root.abandon()
    root = await Root.open(store, clock=clock)
    assert await items(root) == ["c"]
    assert await stored(store) == needed(root)


async def test_what_is_no_part_of_a_root_is_not_pruned(clock) -> None:
    store = MemoryStore()
    run = await Run.start(store, clock)
    await replaced(run, "a")
    await run.root.release()
    foreign = {"manifests/README", "objects/mine", "elsewhere"}
    for key in foreign:
        await store.put(key, b"precious")
    await store.put("manifests/000000000001.json.x.partial", b"half")
    assert (await prune(store, clock=clock, retain_snapshots=1)).keys == ("manifests/000000000001.json.x.partial",)
    assert foreign <= await stored(store)
