"""State that is older than the offsets: a run in another mode, or without an operator, went on meanwhile."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

import asyncpersist as ap
from asyncpersist.checkpoint.restore import restore
from asyncpersist.clock import SystemClock
from asyncpersist.errors import GraphChanged, ModeChanged, OutputNotEmpty
from tests.modes.pieces import (
    REPLAYING,
    A,
    Feed,
    M,
    Place,
    Word,
    changes,
    counted,
    counts,
    each,
    file_words,
    rows_in,
    run,
)


def of_feed(
    place: Place,
    *words: str,
    name: str | None = "feed",
    output: str = "out",
    more: bool = False,
    counting: bool = True,
    **sink: Any,
) -> ap.Graph:
    with ap.Graph() as graph:
        table = ap.io.python.read(Feed(*words), schema=Word, name=name)
        ap.io.csv.write(table, place / f"{output}-words.csv", **sink)
        if counting:
            ap.io.csv.write(counted(table), place / f"{output}.csv", **sink)
        if more:
            ap.io.csv.write(table.reduce(n=ap.reducers.count()), place / "more.csv")
    return graph


def of_files(place: Place, *, more: bool = False, output: str = "out") -> ap.Graph:
    with ap.Graph() as graph:
        table = file_words(place / "in", name="files")
        ap.io.csv.write(counted(table), place / f"{output}.csv")
        if more:
            ap.io.csv.write(table.reduce(n=ap.reducers.count()), place / "more.csv")
    return graph


async def test_offsets_only_meanwhile(place: Place) -> None:
    await run(of_feed(place, "a", "b"), place.config())
    snapshot = next(manifest for manifest in await place.chain() if manifest.kind == "snapshot")
    await run(of_feed(place, "a", "b", "a"), place.config(access=A.OFFSETS_ONLY))
    before = await place.contents()
    says = r"(?s)group_by \(word, count\) has no state of epoch \d+ and cannot be filled: the log of source 'feed'.*"
    says += r"is not kept \(the last run was in mode PERSISTING with access OFFSETS_ONLY\).*restore"
    with pytest.raises(ModeChanged, match=says):
        await run(of_feed(place, "a", "b", "a", "b"), place.config())
    assert await place.contents() == before
    # As it says: back to the snapshot before.
    store = place.store
    await restore(store, snapshot.sequence, clock=SystemClock())
    if place.backend.owns_store:
        await store.aclose()
    await run(of_feed(place, "a", "b", "a", "b"), place.config())
    assert rows_in(place / "out.csv") == counts("a", "b", "a", "b")
    assert rows_in(place / "out-words.csv") == each("a", "b", "a", "b")


async def test_offsets_only_meanwhile_with_files(anywhere: Place) -> None:
    """Without their log, what a file gave could not be taken back."""
    anywhere.write("in/1.jsonl", "a")
    await run(of_files(anywhere), anywhere.config())
    await run(of_files(anywhere), anywhere.config(access=A.OFFSETS_ONLY))
    # Nothing was stepped meanwhile, so nothing is older.
    await run(of_files(anywhere), anywhere.config())
    anywhere.write("in/2.jsonl", "b")
    await run(of_files(anywhere), anywhere.config(access=A.OFFSETS_ONLY))
    with pytest.raises(ModeChanged, match=r"cannot be taken back, should one of its files change.*restore"):
        await run(of_files(anywhere), anywhere.config())


async def test_offsets_only_meanwhile_without_state(anywhere: Place) -> None:
    """Where there is no state, nothing is older; but the log has a gap, which a later change cannot get over."""
    await run(of_feed(anywhere, "a", counting=False), anywhere.config())
    await run(of_feed(anywhere, "a", "b", counting=False), anywhere.config(access=A.OFFSETS_ONLY))
    gap = (await anywhere.head()).epoch
    await run(of_feed(anywhere, "a", "b", "c", counting=False), anywhere.config())
    assert rows_in(anywhere / "out-words.csv") == each("a", "b", "c")
    assert (await anywhere.head()).logs["source.feed"].since == gap
    with pytest.raises(GraphChanged, match=rf"holds only what came after epoch {gap}, as a run before kept none"):
        await run(of_feed(anywhere, "a", "b", "c"), anywhere.config())


async def test_an_operator_that_was_away(anywhere: Place) -> None:
    """Its old state is in older snapshots, and is not loaded: it is filled with all that is there."""
    await run(of_feed(anywhere, "a", "b", output="one"), anywhere.config())
    await run(of_feed(anywhere, "a", "b", "a", counting=False, output="one"), anywhere.config())
    assert not [stream for stream in (await anywhere.head()).streams if stream.startswith("state/")]
    (anywhere / "one.csv").unlink()
    await run(of_feed(anywhere, "a", "b", "a", "c", output="one"), anywhere.config())
    assert rows_in(anywhere / "one.csv") == counts("a", "b", "a", "c")
    assert rows_in(anywhere / "one-words.csv") == each("a", "b", "a", "c")


@pytest.mark.parametrize("name", ["feed", None])
async def test_from_selective_to_all(anywhere: Place, name: str | None) -> None:
    await run(of_feed(anywhere, "a", "b", name=name), anywhere.config(M.SELECTIVE_PERSISTING))
    if name is None:
        # Nothing was kept, and the outputs were nobody's: they have to be told that they may be replaced.
        with pytest.raises(OutputNotEmpty):
            await run(of_feed(anywhere, "a", "b", name=name), anywhere.config())
    settings = {"on_restart": "overwrite"} if name is None else {}
    figures = await run(of_feed(anywhere, "a", "b", "a", name=name, **settings), anywhere.config())
    assert figures.rows_read == (1 if name else 3)
    assert rows_in(anywhere / "out.csv") == counts("a", "b", "a")
    assert rows_in(anywhere / "out-words.csv") == each("a", "b", "a")
    # And back: what has no name is not kept any more.
    figures = await run(of_feed(anywhere, "a", "b", "a", "d", name=name), anywhere.config(M.SELECTIVE_PERSISTING))
    assert figures.rows_read == (1 if name else 4)
    assert rows_in(anywhere / "out.csv") == counts("a", "b", "a", "d")


async def test_from_udf_caching_to_all(anywhere: Place) -> None:
    """State is made anew from the logs, and an output that was told of empty operators has to be another one."""
    for words in (("a", "b"), ("a", "b", "a")):
        await run(of_feed(anywhere, *words), anywhere.config(M.UDF_CACHING))
    words = (anywhere / "out-words.csv").read_text()
    with pytest.raises(ModeChanged, match=r"mode UDF_CACHING.* were told something else"):
        await run(of_feed(anywhere, "a", "b", "a"), anywhere.config())

    def other(*fed: str) -> ap.Graph:
        with ap.Graph() as graph:
            table = ap.io.python.read(Feed(*fed), schema=Word, name="feed")
            ap.io.csv.write(table, anywhere / "out-words.csv")
            ap.io.csv.write(counted(table), anywhere / "other.csv")
        return graph

    figures = await run(other("a", "b", "a", "c"), anywhere.config())
    assert figures.rows_read == 1
    assert rows_in(anywhere / "other.csv") == counts("a", "b", "a", "c")
    assert (anywhere / "out-words.csv").read_text().startswith(words), "no state was needed for it"
    assert rows_in(anywhere / "out-words.csv") == each("a", "b", "a", "c")


@pytest.mark.parametrize("mode", [*REPLAYING, M.UDF_CACHING])
async def test_from_a_mode_without_state_to_all(anywhere: Place, mode: M) -> None:
    await run(of_feed(anywhere, "a", "b"), anywhere.config(mode))
    if mode in REPLAYING:
        # The outputs of a replay are nobody's.
        with pytest.raises(OutputNotEmpty):
            await run(of_feed(anywhere, "a", "b"), anywhere.config())
    figures = await run(of_feed(anywhere, "a", "b", "a", output="other"), anywhere.config())
    assert figures.rows_read == 1
    assert rows_in(anywhere / "other.csv") == counts("a", "b", "a")
    assert rows_in(anywhere / "other-words.csv") == each("a", "b", "a")


async def test_from_all_to_a_replay_and_back(anywhere: Place) -> None:
    """A replay mode goes on with the log, and keeps no state; which is made anew then."""
    await run(of_feed(anywhere, "a"), anywhere.config())
    await run(of_feed(anywhere, "a", "b", output="replayed"), anywhere.config(M.BATCH))
    assert rows_in(anywhere / "replayed.csv") == counts("a", "b")
    await run(of_feed(anywhere, "a", "b", "a", output="other"), anywhere.config())
    assert rows_in(anywhere / "other.csv") == counts("a", "b", "a")


async def test_operator_persisting_meanwhile_with_files(anywhere: Place) -> None:
    """Logs of files are kept in either mode, so nothing is missing."""
    for number, mode in enumerate([M.PERSISTING, M.OPERATOR_PERSISTING, M.PERSISTING]):
        anywhere.write(f"in/{number}.jsonl", "a", f"{number}")
        await run(of_files(anywhere), anywhere.config(mode))
    words = ("a", "0", "a", "1", "a", "2")
    assert rows_in(anywhere / "out.csv") == counts(*words)
    assert (await anywhere.head()).logs["source.files"].since == 0
    await run(of_files(anywhere, more=True), anywhere.config())
    assert rows_in(anywhere / "more.csv") == Counter({("6",): 1})
    (anywhere / "in/1.jsonl").unlink()
    await run(of_files(anywhere, more=True), anywhere.config())
    assert rows_in(anywhere / "out.csv") == counts("a", "0", "a", "2")


async def test_operator_persisting_meanwhile_with_a_subject(place: Place) -> None:
    """State goes on; the log has a gap, so that a later change of the graph is refused."""
    await run(of_feed(place, "a"), place.config())
    await run(of_feed(place, "a", "b"), place.config(M.OPERATOR_PERSISTING))
    gap = (await place.head()).epoch
    assert "log/source.feed" not in (await place.head()).streams
    await run(of_feed(place, "a", "b", "a"), place.config())
    assert rows_in(place / "out.csv") == counts("a", "b", "a")
    head = await place.head()
    assert head.logs["source.feed"].since == gap
    before = await place.contents()
    says = rf"(?s)added: .*cannot be filled: the log of source 'feed'.* holds only what came after epoch {gap}.*restore"
    with pytest.raises(GraphChanged, match=says):
        await run(of_feed(place, "a", "b", "a", more=True), place.config())
    assert await place.contents() == before
    for mode in REPLAYING:
        with pytest.raises(ModeChanged, match="cannot be replayed"):
            await run(of_feed(place, "a", "b", "a", output="other"), place.config(mode))
    assert await place.contents() == before
    await run(of_feed(place, "a", "b", "a", "c"), place.config())
    assert rows_in(place / "out.csv") == counts("a", "b", "a", "c")


async def test_each_manifest_says_what_it_is_of(anywhere: Place) -> None:
    """A claim is of the content before; a snapshot says mode, access, and what logs cover."""
    await run(of_feed(anywhere, "a"), anywhere.config())
    await run(of_feed(anywhere, "a", "b"), anywhere.config(M.OPERATOR_PERSISTING))
    await run(of_feed(anywhere, "a", "b", "c"), anywhere.config(access=A.OFFSETS_ONLY))
    said = [(m.mode, m.access, "source.feed" in m.logs) for m in await anywhere.chain() if m.kind == "snapshot"]
    assert said == [
        ("PERSISTING", "OFFSETS_ONLY", False),
        ("OPERATOR_PERSISTING", "FULL", False),
        ("PERSISTING", "FULL", True),
    ]


@pytest.mark.parametrize("mode", [M.SELECTIVE_PERSISTING, M.PERSISTING])
async def test_a_source_that_was_named(anywhere: Place, mode: M) -> None:
    """With a name it is another one, which was never read."""
    await run(of_feed(anywhere, "a", "b", name=None), anywhere.config(mode))
    figures = await run(of_feed(anywhere, "a", "b", output="named"), anywhere.config(mode))
    assert figures.rows_read == 2
    assert rows_in(anywhere / "named.csv") == counts("a", "b")


async def test_a_mixed_operator_is_made_anew_in_every_run(place: Place) -> None:
    """SELECTIVE_PERSISTING: from the log of what is named, and from what is read of what is not."""

    def define(*words: str) -> ap.Graph:
        with ap.Graph() as graph:
            named = ap.io.python.read(Feed(*words), schema=Word, name="feed")
            unnamed = file_words(place / "in")
            by_word = counted(named)
            ap.io.csv.write(by_word, place / "named.csv")
            ap.io.csv.write(counted(unnamed), place / "unnamed.csv")
            ap.io.csv.write(counted(named.concat_reindex(unnamed)), place / "mixed.csv")
            ap.io.csv.write(by_word.select(ap.this.word).concat_reindex(unnamed), place / "stateless.csv")
        return graph

    place.write("in/1.jsonl", "a", "x")
    await run(define("a", "b"), place.config(M.SELECTIVE_PERSISTING))
    named = (place / "named.csv").read_text()
    (place / "in/1.jsonl").write_text('{"word": "y"}\n')
    await run(define("a", "b"), place.config(M.SELECTIVE_PERSISTING))
    assert (place / "named.csv").read_text() == named
    await run(define("a", "b", "a"), place.config(M.SELECTIVE_PERSISTING))
    assert (place / "named.csv").read_text().startswith(named)
    assert rows_in(place / "named.csv") == counts("a", "b", "a")
    assert rows_in(place / "unnamed.csv") == counts("y")
    assert rows_in(place / "mixed.csv") == counts("a", "b", "a", "y")
    assert rows_in(place / "stateless.csv") == each("a", "b", "y")
    assert all(diff == 1 for _, _, diff in changes(place / "unnamed.csv"))
