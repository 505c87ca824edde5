"""Each mode: what is kept, and what a restart does with it."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

import pytest

import asyncpersist as ap
from asyncpersist.checkpoint.manifest import Manifest
from asyncpersist.errors import GraphError, InputError
from tests.modes.pieces import (
    REPLAYING,
    A,
    Feed,
    Lost,
    M,
    Place,
    Price,
    Word,
    changes,
    counted,
    counts,
    crashed,
    each,
    file_words,
    read,
    rows_in,
    run,
    running,
    until,
)

KINDS = ("named_file", "file", "named_feed", "feed")
FILE, FEED = ("a", "b", "a"), ("x", "y", "x", "x")
FILE_LATER, FEED_LATER = ("a", "c"), ("y",)

NAMED = {"named_file", "named_feed"}


@dataclass
class World:
    """A named and an unnamed source of either kind; of each the rows and their counts, and the counts of all four."""

    place: Place
    feeds: dict[str, Feed]
    graph: ap.Graph

    @staticmethod
    def define(place: Place, *fed: str) -> World:
        feeds = {"named_feed": Feed(*fed), "feed": Feed(*fed)}
        with ap.Graph() as graph:
            tables = {
                "named_file": file_words(place / "named_file", name="files"),
                "file": file_words(place / "file"),
                "named_feed": ap.io.python.read(feeds["named_feed"], schema=Word, name="feed"),
                "feed": ap.io.python.read(feeds["feed"], schema=Word),
            }
            for kind, table in tables.items():
                ap.io.csv.write(table, place / f"{kind}.csv")
                ap.io.csv.write(counted(table), place / f"{kind}-counts.csv")
            ap.io.csv.write(counted(tables["named_file"].concat_reindex(*list(tables.values())[1:])), place / "all.csv")
        return World(place, feeds, graph)


def write_files(place: Place, name: str, *words: str) -> None:
    for kind in ("named_file", "file"):
        place.write(f"{kind}/{name}", *words)


async def two_runs(place: Place, mode: M) -> tuple[World, ap.Statistics, dict[str, int]]:
    """A run, more input, and another run: that one, its figures, and the files that the first one wrote."""
    write_files(place, "1.jsonl", *FILE)
    await run(World.define(place, *FEED).graph, place.config(mode))
    before = {path.name: path.stat().st_ino for path in place.folder.glob("*.csv")}
    write_files(place, "2.jsonl", *FILE_LATER)
    world = World.define(place, *FEED, *FEED_LATER)
    return world, await run(world.graph, place.config(mode)), before


def kept(manifest: Manifest, kind: str) -> set[str]:
    """Which sources (`named_file` ...), or which operators by the sources above, have a stream of a kind."""
    names = set()
    for stream in manifest.streams:
        if stream.startswith(f"{kind}/"):
            (identity,) = [i for i in manifest.graph if stream == f"{kind}/{i}" or stream.startswith(f"{kind}/{i}/")]
            names.add(identity)
    return names


def source_names(manifest: Manifest, identities: set[str]) -> set[str]:
    names = {"source.files": "named_file", "source.feed": "named_feed"}
    found = set()
    for identity in identities:
        label = manifest.graph[identity]["schema"]["connector"]
        found.add(names.get(identity, "feed" if label == "python" else "file"))
    return found


ALL = set(KINDS)
WHAT_IS_KEPT = {
    # mode: offsets, logs, operators with state
    M.PERSISTING: (ALL, ALL, 5),
    M.OPERATOR_PERSISTING: (ALL, {"named_file", "file"}, 5),
    M.SELECTIVE_PERSISTING: (NAMED, NAMED, 2),
    M.UDF_CACHING: (NAMED, NAMED, 0),
    M.BATCH: (NAMED, NAMED, 0),
    M.SPEEDRUN_REPLAY: (NAMED, NAMED, 0),
    M.REALTIME_REPLAY: (NAMED, NAMED, 0),
}


def judge_kept(head: Manifest, mode: M) -> None:
    offsets, logs, states = WHAT_IS_KEPT[mode]
    assert (head.mode, head.access) == (mode.name, "FULL")
    assert source_names(head, kept(head, "offsets")) == offsets
    assert source_names(head, kept(head, "log")) == logs
    assert source_names(head, set(head.logs)) == logs
    assert all(facts.since == 0 for facts in head.logs.values())
    assert len(kept(head, "state")) == states
    for identity, entry in head.graph.items():
        if identity.startswith("source"):
            assert entry["kept"] == (source_names(head, {identity}) <= offsets)
        elif not identity.startswith("sink"):
            if states == 5 or identity in kept(head, "state"):
                assert entry["kept"]
            if states == 0:
                assert not entry["kept"]


@pytest.mark.parametrize("mode", M)
async def test_what_is_kept_and_what_a_restart_does(place: Place, mode: M) -> None:
    world, figures, before = await two_runs(place, mode)
    judge_kept(await place.head(), mode)
    named_new, unnamed_new = len(FILE_LATER + FEED_LATER), len(FILE + FEED + FILE_LATER + FEED_LATER)
    anew = {
        M.PERSISTING: set(),
        M.OPERATOR_PERSISTING: set(),
        M.SELECTIVE_PERSISTING: {"file", "feed", "all"},
        M.UDF_CACHING: {"file", "feed"},
    }.get(mode, {*KINDS, "all"})
    later = {"named_file": FILE_LATER, "file": FILE_LATER, "named_feed": FEED_LATER, "feed": FEED_LATER}
    whole = {kind: (FILE if "file" in kind else FEED) + words for kind, words in later.items()}

    # What is read, and from where.
    sought = {kind for kind, feed in world.feeds.items() if feed.sought}
    assert sought == ({"named_feed", "feed"} if mode in (M.PERSISTING, M.OPERATOR_PERSISTING) else {"named_feed"})
    assert all(feed.sought in ([], [len(FEED)]) for feed in world.feeds.values())
    expected = {
        M.PERSISTING: 2 * named_new,
        M.OPERATOR_PERSISTING: 2 * named_new,
        M.SELECTIVE_PERSISTING: named_new + unnamed_new,
        M.UDF_CACHING: named_new + unnamed_new,
    }
    assert figures.rows_read == expected.get(mode, 2 * unnamed_new)

    # Which outputs go on.
    for name, file in before.items():
        goes_on = name.removesuffix(".csv").removesuffix("-counts") not in anew
        assert ((place / name).stat().st_ino == file) == goes_on, name

    # And what they hold.
    for kind in KINDS:
        assert rows_in(place / f"{kind}.csv") == each(*whole[kind])
        found = rows_in(place / f"{kind}-counts.csv")
        if mode is M.UDF_CACHING and kind in NAMED:
            # Its old rows are not given again, and state starts empty.
            assert found == counts(*(FILE if kind == "named_file" else FEED)) + counts(*later[kind])
        else:
            assert found == counts(*whole[kind])
    everything = [word for words in whole.values() for word in words]
    if mode is M.UDF_CACHING:
        seen = [word for kind in KINDS for word in (later if kind in NAMED else whole)[kind]]
        assert rows_in(place / "all.csv") == counts(*FILE, *FILE, *FEED, *FEED) + counts(*seen)
    else:
        assert rows_in(place / "all.csv") == counts(*everything)


@pytest.mark.parametrize("mode", M)
async def test_a_restart_with_nothing_new(anywhere: Place, mode: M) -> None:
    anywhere.write("in/1.jsonl", *FILE)

    def define() -> ap.Graph:
        with ap.Graph() as graph:
            ap.io.csv.write(counted(file_words(anywhere / "in", name="files")), anywhere / "out.csv")
        return graph

    await run(define(), anywhere.config(mode))
    before = (anywhere / "out.csv").read_text()
    streams = (await anywhere.head()).streams
    figures = await run(define(), anywhere.config(mode))
    assert rows_in(anywhere / "out.csv") == counts(*FILE)
    if mode not in REPLAYING:
        assert (anywhere / "out.csv").read_text() == before
    assert (await anywhere.head()).streams == streams
    assert figures.rows_read == (len(FILE) if mode in REPLAYING else 0)


@pytest.mark.parametrize("mode", M)
async def test_rows_are_counted_once_over_runs(anywhere: Place, mode: M) -> None:
    """What is replayed was counted when it was read."""
    for count in (2, 3, 3):
        with ap.Graph() as graph:
            words = ap.io.python.read(Feed(*["a"] * count), schema=Word, name="feed")
            ap.io.csv.write(words, anywhere / "out.csv")
        await run(graph, anywhere.config(mode))
    assert (await anywhere.head()).progress["rows"] == 3


@pytest.mark.parametrize("mode", M)
async def test_a_crash_loses_and_doubles_nothing(place: Place, mode: M) -> None:
    """What was stepped and not committed comes again."""
    told: list[int] = []

    def define(*words: str, held: bool) -> ap.Graph:
        with ap.Graph() as graph:
            table = ap.io.python.read(Feed(*words, held=held), schema=Word, name="feed")
            ap.io.csv.write(table, place / "out.csv")
            ap.io.csv.write(counted(table), place / "counts.csv")
            ap.io.subscribe(counted(table), lambda **change: told.append(change["time"]))
        return graph

    await run(define("a", "b", held=False), place.config(mode))
    before = max(told)
    told.clear()
    await crashed(define("a", "b", "a", held=True), place.config(mode), when=lambda _: told and max(told) > before)
    await run(define("a", "b", "a", "c", held=False), place.config(mode))
    assert rows_in(place / "out.csv") == each("a", "b", "a", "c")
    if mode is M.UDF_CACHING:
        assert rows_in(place / "counts.csv") == counts("a", "b") + counts("a", "c")
    else:
        assert rows_in(place / "counts.csv") == counts("a", "b", "a", "c")


@pytest.mark.parametrize("mode", [M.PERSISTING, M.OPERATOR_PERSISTING, M.SELECTIVE_PERSISTING, *REPLAYING])
async def test_a_file_that_changes_takes_back_what_it_gave(place: Place, mode: M) -> None:
    def define() -> ap.Graph:
        with ap.Graph() as graph:
            words = file_words(place / "in", name="files")
            ap.io.csv.write(words, place / "out.csv")
            ap.io.csv.write(counted(words), place / "counts.csv")
        return graph

    place.write("in/1.jsonl", "a", "b")
    place.write("in/2.jsonl", "a", "c")
    await run(define(), place.config(mode))
    (place / "in/1.jsonl").write_text('{"word": "d"}\n')
    await run(define(), place.config(mode))
    assert rows_in(place / "counts.csv") == counts("a", "c", "d")
    (place / "in/2.jsonl").unlink()
    place.write("in/3.jsonl", "a")
    await run(define(), place.config(mode))
    assert rows_in(place / "out.csv") == each("d", "a")
    assert rows_in(place / "counts.csv") == counts("d", "a")
    place.write("in/3.jsonl", "a")
    await run(define(), place.config(mode))
    assert rows_in(place / "counts.csv") == counts("d", "a", "a")


async def test_a_retraction_of_what_operators_have_not_seen(anywhere: Place) -> None:
    """UDF_CACHING: rows of an earlier run are not given again, and not taken back from what never had them."""

    def define() -> ap.Graph:
        with ap.Graph() as graph:
            words = file_words(anywhere / "in", name="files")
            ap.io.csv.write(words, anywhere / "out.csv")
            ap.io.csv.write(counted(words), anywhere / "counts.csv")
        return graph

    anywhere.write("in/1.jsonl", "a", "b")
    await run(define(), anywhere.config(M.UDF_CACHING))
    (anywhere / "in/1.jsonl").unlink()
    anywhere.write("in/2.jsonl", "a")
    await run(define(), anywhere.config(M.UDF_CACHING))
    assert changes(anywhere / "counts.csv")[-1][::2] == (("a", "1"), 1)
    with ap.Graph() as graph:
        ap.io.csv.write(file_words(anywhere / "in", name="files"), anywhere / "replayed.csv")
    await run(graph, anywhere.config(M.BATCH, A.REPLAY))
    assert rows_in(anywhere / "replayed.csv") == each("a")


@pytest.mark.parametrize("mode", M)
async def test_keyed_sources(anywhere: Place, mode: M) -> None:
    first = [{"item": "a", "amount": 1}, {"item": "b", "amount": 2}]
    later = [{"item": "a", "amount": 3}]

    def define(*rows: dict[str, object]) -> ap.Graph:
        with ap.Graph() as graph:
            named = ap.io.python.read(Feed(*rows), schema=Price, name="prices")
            unnamed = ap.io.python.read(Feed(*rows), schema=Price)
            ap.io.csv.write(named, anywhere / "named.csv")
            ap.io.csv.write(unnamed, anywhere / "unnamed.csv")
        return graph

    await run(define(*first), anywhere.config(mode))
    await run(define(*first, *later), anywhere.config(mode))
    after = Counter({("a", "3"): 1, ("b", "2"): 1})
    assert rows_in(anywhere / "unnamed.csv") == after
    if mode is M.UDF_CACHING:
        # Its state starts empty, so that the old price is not known any more.
        assert rows_in(anywhere / "named.csv") == after + Counter({("a", "1"): 1})
    else:
        assert rows_in(anywhere / "named.csv") == after


# Names and what cannot resume


async def test_a_name_on_an_operator_above_an_unnamed_source(anywhere: Place) -> None:
    anywhere.write("named/1.jsonl", "a")
    anywhere.write("unnamed/1.jsonl", "a")
    with ap.Graph() as graph:
        named = file_words(anywhere / "named", name="files")
        both = named.concat_reindex(file_words(anywhere / "unnamed"))
        ap.io.csv.write(counted(both, "counts"), anywhere / "out.csv")
    before = await anywhere.contents()
    with pytest.raises(
        GraphError, match=r"'counts'.* has a name, but source .*unnamed.* above it has none.*Give that source a"
    ):
        await run(graph, anywhere.config(M.SELECTIVE_PERSISTING))
    assert await anywhere.contents() == before
    assert not (anywhere / "out.csv").exists()
    with ap.Graph() as graph:
        ap.io.csv.write(counted(file_words(anywhere / "named", name="files"), "counts"), anywhere / "out.csv")
    await run(graph, anywhere.config(M.SELECTIVE_PERSISTING))


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("mode", M)
async def test_a_subject_that_cannot_resume(anywhere: Place, mode: M, named: bool) -> None:
    subject = Lost("a")

    def define(resume: str | None = None) -> ap.Graph:
        with ap.Graph() as graph:
            table = ap.io.python.read(subject, schema=Word, name="feed" if named else None, resume=resume)  # type: ignore[arg-type]
            ap.io.csv.write(table, anywhere / "out.csv")
        return graph

    if named or mode in (M.PERSISTING, M.OPERATOR_PERSISTING):
        with pytest.raises(InputError, match=r'resume="restart"'):
            await run(define(), anywhere.config(mode))
        assert await anywhere.contents() == {}
        assert subject.runs == 0
        for _ in range(2):
            await run(define("restart"), anywhere.config(mode))
        assert rows_in(anywhere / "out.csv") == each("a", "a")
    else:
        for _ in range(2):
            await run(define(), anywhere.config(mode))
        assert rows_in(anywhere / "out.csv") == each("a")


@pytest.mark.parametrize("mode", [*REPLAYING, M.SELECTIVE_PERSISTING, M.UDF_CACHING])
async def test_nothing_named_is_said(anywhere: Place, mode: M, caplog: pytest.LogCaptureFixture) -> None:
    with ap.Graph() as graph:
        ap.io.csv.write(ap.io.python.read(Feed("a"), schema=Word), anywhere / "out.csv")
    await run(graph, anywhere.config(mode))
    assert f"persistence mode {mode.name} keeps named sources only" in caplog.text


# Snapshots


async def test_nothing_is_committed_when_nothing_changed(anywhere: Place) -> None:
    feed = Feed("a", held=True)
    with ap.Graph() as graph:
        ap.io.csv.write(ap.io.python.read(feed, schema=Word), anywhere / "out.csv")
    async with running(graph, anywhere.config(snapshot_interval_ms=2)) as runtime:
        await until(lambda: runtime.statistics().snapshots)
        await until(lambda: not runtime.statistics().snapshot_age)
        before = runtime.statistics()
        contents = await anywhere.contents()
        began = time.monotonic()
        await until(lambda: time.monotonic() > began + 0.05)
        assert await anywhere.contents() == contents
        assert runtime.statistics() == before
        feed.push("b")
        await until(lambda: runtime.statistics().snapshots > before.snapshots)
        feed.finish()
        await runtime.wait()


async def test_what_statistics_say_of_snapshots(anywhere: Place) -> None:
    feed = Feed("a", held=True)
    with ap.Graph() as graph:
        ap.io.csv.write(ap.io.python.read(feed, schema=Word), anywhere / "out.csv")
    async with running(graph, anywhere.config()) as runtime:
        await read(runtime, 1)
        figures = runtime.statistics()
        assert (figures.snapshots, figures.snapshot_bytes, figures.snapshot_seconds) == (0, 0, 0.0)
        await until(lambda: runtime.statistics().snapshot_age > 0)
        manifest = await runtime.snapshot()
        figures = runtime.statistics()
        assert figures.snapshots == 1
        assert figures.snapshot == manifest.sequence
        assert figures.snapshot_age == 0
        assert figures.snapshot_seconds > 0
        assert figures.snapshot_bytes == sum(ref.length for ref in manifest.objects())
        first, before = manifest, figures.state_bytes_written + figures.log_bytes_written
        feed.push("b")
        await read(runtime, 2)
        manifest = await runtime.snapshot()
        new = [ref for ref in manifest.objects() if ref not in first.objects()]
        figures = runtime.statistics()
        assert figures.snapshots == 2
        assert figures.snapshot_bytes >= sum(ref.length for ref in new)
        assert figures.snapshot_bytes == figures.state_bytes_written + figures.log_bytes_written - before
        feed.finish()
        await runtime.wait()


@pytest.mark.parametrize("access", [A.FULL, A.RECORD])
async def test_the_first_snapshot_holds_it_all(anywhere: Place, access: A) -> None:
    with ap.Graph() as graph:
        ap.io.csv.write(counted(ap.io.python.read(Feed("a", "b"), schema=Word, name="feed")), anywhere / "out.csv")
    await run(graph, anywhere.config(M.PERSISTING, access))
    head = await anywhere.head()
    assert head.logs["source.feed"].since == 0
    assert sum(ref.rows for ref in head.streams["log/source.feed"]) == 2
    assert (any(stream.startswith("state/") for stream in head.streams)) == (access is A.FULL)
