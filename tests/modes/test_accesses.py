"""What a run may do with what is kept: FULL, RECORD, REPLAY and OFFSETS_ONLY."""

from __future__ import annotations

import asyncio

import pytest

import asyncpersist as ap
from asyncpersist.errors import GraphError, InputNotFound, ModeChanged, OutputError, RunStopped, StateError, StateInUse
from tests.modes.pieces import (
    REPLAYING,
    A,
    Feed,
    Lost,
    M,
    Place,
    Told,
    Word,
    changes,
    counted,
    counts,
    each,
    file_words,
    read,
    rows_in,
    run,
    running,
)


def define(
    place: Place, subject: ap.io.python.ConnectorSubject, output: str = "out.csv", *, name: str | None = "feed"
) -> ap.Graph:
    """Counts the words of a subject."""
    with ap.Graph() as graph:
        words = ap.io.python.read(subject, schema=Word, name=name)
        ap.io.csv.write(counted(words), place / output)
    return graph


def streams_of(kind: str, streams: dict[str, object]) -> list[str]:
    return [stream for stream in streams if stream.startswith(f"{kind}/")]


# RECORD


@pytest.mark.parametrize("mode", [M.PERSISTING, *REPLAYING])
async def test_a_recording(place: Place, mode: M) -> None:
    feed, other = Feed("a", "b", "a"), Feed("x")
    with ap.Graph() as graph:
        words = ap.io.python.read(feed, schema=Word, name="feed")
        ap.io.csv.write(counted(words.concat_reindex(ap.io.python.read(other, schema=Word))), place / "out.csv")
    await run(graph, place.config(mode, A.RECORD))
    assert rows_in(place / "out.csv") == counts("a", "b", "a", "x")
    assert feed.sought == other.sought == []
    head = await place.head()
    assert (head.mode, head.access) == (mode.name, "RECORD")
    assert streams_of("state", head.streams) == []
    assert head.sinks == {}
    # Of all sources with PERSISTING, else of the named ones.
    assert len(streams_of("log", head.streams)) == (2 if mode is M.PERSISTING else 1)
    refs = head.streams["log/source.feed"]
    assert sum(ref.rows for ref in refs) == 3, "the history: equal rows stay apart"
    assert not any(ref.compacted for ref in refs)
    assert head.logs["source.feed"].since == 0
    assert head.logs["source.feed"].ids == (not words.node.source.remover)  # type: ignore[union-attr]

    # A second one is refused, and changes nothing.
    before = await place.contents()
    output = (place / "out.csv").read_text()
    for access_mode in (M.PERSISTING, *REPLAYING):
        with pytest.raises(ModeChanged, match="RECORD only writes to an empty place: replay it with SnapshotAccess"):
            await run(define(place, Feed("c")), place.config(access_mode, A.RECORD))
    assert await place.contents() == before
    assert (place / "out.csv").read_text() == output


@pytest.mark.parametrize("mode", [M.PERSISTING, M.OPERATOR_PERSISTING, M.UDF_CACHING, M.BATCH])
async def test_a_recording_onto_the_state_of_a_run(anywhere: Place, mode: M) -> None:
    await run(define(anywhere, Feed("a")), anywhere.config(mode))
    before = await anywhere.contents()
    with pytest.raises(ModeChanged, match="holds a recording or the state of a run already"):
        await run(define(anywhere, Feed("a"), "other.csv"), anywhere.config(M.PERSISTING, A.RECORD))
    assert await anywhere.contents() == before
    assert not (anywhere / "other.csv").exists()


@pytest.mark.parametrize("mode", REPLAYING)
async def test_a_recording_of_nothing_named(anywhere: Place, mode: M) -> None:
    feed = Feed("a")
    with pytest.raises(GraphError, match=r"no source has a name=.*PersistenceMode\.PERSISTING"):
        await run(define(anywhere, feed, name=None), anywhere.config(mode, A.RECORD))
    assert feed.runs == 0
    assert await anywhere.contents() == {}
    await run(define(anywhere, Feed("a"), name=None), anywhere.config(M.PERSISTING, A.RECORD))


