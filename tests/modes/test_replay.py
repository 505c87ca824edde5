"""Logs given again: as one epoch, epoch by epoch, and with the pauses there were. The oracle is what was recorded."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest

import asyncpersist as ap
from asyncpersist.errors import GraphChanged
from asyncpersist.testing.clocks import ManualClock
from tests.amounts import PATIENCE
from tests.modes.pieces import (
    REPLAYING,
    A,
    Change,
    Feed,
    M,
    Place,
    Price,
    Told,
    Word,
    by_epoch,
    changes,
    counted,
    counts,
    each,
    file_words,
    read,
    rows_in,
    run,
    running,
    shows,
    until,
)


class Paused(ManualClock):
    """Keeps how long was slept on it."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        super().__init__(start)
        self.pauses: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await super().sleep(seconds)


class Standing(ManualClock):
    """On which nobody ever wakes up."""

    asleep = 0

    async def sleep(self, seconds: float) -> None:
        self.asleep += 1
        await asyncio.Event().wait()


def define(place: Place, output: str, *feeds: Feed) -> ap.Graph:
    """The words of all feeds (named first, second ...), and how often there is each."""
    with ap.Graph() as graph:
        tables = [
            ap.io.python.read(feed, schema=Word, name=name)
            for feed, name in zip(feeds, ("first", "second"), strict=False)
        ]
        words = tables[0].concat_reindex(*tables[1:]) if len(tables) > 1 else tables[0]
        ap.io.jsonlines.write(words, place / f"{output}-words.jsonl")
        ap.io.csv.write(counted(words), place / f"{output}.csv")
    return graph


def told(place: Place, output: str) -> list[list[Change]]:
    """What outputs hold, changes of one epoch and sign in any order."""
    found = [changes(place / name) for name in (f"{output}-words.jsonl", f"{output}.csv")]
    return [sorted(part, key=lambda change: (change[1], change[2], change[0])) for part in found]


async def record(place: Place, mode: M, *, access: A = A.RECORD, clock: ManualClock | None = None) -> int:
    """Six words in four epochs, 1.5 seconds apart on a `clock`, from two sources. Gives how many there are."""
    first, second = Feed("a", "b", held=True), Feed("a", held=True)
    async with running(define(place, "recorded", first, second), place.config(mode, access), clock=clock) as runtime:
        await read(runtime, 3)
        for count, (feed, word) in enumerate([(first, "a"), (second, "c"), (first, "b")], start=4):
            if clock is not None:
                clock.advance(1.5)
            feed.push(word)
            await read(runtime, count)
        if count % 2 == 0:
            await runtime.snapshot()
        for feed in (first, second):
            feed.finish()
        await runtime.wait()
    return 6


ALL = ("a", "b", "a", "a", "c", "b")


@pytest.mark.parametrize("full", [False, True])
async def test_batch_is_one_epoch(place: Place, full: bool) -> None:
    await record(place, M.BATCH)
    config = place.config(M.BATCH, A.FULL if full else A.REPLAY, continue_after_replay=False)
    await run(define(place, "replayed", Feed(), Feed()), config)
    words, table = told(place, "replayed")
    assert len(by_epoch(words)) == len(by_epoch(table)) == 1
    assert rows_in(place / "replayed.csv") == counts(*ALL)
    assert rows_in(place / "replayed-words.jsonl") == each(*ALL)
    # It is a new epoch, after all those that were recorded.
    assert table[0][1] > max(time for _, time, _ in changes(place / "recorded.csv"))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("mode", [M.SPEEDRUN_REPLAY, M.REALTIME_REPLAY])
async def test_the_recorded_epochs(place: Place, mode: M, full: bool) -> None:
    await record(place, mode)
    config = place.config(mode, A.FULL if full else A.REPLAY, continue_after_replay=False)
    await run(define(place, "replayed", Feed(), Feed()), config, clock=Paused())
    assert told(place, "replayed") == told(place, "recorded")
    assert len(by_epoch(changes(place / "replayed-words.jsonl"))) >= 4


async def test_the_log_of_a_persisting_run(anywhere: Place) -> None:
    """It was kept for other reasons, but holds the epochs as long as it was not compacted."""
    await record(anywhere, M.PERSISTING, access=A.FULL)
    config = anywhere.config(M.SPEEDRUN_REPLAY, A.REPLAY, continue_after_replay=False)
    await run(define(anywhere, "replayed", Feed(), Feed()), config)
    assert rows_in(anywhere / "replayed.csv") == counts(*ALL)
    assert rows_in(anywhere / "replayed-words.jsonl") == each(*ALL)
    recorded, replayed = (
        {change[1] for change in changes(anywhere / f"{name}.csv")} for name in ("recorded", "replayed")
    )
    assert replayed <= recorded


