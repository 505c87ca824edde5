"""Results of functions in a root: durable as soon as they are written, named by any commit, adopted by the next run."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import anyio
import polars as pl
import pytest

import asyncpersist as ap
from asyncpersist.checkpoint.answers import read_answers
from asyncpersist.checkpoint.caches import cache_stream, used_stream
from asyncpersist.checkpoint.copying import copy
from asyncpersist.checkpoint.dropping import drop_cache
from asyncpersist.checkpoint.manifest import CacheFacts, Manifest
from asyncpersist.checkpoint.naming import drop_name, give_name
from asyncpersist.checkpoint.prune import prune
from asyncpersist.checkpoint.restore import restore
from asyncpersist.checkpoint.root import Root
from asyncpersist.columnar.delta import WEIGHT
from asyncpersist.columnar.state import Increment
from asyncpersist.errors import DamagedState, Fenced, StateError, StateUnwritable
from asyncpersist.objectstore.contract import ObjectStore
from asyncpersist.objectstore.filesystem import FilesystemStore
from asyncpersist.objectstore.memory import MemoryStore
from asyncpersist.persistence import Config, PersistenceMode, SnapshotAccess
from asyncpersist.runtime.answer_writer import AnswerWriter
from asyncpersist.runtime.segments import Capture, StateSegment
from asyncpersist.runtime.snapshot_turns import SnapshotTurns
from asyncpersist.runtime.uncommitted import Uncommitted
from asyncpersist.testing.clocks import ManualClock
from asyncpersist.testing.stores import FaultyStore, Outcome
from asyncpersist.udfs.calling.runner import CallsCancelled
from tests.runtime.cached import STREAM, Cache, CachingRun, found
from tests.runtime.pieces import Collected, Feed, counting
from tests.servers.stores import StorePlaces

start = CachingRun.start


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


async def answers_in(store: ObjectStore) -> list[str]:
    return [entry.key for entry in await store.list("objects/") if entry.key.endswith(".answers")]


async def stored(store: ObjectStore) -> set[str]:
    return {entry.key for entry in await store.list()} - {"asyncpersist.json"}


def needed(root: Root) -> set[str]:
    stay = (*root.chain, *root.pinned)
    return {m.key for m in stay}.union(*(m.names() for m in stay))


# What is written is found again


@pytest.mark.parametrize("kind", ["memory", "filesystem", "remote_s3", "remote_azure"])
async def test_what_was_written_and_not_named_is_adopted(
    kind: str, store_places: StorePlaces, clock: ManualClock
) -> None:
    place = store_places.new(kind)
    run = await start(place(), clock)
    await run.answer(k1=1, k2=2)
    await run.answer(k1=3)
    run.kill()
    assert await found(place(), clock) == {1: 3, 2: 2}
    run = await start(place(), clock)
    assert run.cache.table.values == {1: 3, 2: 2}
    await run.snapshots.sweep()
    manifest = await run.write()
    assert len(manifest.streams[STREAM]) == 2
    assert manifest.caches[STREAM].calls == 3
    assert await run.root.verify() == []
    await run.snapshots.release()
    assert run.head.answers == {}
    again = await start(place(), clock)
    assert again.cache.table.values == {1: 3, 2: 2}
    await again.snapshots.release()


async def test_a_snapshot_and_a_commit_of_caches_alone_name_what_is_new(store, clock) -> None:
    run = await start(store, clock)
    assert await run.snapshots.write_caches() is None
    run.cache.table.put(1, 1)
    first = await run.snapshots.write_caches()
    assert first is not None
    assert (first.kind, first.epoch) == ("sweep", 0)
    assert await run.snapshots.write_caches() is None
    run.cache.table.put(2, 2)
    second = await run.write()
    assert [ref.rows for ref in second.streams[STREAM]] == [1, 1]
    run.cache.table.drop(1)
    third = await run.snapshots.write_caches()
    assert third is not None
    assert (third.parent, third.epoch) == (second.token, second.epoch)
    run.kill()
    assert await found(store, clock) == {2: 2}


async def test_commits_of_caches_alone_push_no_snapshot_out_and_leave_nothing(store, clock) -> None:
    run = await start(store, clock, retain=2)
    snapshots = [await run.write(), await run.write()]
    for key in range(50):
        run.cache.table.put(key % 7, key)
        await run.snapshots.write_caches()
        assert [m.sequence for m in run.root.chain[1:]] == [m.sequence for m in reversed(snapshots)]
        assert len(await stored(store)) < 60
    assert len(run.head.streams[STREAM]) < 30
    await run.snapshots.release()
    assert await stored(store) == needed(run.root)
    assert await found(store, clock) == {key: 49 - (49 - key) % 7 for key in range(7)}


async def test_what_else_the_claim_holds_stays_until_the_first_snapshot(store, clock) -> None:
    rows = pl.DataFrame({"k": [1], "v": [1], WEIGHT: [1]})
    run = await start(store, clock)
    await run.write(StateSegment("state/op/x", ("k",), Increment(rows)))
    await run.snapshots.release()
    run = await start(store, clock)
    before = run.head
    await run.answer(k1=1)
    manifest = await run.snapshots.write_caches()
    assert manifest is not None
    assert manifest.streams["state/op/x"] == before.streams["state/op/x"]
    assert (manifest.epoch, manifest.graph, manifest.progress) == (before.epoch, before.graph, before.progress)
    assert set((await run.write()).streams) == {STREAM}, "this run does not go on with it"


async def test_answers_after_which_all_begins_anew(store, clock) -> None:
    run = await start(store, clock)
    await run.answer(k1=1, k2=2)
    await run.snapshots.write_caches()
    run.cache.table.drop(1)
    run.cache.table.begin_anew()
    await run.answer()
    run.kill()
    assert await found(store, clock) == {2: 2}
    run = await start(store, clock)
    assert len((await run.write()).streams[STREAM]) == 1
    assert await found(store, clock) == {2: 2}
    run.kill()


async def test_streams_share_an_object_which_stays_while_one_needs_it(store, clock) -> None:
    other = cache_stream("other", "1" * 32)
    run = await start(store, clock, cache=Cache(STREAM, used_stream(STREAM), other), retain=1)
    for table in run.cache.tables.values():
        table.put(1, 1)
    await run.snapshots.put_answers(run.cache.capture)
    assert len(await answers_in(store)) == 1
    for n in range(40):
        run.cache.table.put(1, n)
        await run.write()
    assert await run.root.verify() == []
    assert len(run.head.streams[other]) == 1
    assert len(await stored(store)) < 50
    await run.snapshots.release()
    assert await stored(store) == needed(run.root)


# Facts


async def test_counters_go_on_from_run_to_run(store, clock) -> None:
    for n in range(1, 4):
        run = await start(store, clock)
        run.cache.calls, run.cache.hits = 2, 5
        manifest = await run.write()
        used = 2.0
        assert manifest.caches == {STREAM: CacheFacts(function="f", cache="ca/che", hits=5 * n, calls=2 * n, used=used)}
        if n == 2:
            run.kill()
        else:
            await run.snapshots.release()


# Every run carries them on


MODES = [
    (PersistenceMode.PERSISTING, SnapshotAccess.FULL),
    (PersistenceMode.OPERATOR_PERSISTING, SnapshotAccess.FULL),
    (PersistenceMode.SELECTIVE_PERSISTING, SnapshotAccess.FULL),
    (PersistenceMode.UDF_CACHING, SnapshotAccess.FULL),
    (PersistenceMode.BATCH, SnapshotAccess.FULL),
    (PersistenceMode.SPEEDRUN_REPLAY, SnapshotAccess.FULL),
    (PersistenceMode.PERSISTING, SnapshotAccess.RECORD),
    (PersistenceMode.PERSISTING, SnapshotAccess.OFFSETS_ONLY),
]


@pytest.mark.parametrize(("mode", "access"), MODES, ids=lambda value: value.name)
async def test_every_run_that_writes_carries_them_on(mode, access, store, clock) -> None:
    run = await start(store, clock)
    await run.answer(k1=1)
    await run.snapshots.write_caches()
    facts = run.head.caches
    await run.answer(k2=2)
    run.kill()
    config = Config(
        ap.persistence.Backend(store), snapshot_interval_ms=0, persistence_mode=mode, snapshot_access=access
    )
    for words in ["a"], ["a", "b"]:
        if access is SnapshotAccess.RECORD and words != ["a"]:
            continue
        async with ap.Runtime(counting(Feed(words), Collected()), persistence_config=config) as runtime:
            await runtime.wait()
    root = await Root.open(store, clock=clock)
    assert root.head is not None
    assert root.head.epoch > 0
    assert root.head.caches.keys() == facts.keys()
    assert await root.verify() == []
    assert await found(store, clock) == {1: 1, 2: 2}


async def test_a_run_that_only_reads_finds_what_is_not_named_and_changes_nothing(store, clock) -> None:
    run = await start(store, clock)
    await run.answer(k1=1)
    before = await stored(store)
    assert await found(store, clock) == {1: 1}, "of a run that goes on, too"
    assert await stored(store) == before
    run.kill()


# Ends


async def test_the_end_of_a_failed_run_keeps_what_was_answered(store, clock) -> None:
    run = await start(store, clock)
    await run.answer(k1=1)
    run.cache.table.put(2, 2)
    await run.snapshots.give_up()
    assert run.head.kind == "release"
    assert run.head.answers == {}
    assert await found(store, clock) == {1: 1, 2: 2}


async def test_an_end_at_which_the_store_is_down_loses_nothing_that_was_written(clock) -> None:
    inner = MemoryStore()
    down = False
    store = FaultyStore(inner, lambda method, key: Outcome.REFUSED if down and method == "create" else Outcome.DONE)
    run = await start(store, clock)
    await run.answer(k1=1)
    run.cache.table.put(2, 2)
    down = True
    run.snapshots.deadline = clock.monotonic() + 0.1
    await run.snapshots.give_up()
    assert await found(inner, clock) == {1: 1, 2: 2}


async def test_a_release_leaves_what_could_not_be_named_to_be_adopted(store, clock) -> None:
    run = await start(store, clock)
    await run.answer(k1=1)
    await run.root.release()
    assert {answered.ended for answered in run.head.answers.values()} == {True}
    run = await start(store, clock)
    assert run.cache.table.values == {1: 1}
    await run.snapshots.release()
    assert run.head.answers == {}
    assert await found(store, clock) == {1: 1}


async def test_a_cancelled_snapshot_drops_nothing_that_was_captured(clock) -> None:
    inner, silent = MemoryStore(), True

    async def latency(method: str, key: str) -> None:
        if silent and key.endswith(".answers"):
            await asyncio.Event().wait()

    run = await start(FaultyStore(inner, lambda method, key: Outcome.DONE, latency=latency), clock)
    run.cache.table.put(1, 1)
    with anyio.move_on_after(0.01):
        await run.write()
    silent = False
    run.cache.table.put(2, 2)
    await run.snapshots.give_up()
    assert await found(inner, clock) == {1: 1, 2: 2}


@pytest.mark.parametrize("outcome", [Outcome.LOST_ANSWER, Outcome.LOST_REQUEST, Outcome.LATE])
@pytest.mark.parametrize("method", ["create", "put"])
async def test_answers_whose_fate_is_unknown(method: str, outcome: Outcome, clock: ManualClock) -> None:
    inner = MemoryStore()
    script = [outcome]
    faulty = FaultyStore(inner, lambda name, key: script.pop() if script and name == method else Outcome.DONE)
    quiet, script = script, []
    run = await start(faulty, clock)
    script = quiet
    for n in range(4):
        await run.answer(**{f"k{n}": n})
        await run.snapshots.write_caches()
    await run.snapshots.release()
    await faulty.settle()
    assert await found(inner, clock) == {n: n for n in range(4)}


# Zombies


async def test_what_a_fenced_run_writes_later_is_found_by_the_next_run(store, clock) -> None:
    zombie = await start(store, clock)
    await zombie.answer(k1=1)
    second = await start(store, clock, takeover=True)
    assert second.cache.table.values == {1: 1}
    await zombie.answer(k2=2)
    await second.snapshots.sweep()
    await second.write()
    with pytest.raises(Fenced):
        await zombie.snapshots.write_caches()
    await zombie.snapshots.give_up()
    await second.snapshots.release()
    for key in (3, 4):
        third = await start(store, clock)
        await third.snapshots.sweep()
        assert third.cache.table.values.keys() == set(range(1, key))
        await third.snapshots.release()
        # It never learns: nobody has proven that it is gone.
        zombie.cache.table.put(key, key)
        await zombie.root.store.put(*_prepared(zombie))
    assert await found(store, clock) == {1: 1, 2: 2, 3: 3, 4: 4}


def _prepared(zombie: CachingRun) -> tuple[str, bytes]:
    """What a run that does not know yet that it is fenced would write next."""
    from asyncpersist.checkpoint.answers import AnswerPiece, encode_answers

    (segment,) = zombie.cache.capture()
    serial = 10 + len(zombie.cache.table.values)
    piece = AnswerPiece(segment.stream, segment.key, segment.encode("zstd").data, 1)
    data, answers = encode_answers(1, serial, [piece], epoch=0, facts={})
    return answers.key, data


async def test_runs_that_are_killed_before_they_commit_lose_nothing(store, clock) -> None:
    for n in range(5):
        run = await start(store, clock)
        assert run.cache.table.values == {key: key for key in range(n)}
        await run.snapshots.sweep()
        await run.answer(**{f"k{n}": n})
        run.kill()
    run = await start(store, clock)
    await run.write()
    assert len(run.head.answers) == 0, "all those runs are proven to be gone"
    await run.snapshots.release()
    assert await found(store, clock) == {key: key for key in range(5)}


# Damage


async def test_damaged_answers_are_left_out_and_go(store, clock, caplog: pytest.LogCaptureFixture) -> None:
    run = await start(store, clock)
    await run.answer(k1=1)
    await run.answer(k2=2)
    run.kill()
    damaged = (await answers_in(store))[0]
    await store.put(damaged, (await store.get(damaged))[:-1])
    with caplog.at_level(logging.WARNING, "asyncpersist"):
        run = await start(store, clock)
    assert f"{damaged} is damaged" in caplog.text
    assert run.cache.table.values == {2: 2}
    await run.snapshots.sweep()
    assert damaged in await answers_in(store), "until a commit says that it counts for nothing"
    await run.write()
    await run.snapshots.sweep()
    assert damaged not in await answers_in(store)
    await run.snapshots.release()


async def test_one_bad_read_is_no_damage(clock) -> None:
    inner = MemoryStore()
    run = await start(inner, clock)
    await run.answer(k1=1)
    run.kill()
    flips = [Outcome.FLIPPED_BIT]
    faulty = FaultyStore(inner, lambda method, key: flips.pop() if flips and key.endswith(".answers") else Outcome.DONE)
    assert len(await read_answers(faulty, await answers_in(inner))) == 1
    assert not flips


async def test_damage_of_a_cache_says_how_to_do_without(store, clock) -> None:
    run = await start(store, clock)
    await run.answer(k1=1)
    await run.write()
    await run.snapshots.release()
    (key,) = await answers_in(store)
    await store.put(key, b"x")
    with pytest.raises(DamagedState, match="asyncpersist cache memory --drop ca/che"):
        await found(store, clock)
    await drop_cache(store, "ca/che", clock=clock)
    run = await start(store, clock)
    assert run.cache.table.values == {}
    await run.snapshots.release()


# Between runs


async def test_going_back_keeps_what_was_answered_since(store, clock) -> None:
    run = await start(store, clock)
    first = await run.write()
    await run.answer(k1=1)
    await run.write()
    await run.snapshots.release()
    restored = await restore(store, first.sequence, clock=clock)
    assert restored.epoch == first.epoch
    assert restored.caches.keys() == {STREAM}
    run = await start(store, clock)
    assert run.cache.table.values == {1: 1}
    await run.snapshots.sweep()
    await run.answer(k2=2)
    await run.write()
    await run.snapshots.release()
    assert await found(store, clock) == {1: 1, 2: 2}
    assert await stored(store) == needed(run.root)


async def test_going_back_leaves_out_what_is_damaged(store, clock) -> None:
    run = await start(store, clock)
    await run.answer(k1=1)
    first = await run.write()
    await run.answer(k2=2)
    await run.write()
    await run.snapshots.release()
    await store.put((await answers_in(store))[1], b"x")
    await restore(store, first.sequence, clock=clock)
    assert await found(store, clock) == {1: 1}


async def test_merged_answers_that_an_expired_name_held_do_not_come_back(store, clock) -> None:
    run = await start(store, clock, retain=1)
    await run.answer(k1=1)
    first = await run.write()
    await run.snapshots.release()
    await give_name(store, "x", first.sequence, clock=clock)
    run = await start(store, clock, retain=1)
    run.cache.table.drop(1)
    for n in range(40):
        run.cache.table.put(2, n)
        await run.write()
    assert len(run.head.streams[STREAM]) < 30
    await run.snapshots.release()
    await drop_name(store, "x", clock=clock)
    assert await found(store, clock) == {2: 39}
    run = await start(store, clock)
    assert run.cache.table.values == {2: 39}
    await run.snapshots.sweep()
    await run.snapshots.release()
    assert await stored(store) == needed(run.root)


async def test_pruning_keeps_what_is_to_be_adopted(store, clock) -> None:
    run = await start(store, clock)
    await run.write()
    await run.answer(k1=1)
    run.kill()
    for _ in range(2):
        await prune(store, clock=clock, retain_snapshots=1)
        assert await found(store, clock) == {1: 1}
    run = await start(store, clock)
    await run.write()
    await run.snapshots.release()
    await prune(store, clock=clock, retain_snapshots=1)
    assert await found(store, clock) == {1: 1}


async def test_a_copy_takes_along_what_is_to_be_adopted(store, clock) -> None:
    run = await start(store, clock)
    await run.answer(k1=1)
    run.kill()
    other = MemoryStore()
    for _ in range(2):
        await copy(store, other, clock=clock)
        assert await found(other, clock) == {1: 1}


async def test_dropping_drops_what_is_not_named_yet_as_well(store, clock) -> None:
    other = cache_stream("other", "1" * 32)
    run = await start(store, clock, cache=Cache(STREAM, used_stream(STREAM), other))
    for table in run.cache.tables.values():
        table.put(1, 1)
    first = await run.write()
    for table in run.cache.tables.values():
        table.put(2, 2)
    await run.snapshots.put_answers(run.cache.capture)
    run.kill()
    with pytest.raises(StateError, match="no cache and no function 'g'; it has: ca/che, f"):
        await drop_cache(store, "g", clock=clock)
    assert [*await drop_cache(store, "ca/che", clock=clock)] == [STREAM, other]
    assert await found(store, clock) == {}
    await restore(store, first.sequence, clock=clock)
    assert await found(store, clock) == {}, "going back does not bring it back"
    run = await start(store, clock, cache=Cache(STREAM, used_stream(STREAM), other))
    assert run.cache.tables[used_stream(STREAM)].values == {}
    await run.write()
    await run.snapshots.release()


# Written before they are used


def writer_of(run: CachingRun, lock: threading.Lock) -> AnswerWriter:
    def capture() -> Sequence[StateSegment]:
        with lock:
            return run.cache.capture()

    return AnswerWriter(run.snapshots.put_answers, capture)


async def test_threads_wait_until_their_answers_are_durable_and_share_writes(store, clock) -> None:
    run, lock, threads = await start(store, clock), threading.Lock(), 8
    seen: list[bool] = []

    def work(writer: AnswerWriter, thread: int) -> None:
        for n in range(3):
            key = 3 * thread + n
            with lock:
                run.cache.table.put(key, key)
            writer.write()
            seen.append(asyncio.run(found(MemoryStore(store._objects), ManualClock())).get(key) == key)

    async with anyio.create_task_group() as group:
        writer = writer_of(run, lock)
        group.start_soon(writer.run)
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(threads) as pool:
            await asyncio.gather(*(loop.run_in_executor(pool, work, writer, n) for n in range(threads)))
        group.cancel_scope.cancel()
    assert seen == [True] * (3 * threads)
    assert len(await answers_in(store)) < 3 * threads
    with pytest.raises(CallsCancelled):
        writer.write()
    run.kill()


async def test_a_store_that_refuses_for_good_is_told_to_who_waits_and_an_end_too(clock) -> None:
    class Refusing(MemoryStore):
        held = asyncio.Event()

        async def put(self, key: str, data: bytes) -> None:
            if self.held.is_set():
                raise StateUnwritable("never")
            self.held.set()
            await asyncio.Event().wait()

    run = await start(Refusing(), clock)
    answers: list[BaseException] = []

    def work(writer: AnswerWriter) -> None:
        try:
            writer.write()
        except Exception as exc:
            answers.append(exc)

    for expected in CallsCancelled, StateUnwritable:
        run.cache.table.put(len(answers), 0)
        async with anyio.create_task_group() as group:
            writer = writer_of(run, threading.Lock())
            group.start_soon(writer.run)
            waiting = asyncio.get_running_loop().run_in_executor(None, work, writer)
            if expected is CallsCancelled:
                await Refusing.held.wait()
            else:
                await waiting
            group.cancel_scope.cancel()
        await waiting
        assert isinstance(answers[-1], expected)
    run.kill()


# Beside a long epoch


def turns_of(run: CachingRun, between: asyncio.Lock, clock: ManualClock, interval: int) -> SnapshotTurns:
    async def capture() -> Capture:
        return Capture(epoch=run.head.epoch + 2, states=[], logs={}, positions={}, progress={})

    return SnapshotTurns(
        run.snapshots,
        Config(ap.persistence.Backend(run.root.store), snapshot_interval_ms=interval),
        clock,
        between=between,
        uncommitted=Uncommitted(clock),
        capture=capture,
        named=lambda: None,
        committed=lambda: None,
    )


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not condition():
            await anyio.sleep(0.001)


@pytest.mark.parametrize("first", [True, False])
async def test_an_epoch_that_takes_long_keeps_no_answers_from_being_committed(first: bool, store, clock) -> None:
    run, between = await start(store, clock), asyncio.Lock()
    turns = turns_of(run, between, clock, 10)
    named: list[Manifest] = []
    async with anyio.create_task_group() as group:
        await between.acquire()
        group.start_soon(turns.run)
        if not first:
            turns.step()
        for n in range(3):
            run.cache.table.put(n, n)
            await until(lambda n=n: len(run.head.streams.get(STREAM, [])) == n + 1)
            named.append(run.head)
        assert {manifest.kind for manifest in named} == {"sweep"}
        if first:
            turns.step()
        between.release()
        await until(lambda: run.head.kind == "snapshot")
        await turns.end()
    assert turns.count == 1
    await run.snapshots.release()
    assert await found(store, clock) == {0: 0, 1: 1, 2: 2}


async def test_with_the_real_disk(tmp_path, clock) -> None:
    store = FilesystemStore(tmp_path / "state")
    run = await start(store, clock)
    for n in range(3):
        await run.answer(**{f"k{n}": n})
    await run.write()
    await run.snapshots.release()
    assert await found(store, clock) == {0: 0, 1: 1, 2: 2}
    await store.aclose()