async def test_a_recording_that_failed_before_anything_was_recorded(anywhere: Place) -> None:
    with pytest.raises(InputNotFound):
        with ap.Graph() as graph:
            ap.io.csv.write(file_words(anywhere / "nothing", name="feed"), anywhere / "out.csv")
        await run(graph, anywhere.config(M.BATCH, A.RECORD))
    await run(define(anywhere, Feed("a")), anywhere.config(M.BATCH, A.RECORD))
    await run(define(anywhere, Feed(), "replayed.csv"), anywhere.config(M.BATCH, A.REPLAY, continue_after_replay=False))
    assert rows_in(anywhere / "replayed.csv") == counts("a")


async def test_a_recording_goes_on_in_a_replay_mode(anywhere: Place) -> None:
    """FULL replays what was recorded, and appends to it."""
    await run(define(anywhere, Feed("a")), anywhere.config(M.SPEEDRUN_REPLAY, A.RECORD))
    await run(define(anywhere, Feed("a", "b")), anywhere.config(M.SPEEDRUN_REPLAY))
    await run(define(anywhere, Feed("a", "b")), anywhere.config(M.BATCH))
    assert rows_in(anywhere / "out.csv") == counts("a", "b")
    head = await anywhere.head()
    assert sum(ref.rows for ref in head.streams["log/source.feed"]) == 2


# REPLAY


@pytest.mark.parametrize("mode", [M.PERSISTING, *REPLAYING])
@pytest.mark.parametrize("ends", [True, False])
async def test_a_replay(anywhere: Place, mode: M, ends: bool) -> None:
    """It reads the log, seeks sources if they are started at all, and writes nothing."""
    await run(define(anywhere, Feed("a", "b", "a"), "recorded.csv"), anywhere.config(M.PERSISTING))
    before = await anywhere.contents()
    feed = Feed("a", "b", "a", "c")
    figures = await run(
        define(anywhere, feed, "replayed.csv"), anywhere.config(mode, A.REPLAY, continue_after_replay=not ends)
    )
    assert await anywhere.contents() == before
    if ends:
        assert (feed.runs, feed.sought) == (0, [])
        assert rows_in(anywhere / "replayed.csv") == counts("a", "b", "a")
    else:
        assert (feed.runs, feed.sought) == (1, [3])
        assert rows_in(anywhere / "replayed.csv") == counts("a", "b", "a", "c")
    assert figures.rows_read == (3 if ends else 4)
    assert figures.snapshots == 0
    # Nothing was claimed: the next run goes on where the first one was.
    assert (await anywhere.head()).kind == "release"
    await run(define(anywhere, feed, "recorded.csv"), anywhere.config())
    assert rows_in(anywhere / "recorded.csv") == counts("a", "b", "a", "c")


async def test_a_replay_without_its_input(anywhere: Place) -> None:
    """Sources that are never started may be gone, or be unable to go on."""

    def define(name: str) -> ap.Graph:
        with ap.Graph() as graph:
            words = file_words(anywhere / "in", name="files")
            ap.io.csv.write(counted(words), anywhere / name)
        return graph

    path = anywhere.write("in/1.jsonl", "a", "b")
    await run(define("recorded.csv"), anywhere.config(M.BATCH, A.RECORD))
    path.unlink()
    path.parent.rmdir()
    with pytest.raises(InputNotFound):
        await run(define("replayed.csv"), anywhere.config(M.BATCH, A.REPLAY))
    await run(define("replayed.csv"), anywhere.config(M.BATCH, A.REPLAY, continue_after_replay=False))
    assert rows_in(anywhere / "replayed.csv") == counts("a", "b")


async def test_a_replay_of_a_subject_that_cannot_resume(anywhere: Place) -> None:
    """It keeps no offsets, so nothing is refused; what was read comes again after the replay."""
    with ap.Graph() as graph:
        words = ap.io.python.read(Lost("a"), schema=Word, name="feed", resume="restart")
        ap.io.csv.write(counted(words), anywhere / "recorded.csv")
    await run(graph, anywhere.config(M.BATCH, A.RECORD))
    await run(define(anywhere, Lost("b"), "replayed.csv"), anywhere.config(M.BATCH, A.REPLAY))
    assert rows_in(anywhere / "replayed.csv") == counts("a", "b")