@pytest.mark.parametrize("full", [False, True])
async def test_real_pauses(anywhere: Place, full: bool) -> None:
    clock = Paused()
    await record(anywhere, M.REALTIME_REPLAY, clock=clock)
    epochs = sorted({time for _, time, _ in changes(anywhere / "recorded.csv")})
    pauses = [(after - before) / 1000 for before, after in pairwise(epochs)]
    assert sum(pauses) == pytest.approx(4.5)

    clock = Paused(1_800_000_000.0)
    config = anywhere.config(M.REALTIME_REPLAY, A.FULL if full else A.REPLAY, continue_after_replay=False)
    await run(define(anywhere, "replayed", Feed(), Feed()), config, clock=clock)
    assert clock.pauses == pytest.approx(pauses)
    assert clock.monotonic() == pytest.approx(4.5)
    assert told(anywhere, "replayed") == told(anywhere, "recorded")


@pytest.mark.parametrize("mode", [M.BATCH, M.SPEEDRUN_REPLAY])
async def test_no_pauses(anywhere: Place, mode: M) -> None:
    await record(anywhere, mode, clock=Paused())
    clock = Paused(1_800_000_000.0)
    config = anywhere.config(mode, A.REPLAY, continue_after_replay=False)
    await run(define(anywhere, "replayed", Feed(), Feed()), config, clock=clock)
    assert clock.pauses == []


@pytest.mark.parametrize("access", [A.FULL, A.REPLAY])
async def test_a_stop_in_the_middle_of_a_pause(anywhere: Place, access: A) -> None:
    await record(anywhere, M.REALTIME_REPLAY, clock=Paused())
    clock = Standing(1_800_000_000.0)
    later = Feed("a", "b", "a", "b", "z")
    config = anywhere.config(M.REALTIME_REPLAY, access)
    streams = (await anywhere.head()).streams
    async with running(define(anywhere, "replayed", later, Feed()), config, clock=clock) as runtime:
        await until(lambda: clock.asleep)
        words = told(anywhere, "recorded")[0]
        assert runtime.statistics().rows_read == sum(change[1] == words[0][1] for change in words)
        async with asyncio.timeout(PATIENCE):
            await runtime.stop()
    recorded, replayed = told(anywhere, "recorded"), told(anywhere, "replayed")
    first = recorded[0][0][1]
    assert replayed == [[change for change in part if change[1] == first] for part in recorded]
    assert later.runs == 0
    # The log is as it was, and is replayed in full by the next run.
    assert (await anywhere.head()).streams == streams
    config = anywhere.config(M.SPEEDRUN_REPLAY, access, continue_after_replay=False)
    await run(define(anywhere, "replayed", Feed(), Feed()), config)
    assert told(anywhere, "replayed") == recorded


@pytest.mark.parametrize("mode", REPLAYING)
@pytest.mark.parametrize("access", [A.FULL, A.REPLAY])
async def test_then_live(anywhere: Place, mode: M, access: A) -> None:
    await record(anywhere, mode)
    feed = Feed("a", "b", "a", "b", "z", held=True)
    graph = define(anywhere, "replayed", feed, Feed("a", "c"))
    async with running(graph, anywhere.config(mode, access), clock=None) as runtime:
        await read(runtime, 7)
        assert feed.sought == [4]
        feed.push("a")
        await read(runtime, 8)
        feed.finish()
        await runtime.wait()
    assert rows_in(anywhere / "replayed.csv") == counts(*ALL, "z", "a")
    recorded = told(anywhere, "recorded")
    last = recorded[1][-1][1]
    replayed = told(anywhere, "replayed")
    if mode is not M.BATCH:
        assert [[change for change in part if change[1] <= last] for part in replayed] == recorded
    live = [change for change in changes(anywhere / "replayed-words.jsonl") if change[1] > last]
    assert [row for row, _, _ in live][-2:] == [("z",), ("a",)]
    assert len(by_epoch(live)) == (3 if mode is M.BATCH else 2)

    # With FULL, what came live was appended to the log, under its epochs.
    replay = anywhere.config(M.SPEEDRUN_REPLAY, A.REPLAY, continue_after_replay=False)
    await run(define(anywhere, "again", Feed(), Feed()), replay)
    assert rows_in(anywhere / "again.csv") == (counts(*ALL, "z", "a") if access is A.FULL else counts(*ALL))
    if access is A.FULL and mode is not M.BATCH:
        assert told(anywhere, "again") == replayed


