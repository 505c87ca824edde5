"""Logs that are kept small: whatever is merged and compacted meanwhile, they say what they said, in few bytes."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import anyio
import numpy as np
import polars as pl
import pytest
from anyio.lowlevel import checkpoint

from asyncpersist.checkpoint.manifest import LogFacts
from asyncpersist.checkpoint.root import Root
from asyncpersist.columnar.delta import ID, ORDER, WEIGHT, Delta
from asyncpersist.objectstore.memory import MemoryStore
from asyncpersist.runtime import source_log
from asyncpersist.runtime.log_rule import LogRule
from asyncpersist.testing.clocks import ManualClock
from asyncpersist.testing.stores import FaultyStore, Outcome
from tests.amounts import PATIENCE, TIMES
from tests.runtime.logs import NET, STREAM, TINY, WITH_IDS, head_of, named, net, rows, writing

# With what these seeds draw, a log of either kind is merged in memory and over the disk.
SEEDS = [("plain", 1), ("plain", 7), ("ids", 0), ("ids", 2)]
if TIMES > 1:
    SEEDS = [(kind, seed) for kind in ("plain", "ids") for seed in range(2 * TIMES)]


@pytest.mark.parametrize(("kind", "seed"), SEEDS)
async def test_a_log_says_what_is_there_in_bytes_in_proportion(
    kind: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, rule = random.Random(seed), WITH_IDS if kind == "ids" else NET
    monkeypatch.setattr(source_log, "_SEGMENT_BYTES", rng.choice((1, 3000, 1 << 20)))
    monkeypatch.setattr(source_log, "_MOST_SMALL", 3)
    bounds = replace(TINY, memory=rng.choice((0, 4000, 1 << 20)), inline=rng.choice((0, 3000)))
    store = MemoryStore()
    live: dict[int, list[str]] = {}
    epoch = part = given = 0
    for _ in range(3):
        async with writing(store, rule, bounds=bounds, takeover=True) as run:
            if rng.random() < 0.7:
                run.group.start_soon(run.compaction.run)
            for _ in range(25):
                for _ in range(rng.randrange(4)):
                    epoch += 2
                    if live and rng.random() < 0.5:
                        gone = rng.choice(list(live))
                        said = await run.retract(epoch, gone)
                        assert said == Counter({word: -n for word, n in Counter(live.pop(gone)).items()})
                    part = rng.choice(list(live)) if live and rng.random() < 0.3 else given + 1
                    words = rng.choices(["x" * 30 + str(n) for n in range(20)], k=rng.randrange(1, 60))
                    live.setdefault(part, []).extend(words)
                    run.log.append(epoch, rows(words, part, ids_from=given if ID in rule.columns else None))
                    given += len(words)
                await run.snapshot(epoch)
                if rng.random() < 0.2:
                    await run.compaction.finish()
                if rng.random() < 0.5:
                    continue
                expected = Counter((word, part) for part, words in live.items() for word in words)
                found: Counter[tuple[object, object]] = Counter()
                for row, weight in (await net(store)).items():
                    found[row[-1], row[-2]] += weight  # word and part, of (id), part, word
                assert found == expected
                head = await head_of(store)
                frames = [frame for _, parts in await named(store) for frame in parts]
                negative = sum(int((frame[WEIGHT] < 0).sum()) for frame in frames)
                assert head.logs.get("s", LogFacts()).retracted == negative
                assert (
                    len(head.streams.get(STREAM, [])) <= 3 * 6 + 3 + sum(r.length for r in head.streams[STREAM]) / 3000
                )
            await run.compaction.finish()
        head = await head_of(store)
        assert sum(ref.rows for ref in head.streams[STREAM]) <= 4 * sum(map(len, live.values())) + 10
        assert len(head.streams[STREAM]) <= 6 + sum(ref.length for ref in head.streams[STREAM]) / 3000


async def test_rewriting_again_and_again_leaves_a_log_of_the_size_of_its_input() -> None:
    store = MemoryStore()
    words = [f"{n:040}" for n in range(500)]
    async with writing(store, NET) as run:
        run.group.start_soon(run.compaction.run)
        for n in range(1, 40):
            if n > 1:
                await run.retract(2 * n, n - 1)
            run.log.append(2 * n, rows(words, n))
            await run.snapshot(2 * n)
        await run.compaction.finish()
    head = await head_of(store)
    assert sum(ref.rows for ref in head.streams[STREAM]) <= 4 * len(words)
    assert await net(store) == Counter({(39, word): 1 for word in words})
    assert head.logs["s"].retracted <= 1.5 * len(words)
    # Nothing that no kept snapshot names is left behind.
    found = await Root.open(store, clock=ManualClock())
    kept = set().union(*(manifest.names() for manifest in found.chain))
    assert {entry.key for entry in await store.list("objects/")} == kept


@pytest.mark.parametrize("memory", [0, 1 << 20])
async def test_of_upserts_the_latest_row_is_left(memory: int) -> None:
    store, rng = MemoryStore(), random.Random(0)
    rule = LogRule(("k", "v", ORDER), "latest", ("k",))
    latest: dict[int, tuple[int, int]] = {}
    order = 0
    async with writing(store, rule, bounds=replace(TINY, memory=memory)) as run:
        run.group.start_soon(run.compaction.run)
        for n in range(1, 80):
            drawn = [(rng.randrange(50), rng.randrange(10**9), rng.choice((1, 1, -1))) for _ in range(40)]
            frame = pl.DataFrame(
                {
                    "k": [k for k, _, _ in drawn],
                    "v": [v for _, v, _ in drawn],
                    ORDER: range(order, order + len(drawn)),
                }
            )
            for k, v, weight in drawn:
                latest[k] = v, weight
            order += len(drawn)
            run.log.append(2 * n, Delta(frame, np.array([weight for _, _, weight in drawn])))
            await run.snapshot(2 * n)
        await run.compaction.finish()
    frames = [frame for _, parts in await named(store) for frame in parts]
    assert sum(frame.height for frame in frames) <= 4 * 50
    found: dict[int, tuple[int, int]] = {}
    for k, v, _, weight in sorted(
        (row for frame in frames for row in frame.select("k", "v", ORDER, WEIGHT).rows()), key=lambda row: row[2]
    ):
        found[k] = v, weight
    assert {k: v for k, (v, weight) in found.items() if weight > 0} == {
        k: v for k, (v, weight) in latest.items() if weight > 0
    }


async def test_what_repeats_is_compacted_where_it_pays_and_looked_at_no_more_where_not() -> None:
    for distinct, worth in ((20, True), (10**9, False)):
        store, rng = MemoryStore(), random.Random(0)
        rule = LogRule(("word",))
        async with writing(store, rule, bounds=replace(TINY, policy=replace(TINY.policy, fan_in=1000))) as run:
            for n in range(1, 6):
                words = [f"{rng.randrange(distinct):040}" for _ in range(200)]
                run.log.append(2 * n, Delta(pl.DataFrame({"word": words})))
                await run.snapshot(2 * n)
            await run.compaction.finish()
            assert await run.snapshots.begin_job() is None
        head = await head_of(store)
        left = sum(ref.rows for ref in head.streams[STREAM])
        assert left == (20 if worth else 1000)
        assert all(ref.compacted for ref in head.streams[STREAM]) == worth


async def test_a_log_that_is_kept_whole_keeps_rows_order_and_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_log, "_MOST_SMALL", 3)
    store, rng = MemoryStore(), random.Random(0)
    expected: list[tuple[str, int, int, int]] = []
    async with writing(store, replace(NET, kept="whole")) as run:
        run.group.start_soon(run.compaction.run)
        for epoch in range(2, 400, 2):
            words, weight = rng.choices("abc", k=rng.randrange(1, 9)), rng.choice((1, -1))
            run.log.append(epoch, rows(words, weight=weight))
            expected += [(word, 1, weight, epoch) for word in words]
            if rng.random() < 0.3:
                await run.snapshot(epoch)
        await run.snapshot(epoch)
        await run.compaction.finish()
    found = await named(store)
    assert [row for _, parts in found for part in parts for row in part.rows()] == expected
    assert not any(ref.compacted for ref, _ in found)
    assert len(found) < 10


async def test_where_rows_of_epochs_become_one_the_object_says_so() -> None:
    store = MemoryStore()
    async with writing(store, LogRule(("word",)), bounds=replace(TINY, inline=1 << 20)) as run:
        for n in range(20):
            run.log.append(2 + 4 * n, Delta(pl.DataFrame({"word": ["a", "b"] * 50})))
            run.log.append(4 + 4 * n, Delta(pl.DataFrame({"word": ["b", "a"] * 50})))
            manifest = await run.snapshot(4 + 4 * n)
            assert all(ref.compacted for ref in manifest.streams[STREAM])
    async with writing(store, LogRule(("word",)), takeover=True) as run:
        run.log.append(100, Delta(pl.DataFrame({"word": ["a"]})))
        manifest = await run.snapshot(100)
    assert not manifest.streams[STREAM][-1].compacted


@pytest.mark.parametrize("unseen", [False, True])
async def test_what_lies_apart_stays_apart(unseen: bool) -> None:
    store = MemoryStore()
    words = [f"{n:040}" for n in range(300)]
    async with writing(store, NET) as run:
        run.log.append(2, rows(words, 1))
        run.log.append(4, rows(words, 2))
        await run.snapshot(4)
    async with writing(store, replace(NET, apart=4), takeover=True, unseen=unseen) as run:
        run.group.start_soon(run.compaction.run)
        taken = Counter(dict.fromkeys(words, -1))
        assert await run.retract(6, 1) == (Counter() if unseen else taken)
        for n in range(3, 30):
            if n > 3:
                assert await run.retract(2 * n, n - 1) == taken
            run.log.append(2 * n, rows(words, n))
            await run.snapshot(2 * n)
        await run.compaction.finish()
    assert await net(store) == Counter({(part, word): 1 for part in (2, 29) for word in words})
    refs = (await head_of(store)).streams[STREAM]
    assert sum(ref.rows for ref in refs if ref.last_epoch <= 4) == 600
    assert all(ref.first_epoch > 4 for ref in refs if ref.last_epoch > 4)
    assert sum(ref.rows for ref in refs) <= 600 + 300 + 4 * 300


async def test_a_log_that_begins_anew_holds_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_log, "_SEGMENT_BYTES", 1000)
    store = MemoryStore()
    async with writing(store) as run:
        for n in range(1, 9):
            run.log.append(2 * n, rows(["old"] * n, n))
            await run.snapshot(2 * n)
        await run.retract(18, 7)
        await run.snapshot(18)
    async with writing(store, WITH_IDS, takeover=True) as run:
        run.log.supersede()
        for n in range(5):
            run.log.append(20, rows(["new"] * 30, 1, ids_from=30 * n))
        # What was there before is not looked at any more.
        assert await run.retract(22, 7) == Counter()
        assert await run.retract(22, 1) == Counter({"new": -150})
        run.log.append(22, rows(["newer"], 2, ids_from=500))
        with pytest.raises(RuntimeError):
            run.log.supersede()
        await run.snapshot(22)
        assert await net(store) == Counter({(500, 2, "newer"): 1})
        run.log.append(24, rows(["newest"], 2, ids_from=501))
        await run.snapshot(24)
        await run.compaction.finish()
    assert await net(store) == Counter({(500, 2, "newer"): 1, (501, 2, "newest"): 1})


async def test_parts_of_an_older_schema_are_left_as_they_are() -> None:
    store = MemoryStore()
    async with writing(store, NET) as run:
        run.log.append(2, rows(["a"] * 100))
        await run.snapshot(2)
    async with writing(store, WITH_IDS, takeover=True) as run:
        for n in range(2, 30):
            run.log.append(2 * n, rows(["b"] * 20, n, ids_from=100 * n))
            await run.retract(2 * n, n)
            await run.snapshot(2 * n)
        await run.compaction.finish()
        assert await run.snapshots.begin_job() is None
    assert await net(store) == Counter({(1, "a"): 100})
    assert len((await head_of(store)).streams[STREAM]) < 15


async def filled(store: MemoryStore, snapshots: int) -> Counter[tuple[object, ...]]:
    async with writing(store, bounds=replace(TINY, policy=replace(TINY.policy, fan_in=1000, most=1000))) as run:
        for n in range(1, snapshots):
            if n > 1:
                await run.retract(2 * n, n - 1)
            run.log.append(2 * n, rows([f"{word:040}" for word in range(100)], n))
            await run.snapshot(2 * n)
    return await net(store)


@pytest.mark.parametrize("memory", [0, 1 << 20])
async def test_cancelled_anywhere_it_leaves_the_root_as_it_was(memory: int) -> None:
    store = MemoryStore()
    before = await filled(store, 12)
    calls = -1
    reached = True
    while reached:
        calls += 1
        left = calls
        reached = False
        scope = anyio.CancelScope()

        async def latency(method: str, key: str) -> None:
            nonlocal left, reached
            if left == 0:
                reached = True
                scope.cancel()  # noqa: B023
                await checkpoint()
            left -= 1

        slow = FaultyStore(store, lambda method, key: Outcome.DONE, latency=latency)
        left = 10**9
        async with writing(slow, bounds=replace(TINY, memory=memory), takeover=True) as run:
            left = calls
            with scope:
                await run.compaction.finish()
            left = 10**9
            await run.snapshots.release()
        assert await net(store) == before
        found = await Root.open(store, clock=ManualClock())
        kept = set().union(*(manifest.names() for manifest in found.chain))
        assert {entry.key for entry in await store.list("objects/")} == kept
        assert await found.verify() == []
    assert calls > 5
    assert (await head_of(store)).logs["s"].retracted == 0


async def test_a_stop_leaves_it_undone() -> None:
    store = MemoryStore()
    before = await filled(store, 12)
    rows_before = sum(ref.rows for ref in (await head_of(store)).streams[STREAM])
    async with writing(store, takeover=True) as run:
        run.snapshots.end_within(10.0, cut=True)
        await run.compaction.finish()
        await run.snapshots.release()
    assert await net(store) == before
    assert sum(ref.rows for ref in (await head_of(store)).streams[STREAM]) == rows_before


@pytest.mark.parametrize("during", ["run", "finish"])
async def test_a_stop_meanwhile_ends_it_at_once(during: str) -> None:
    store = MemoryStore()
    before = await filled(store, 12)
    reading, silent = anyio.Event(), True

    async def latency(method: str, key: str) -> None:
        if method == "get" and silent and key.startswith("objects/"):
            reading.set()
            await anyio.sleep_forever()

    silent = False
    slow = FaultyStore(store, lambda method, key: Outcome.DONE, latency=latency)
    async with writing(slow, takeover=True) as run:
        silent = True
        if during == "run":
            run.log.append(50, rows(["a"], 50))
            await run.snapshot(50)
            before[50, "a"] += 1
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                group.start_soon(run.compaction.run if during == "run" else run.compaction.finish)
                await reading.wait()
                run.snapshots.end_within(10.0, cut=True)
            await run.snapshots.release()
    silent = False
    assert await net(store) == before


@pytest.mark.parametrize("memory", [0, 1 << 20])
async def test_of_keys_that_are_all_removed_nothing_is_left(memory: int) -> None:
    store = MemoryStore()
    rule = LogRule(("k", ORDER), "latest", ("k",))
    async with writing(store, rule, bounds=replace(TINY, memory=memory)) as run:
        for n, weight in enumerate((1, -1)):
            keys = pl.DataFrame({"k": [f"{k:040}" for k in range(100)], ORDER: range(100 * n, 100 * n + 100)})
            run.log.append(2 * n + 2, Delta(keys, np.full(100, weight)))
            await run.snapshot(2 * n + 2)
        await run.compaction.finish()
    assert (await head_of(store)).streams[STREAM] == []
    # With older ones that are kept apart, the removals have to stay.
    store = MemoryStore()
    async with writing(store, replace(rule, apart=2), bounds=replace(TINY, memory=memory)) as run:
        for n, weight in enumerate((1, -1)):
            keys = pl.DataFrame({"k": [f"{k:040}" for k in range(100)], ORDER: range(100 * n, 100 * n + 100)})
            run.log.append(2 * n + 2, Delta(keys, np.full(100, weight)))
            await run.snapshot(2 * n + 2)
        await run.compaction.finish()
    assert [ref.rows for ref in (await head_of(store)).streams[STREAM]] == [100, 100]


async def test_a_damaged_object_is_no_reason_to_fail_here(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    await filled(store, 12)
    key = (await head_of(store)).streams[STREAM][3].key
    faulty = FaultyStore(store, lambda method, k: Outcome.FLIPPED_BIT if k == key else Outcome.DONE)
    async with writing(faulty, takeover=True) as run:
        await run.compaction.finish()
        assert await run.snapshots.begin_job() is None
        run.log.append(50, rows(["a"], 50))
        await run.snapshot(50)
    assert "cannot be compacted" in caplog.text
    assert (50, "a") in await net(store)