@pytest.mark.parametrize("mode", [M.PERSISTING, *REPLAYING])
async def test_a_replay_of_nothing(place: Place, mode: M) -> None:
    for feed in (Feed("a"), Feed("a")):
        with pytest.raises(StateError, match=r"holds nothing to replay.*Record one first.*RECORD"):
            await run(define(place, feed), place.config(mode, A.REPLAY))
        assert feed.runs == 0
        assert await place.contents() == {}
        assert not (place / "state").exists()
        assert not (place / "out.csv").exists()


async def test_a_replay_of_a_state_without_logs(anywhere: Place) -> None:
    await run(define(anywhere, Feed("a")), anywhere.config(M.OPERATOR_PERSISTING))
    before = await anywhere.contents()
    with pytest.raises(StateError, match=r"holds nothing to replay"):
        await run(define(anywhere, Feed("a"), "other.csv"), anywhere.config(M.BATCH, A.REPLAY))
    assert await anywhere.contents() == before


async def test_a_replay_of_other_sources(anywhere: Place) -> None:
    await run(define(anywhere, Feed("a")), anywhere.config(M.BATCH, A.RECORD))
    feed = Feed("a")
    for name in ("another", None):
        with pytest.raises(StateError, match=r"nothing to replay of the sources of this graph.*source 'feed'"):
            await run(define(anywhere, feed, "other.csv", name=name), anywhere.config(M.BATCH, A.REPLAY))
    assert feed.runs == 0
    assert not (anywhere / "other.csv").exists()


async def test_a_replay_of_a_log_with_a_gap(anywhere: Place) -> None:
    await run(define(anywhere, Feed("a")), anywhere.config(M.OPERATOR_PERSISTING))
    await run(define(anywhere, Feed("a", "b")), anywhere.config())
    before = await anywhere.contents()
    with pytest.raises(ModeChanged, match=r"the log of source 'feed' holds only what came after epoch \d+.*restore"):
        await run(define(anywhere, Feed("a"), "other.csv"), anywhere.config(M.BATCH, A.REPLAY))
    assert await anywhere.contents() == before


@pytest.mark.parametrize("mode", [M.BATCH, M.SPEEDRUN_REPLAY])
async def test_a_replay_while_the_owner_goes_on(place: Place, mode: M) -> None:
    """It claims nothing and fences nobody."""
    live = Feed("a", "b", held=True)
    async with running(define(place, live, "live.csv"), place.config()) as owner:
        await read(owner, 2)
        first = await owner.snapshot()
        before = await place.contents()
        with pytest.raises(StateInUse):
            await run(define(place, Feed("z"), "other.csv"), place.config())
        replay = place.config(mode, A.REPLAY, continue_after_replay=False)
        await run(define(place, Feed("z"), "replayed.csv"), replay)
        assert rows_in(place / "replayed.csv") == counts("a", "b")
        assert await place.contents() == before

        # One that goes on with its sources, while the owner commits.
        feed = Feed("a", "b", "c", held=True)
        async with running(define(place, feed, "replayed.csv"), place.config(mode, A.REPLAY)) as reader:
            await read(reader, 3)
            live.push("d")
            await read(owner, 3)
            second = await owner.snapshot()
            assert second.sequence > first.sequence
            before = await place.contents()
            with pytest.raises(RunStopped):
                await reader.snapshot()
        assert rows_in(place / "replayed.csv") == counts("a", "b", "c")
        assert await place.contents() == before
        live.push("e")
        await read(owner, 4)
        assert (await owner.snapshot()).owner == first.owner
        live.finish()
        await owner.wait()
    assert rows_in(place / "live.csv") == counts("a", "b", "d", "e")