@pytest.mark.parametrize("mode", REPLAYING)
async def test_sources_without_a_name(anywhere: Place, mode: M) -> None:
    """What is not named is not recorded: its rows are read again, after the replay."""

    def define(*words: str) -> ap.Graph:
        with ap.Graph() as graph:
            named = ap.io.python.read(Feed(*words), schema=Word, name="feed")
            unnamed = ap.io.python.read(Feed(*words), schema=Word)
            ap.io.csv.write(named.concat_reindex(unnamed), anywhere / "out.csv")
        return graph

    await run(define("a", "b"), anywhere.config(mode))
    await run(define("a", "b", "c"), anywhere.config(mode))
    assert rows_in(anywhere / "out.csv") == each("a", "a", "b", "b", "c", "c")
    assert (await anywhere.head()).logs.keys() == {"source.feed"}


def rewritten(place: Place, rewrites: Iterable[tuple[str, list[str] | None]]) -> None:
    for name, words in rewrites:
        (place / name).unlink(missing_ok=True)
        if words is not None:
            place.write(name, *words)


def files(place: Place, output: str, mode: str = "static") -> ap.Graph:
    with ap.Graph() as graph:
        words = file_words(place / "in", name="files", mode=mode)
        ap.io.jsonlines.write(words, place / f"{output}-words.jsonl")
        ap.io.csv.write(counted(words), place / f"{output}.csv")
    return graph


async def test_retractions_of_a_followed_directory(place: Place) -> None:
    """Files are rewritten and deleted while they are recorded."""
    rewritten(place, [("in/1.jsonl", ["a", "b"]), ("in/2.jsonl", ["a"])])
    recording = place.config(M.SPEEDRUN_REPLAY, A.RECORD)
    out = place / "recorded.csv"
    async with running(files(place, "recorded", "streaming"), recording) as runtime:
        await read(runtime, 3)
        await until(lambda: shows(out, counts("a", "a", "b")))
        rewritten(place, [("in/1.jsonl", ["c"])])
        await until(lambda: shows(out, counts("a", "c")))
        rewritten(place, [("in/2.jsonl", None)])
        await until(lambda: shows(out, counts("c")))
        place.write("in/1.jsonl", "c", "d")
        await until(lambda: shows(out, counts("c", "c", "d")))
    assert rows_in(out) == counts("c", "c", "d")
    await run(files(place, "replayed"), place.config(M.SPEEDRUN_REPLAY, A.REPLAY, continue_after_replay=False))
    assert told(place, "replayed") == told(place, "recorded")
    await run(files(place, "batch"), place.config(M.BATCH, A.REPLAY, continue_after_replay=False))
    # One epoch, in which what cancels out does not appear.
    assert changes(place / "batch.csv")[0][2] == 1
    assert rows_in(place / "batch.csv") == counts("c", "c", "d")
    assert all(diff == 1 for _, _, diff in changes(place / "batch-words.jsonl"))


@pytest.mark.parametrize("mode", REPLAYING)
async def test_retractions_over_several_runs(anywhere: Place, mode: M) -> None:
    steps: list[list[tuple[str, list[str] | None]]] = [
        [("in/1.jsonl", ["a", "b"]), ("in/2.jsonl", ["a"])],
        [("in/1.jsonl", ["a", "c"])],
        [("in/2.jsonl", None), ("in/3.jsonl", ["d"])],
        [],
    ]
    live: dict[str, list[str] | None] = {}
    before: list[list[Change]] = [[], []]
    for step in steps:
        rewritten(anywhere, step)
        live.update(step)
        await run(files(anywhere, "out"), anywhere.config(mode), clock=Paused())
        words = [word for part in live.values() for word in part or ()]
        assert rows_in(anywhere / "out.csv") == counts(*words)
        assert rows_in(anywhere / "out-words.jsonl") == each(*words)
        found = told(anywhere, "out")
        if mode is not M.BATCH:
            # A replay gives exactly what the runs before gave, under the same epochs.
            assert [part[: len(b)] for part, b in zip(found, before, strict=True)] == before
        before = found