@pytest.mark.parametrize("mode", [M.PERSISTING, *REPLAYING])
async def test_a_replay_may_not_write_where_the_root_has_written(anywhere: Place, mode: M) -> None:
    await run(define(anywhere, Feed("a")), anywhere.config())
    before, output = await anywhere.contents(), (anywhere / "out.csv").read_text()
    for settings in ({}, {"continue_after_replay": False}):
        with pytest.raises(OutputError, match=r"out.csv belongs to the runs.*Give the output another path"):
            await run(define(anywhere, Feed("a")), anywhere.config(mode, A.REPLAY, **settings))
    with ap.Graph() as graph:
        words = ap.io.python.read(Feed("a"), schema=Word, name="feed")
        ap.io.csv.write(words, anywhere / "out.csv", name="another", on_restart="overwrite")
    with pytest.raises(OutputError, match="belongs to the runs"):
        await run(graph, anywhere.config(mode, A.REPLAY))
    if mode in REPLAYING:
        with pytest.raises(OutputError, match="belongs to the runs"):
            await run(define(anywhere, Feed("a")), anywhere.config(mode))
    assert await anywhere.contents() == before
    assert (anywhere / "out.csv").read_text() == output


async def test_a_replay_is_told_to_a_subscription(anywhere: Place) -> None:
    await run(define(anywhere, Feed("a", "b")), anywhere.config())
    told = Told()
    with ap.Graph() as graph:
        words = ap.io.python.read(Feed("a", "b", "b"), schema=Word, name="feed")
        ap.io.subscribe(counted(words), told, on_recovery=told.on_recovery)
    await run(graph, anywhere.config(M.SPEEDRUN_REPLAY, A.REPLAY))
    assert told.rows == counts("a", "b", "b")
    assert told.recovered == []


async def test_a_replay_takes_back_what_was_recorded(place: Place) -> None:
    """Files that change after a replay retract what the log holds of them; that goes nowhere but to the outputs."""

    def define(name: str) -> ap.Graph:
        with ap.Graph() as graph:
            words = file_words(place / "in", name="files")
            ap.io.csv.write(words, place / name)
            ap.io.csv.write(counted(words), place / f"counts-{name}")
        return graph

    place.write("in/1.jsonl", "a", "b")
    place.write("in/2.jsonl", "a")
    await run(define("recorded.csv"), place.config(M.BATCH, A.RECORD))
    before = await place.contents()
    (place / "in/1.jsonl").unlink()
    place.write("in/2.jsonl", "c")
    for mode in (M.BATCH, M.SPEEDRUN_REPLAY):
        await run(define("replayed.csv"), place.config(mode, A.REPLAY))
        assert rows_in(place / "replayed.csv") == each("a", "c")
        assert rows_in(place / "counts-replayed.csv") == counts("a", "c")
    assert await place.contents() == before


# OFFSETS_ONLY


def stateful(place: Place, feed: Feed, *, named: bool = True) -> ap.Graph:
    with ap.Graph() as graph:
        words = ap.io.python.read(feed, schema=Word, name="feed" if named else None)
        ap.io.csv.write(words, place / "words.csv")
        ap.io.csv.write(counted(words), place / "counts.csv")
    return graph


@pytest.mark.parametrize("mode", [M.PERSISTING, M.SELECTIVE_PERSISTING])
async def test_offsets_only(anywhere: Place, mode: M, caplog: pytest.LogCaptureFixture) -> None:
    config = anywhere.config(mode, A.OFFSETS_ONLY)
    await run(stateful(anywhere, Feed("a", "b", "a")), config)
    head = await anywhere.head()
    assert list(head.streams) == ["offsets/source.feed"]
    assert head.logs == {}
    assert len(head.sinks) == 2
    assert "begin empty" not in caplog.text
    before = (anywhere / "words.csv").read_text()

    feed = Feed("a", "b", "a", "a")
    figures = await run(stateful(anywhere, feed), config)
    assert feed.sought == [3]
    assert figures.rows_read == 1
    assert (anywhere / "words.csv").read_text().startswith(before)
    assert rows_in(anywhere / "words.csv") == each("a", "b", "a", "a")
    # Operators start empty: what is new is counted alone.
    assert changes(anywhere / "counts.csv")[-1][::2] == (("a", "1"), 1)
    assert list((await anywhere.head()).streams) == ["offsets/source.feed"]
    said = [record.getMessage() for record in caplog.records if "begin empty" in record.getMessage()]
    assert len(said) == 1
    assert "OFFSETS_ONLY" in said[0]
    assert said[0].endswith("these begin empty: group_by (word, count)")


async def test_offsets_only_of_named_sources(anywhere: Place) -> None:
    """SELECTIVE_PERSISTING keeps those of named sources alone; an unnamed one is read again, to an output anew."""
    config = anywhere.config(M.SELECTIVE_PERSISTING, A.OFFSETS_ONLY)
    await run(stateful(anywhere, Feed("a", "b"), named=False), config)
    feed = Feed("a", "b", "c")
    await run(stateful(anywhere, feed, named=False), config)
    assert feed.sought == []
    assert rows_in(anywhere / "words.csv") == each("a", "b", "c")
    assert rows_in(anywhere / "counts.csv") == counts("a", "b", "c")


async def test_offsets_only_writes_no_state(anywhere: Place) -> None:
    feed = Feed("a", held=True)
    async with running(stateful(anywhere, feed), anywhere.config(M.PERSISTING, A.OFFSETS_ONLY)) as runtime:
        await read(runtime, 1)
        manifest = await runtime.snapshot()
        assert list(manifest.streams) == ["offsets/source.feed"]
        assert runtime.statistics().log_bytes_written == 0


async def test_offsets_only_after_a_change_of_the_graph(anywhere: Place) -> None:
    """Nothing could be filled, so a change is refused unless that is wished for."""
    await run(stateful(anywhere, Feed("a")), anywhere.config(M.PERSISTING, A.OFFSETS_ONLY))

    def changed() -> ap.Graph:
        with ap.Graph() as graph:
            words = ap.io.python.read(Feed("a", "b"), schema=Word, name="feed")
            ap.io.csv.write(words, anywhere / "words.csv")
            ap.io.csv.write(words.select(w=ap.this.word), anywhere / "more.csv")
        return graph

    with pytest.raises(ap.errors.GraphChanged, match=r"removed: group_by"):
        await run(changed(), anywhere.config(M.PERSISTING, A.OFFSETS_ONLY))
    await run(changed(), anywhere.config(M.PERSISTING, A.OFFSETS_ONLY, on_graph_change="replay"))
    assert rows_in(anywhere / "words.csv") == each("a", "b")
    assert rows_in(anywhere / "more.csv") == each("b")


# What goes with a replay


@pytest.mark.parametrize("mode", REPLAYING)
async def test_full_ends_with_the_replay(anywhere: Place, mode: M) -> None:
    feed = Feed("a", "b")
    await run(define(anywhere, feed), anywhere.config(mode))
    later = Feed("a", "b", "c")
    await run(define(anywhere, later), anywhere.config(mode, continue_after_replay=False))
    assert (later.runs, later.sought) == (0, [])
    assert rows_in(anywhere / "out.csv") == counts("a", "b")
    # What was not read then is read by the next one.
    await run(define(anywhere, later), anywhere.config(mode))
    assert later.sought == [2]
    assert rows_in(anywhere / "out.csv") == counts("a", "b", "c")


@pytest.mark.parametrize("mode", REPLAYING)
async def test_full_ends_with_the_replay_of_nothing(anywhere: Place, mode: M) -> None:
    """There is nothing to replay yet, which is no error: the run is over."""
    feed = Feed("a")
    await run(define(anywhere, feed), anywhere.config(mode, continue_after_replay=False))
    assert feed.runs == 0
    assert rows_in(anywhere / "out.csv") == counts()
    await run(define(anywhere, feed), anywhere.config(mode))
    assert rows_in(anywhere / "out.csv") == counts("a")


async def test_a_replay_that_is_cancelled(anywhere: Place) -> None:
    await run(define(anywhere, Feed("a"), "recorded.csv"), anywhere.config())
    before = await anywhere.contents()
    feed = Feed("a", held=True)
    graph = define(anywhere, feed, "replayed.csv")
    task = asyncio.create_task(run(graph, anywhere.config(M.BATCH, A.REPLAY)))
    while not feed.runs:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await anywhere.contents() == before
    assert rows_in(anywhere / "replayed.csv") == counts("a")