async def test_a_keyed_source(anywhere: Place) -> None:
    rows = [{"item": "a", "amount": 1}, {"item": "b", "amount": 2}, {"item": "a", "amount": 3}]

    def define(output: str, feed: Feed) -> ap.Graph:
        with ap.Graph() as graph:
            ap.io.csv.write(ap.io.python.read(feed, schema=Price, name="prices"), anywhere / output)
        return graph

    feed = Feed(*rows[:2], held=True)
    async with running(define("recorded.csv", feed), anywhere.config(M.SPEEDRUN_REPLAY, A.RECORD)) as runtime:
        await read(runtime, 2)
        feed.push(rows[2])
        await read(runtime, 3)
    replay = anywhere.config(M.SPEEDRUN_REPLAY, A.REPLAY, continue_after_replay=False)
    await run(define("replayed.csv", Feed()), replay)
    assert (anywhere / "replayed.csv").read_text() == (anywhere / "recorded.csv").read_text()
    assert rows_in(anywhere / "replayed.csv") == Counter({("a", "3"): 1, ("b", "2"): 1})
    # And a later row replaces what was replayed.
    later = Feed(*rows, {"item": "b", "amount": 9})
    await run(define("replayed.csv", later), anywhere.config(M.SPEEDRUN_REPLAY))
    assert rows_in(anywhere / "replayed.csv") == Counter({("a", "3"): 1, ("b", "9"): 1})


async def test_another_graph_replays_the_same(anywhere: Place) -> None:
    """The logs are what is replayed; what is computed from them may be anything."""
    await record(anywhere, M.SPEEDRUN_REPLAY)
    with ap.Graph() as graph:
        second = ap.io.python.read(Feed(), schema=Word, name="second")
        ap.io.csv.write(second.reduce(n=ap.reducers.count()), anywhere / "other.csv")
    await run(graph, anywhere.config(M.SPEEDRUN_REPLAY, A.REPLAY, continue_after_replay=False))
    assert [(row, diff) for row, _, diff in changes(anywhere / "other.csv")] == [
        (("1",), 1),
        (("1",), -1),
        (("2",), 1),
    ]


async def test_a_recording_has_ids(anywhere: Place) -> None:
    """A replay may ask for ids that the recording's graph did not need."""
    rewritten(anywhere, [("in/1.jsonl", ["a", "b", "a"])])
    await run(files(anywhere, "recorded"), anywhere.config(M.BATCH, A.RECORD))
    subscription = Told()
    with ap.Graph() as graph:
        ap.io.subscribe(file_words(anywhere / "in", name="files"), subscription)
    await run(graph, anywhere.config(M.SPEEDRUN_REPLAY, A.REPLAY))
    assert subscription.rows == each("a", "b", "a")


async def test_a_recording_without_ids(anywhere: Place) -> None:
    """Rows of a subject that may remove them have none, unless they were asked for."""
    await record(anywhere, M.BATCH)
    with ap.Graph() as graph:
        ap.io.subscribe(ap.io.python.read(Feed(), schema=Word, name="first"), Told())
    with pytest.raises(GraphChanged, match=r"'first'.* holds no row ids.*record the source anew with this graph"):
        await run(graph, anywhere.config(M.BATCH, A.REPLAY))


async def test_what_a_busy_owner_deletes_is_replayed_all_the_same(anywhere: Place) -> None:
    words = [str(number % 7) for number in range(40)]
    seen: list[str] = []

    async def look(key: ap.Pointer, row: dict[str, Any], time: int, is_addition: bool) -> None:
        if not seen:
            store = anywhere.store
            await store.delete([entry.key for entry in await store.list("objects/")])
        seen.append(row["word"])

    feed = Feed(*words, held=True)
    with ap.Graph() as owner:
        ap.io.null.write(
            ap.io.python.read(feed, schema=Word, name="feed").reduce(least=ap.reducers.argmin(ap.this.word))
        )
    async with ap.Runtime(owner, persistence_config=anywhere.config()) as runtime:
        while runtime.statistics().rows_read < len(words):
            await asyncio.sleep(0)
        await runtime.snapshot()
        config = anywhere.config(M.SPEEDRUN_REPLAY, A.REPLAY, continue_after_replay=False)
        with ap.Graph() as replayed:
            ap.io.subscribe(ap.io.python.read(Feed(), schema=Word, name="feed"), look)
        await run(replayed, config)
        feed.finish()
    assert Counter(seen) == Counter(words)
