"""What a graph gets that is another than in the run before."""

from __future__ import annotations

from collections import Counter
from typing import Any

import polars as pl
import pytest

import asyncpersist as ap
from asyncpersist.checkpoint.layout import OBJECTS
from tests.modes.graphs import KEEPING, WORDS, Define, graph_of, refused, without_objects
from tests.modes.pieces import (
    Feed,
    M,
    Place,
    Price,
    Told,
    Word,
    changes,
    counted,
    counts,
    each,
    file_words,
    rows_in,
    run,
)
from tests.modes.probes import Given, history

# What is added


@pytest.mark.parametrize("mode", [M.PERSISTING, M.SELECTIVE_PERSISTING])
async def test_new_outputs_get_all_that_is_there(place: Place, mode: M, caplog: pytest.LogCaptureFixture) -> None:
    given, told, told_counts = Given(), Told(), Told()

    def old(feed: Feed) -> tuple[ap.Table, ap.Table]:
        words = file_words(place / "in", name="files")
        fed = ap.io.python.read(feed, schema=Word, name="feed")
        ap.io.csv.write(counted(words), place / "old.csv")
        ap.io.csv.write(history(fed, given), place / "history.csv")
        return words, fed

    def new(feed: Feed) -> None:
        words, fed = old(feed)
        ap.io.csv.write(counted(words), place / "new.csv", name="second")
        ap.io.jsonlines.write(counted(words), place / "new.jsonl")
        ap.io.parquet.write(counted(words), place / "new")
        ap.io.subscribe(counted(words), told_counts)
        ap.io.jsonlines.write(words, place / "words.jsonl")
        ap.io.csv.write(counted(fed), place / "fed.csv")
        ap.io.csv.write(words.filter(ap.this.word != "a").reduce(n=ap.reducers.count()), place / "n.csv")
        ap.io.subscribe(counted(words.concat_reindex(fed)), told)

    place.write("in/1.jsonl", *WORDS)
    await run(graph_of(lambda: old(Feed("x", "x", "y"))), place.config(mode))
    place.write("in/2.jsonl", "b")
    (place / "in/1.jsonl").write_text('{"word": "a"}\n{"word": "c"}\n')
    await run(graph_of(lambda: old(Feed("x", "x", "y"))), place.config(mode))
    before = (place / "old.csv").read_text(), (place / "history.csv").read_text()
    given.clear()

    figures = await run(graph_of(lambda: new(Feed("x", "x", "y"))), place.config(mode))
    there = ("a", "c", "b")
    assert figures.rows_read == 0
    assert given == [], "an unchanged operator sees no replay"
    assert ((place / "old.csv").read_text(), (place / "history.csv").read_text()) == before
    assert rows_in(place / "new.csv") == rows_in(place / "new.jsonl") == told_counts.rows == counts(*there)
    parquet = pl.read_parquet(place / "new")
    assert set(parquet.select("word", "count").iter_rows()) == {("a", 1), ("b", 1), ("c", 1)}
    assert rows_in(place / "words.jsonl") == each(*there)
    assert rows_in(place / "fed.csv") == counts("x", "x", "y")
    assert rows_in(place / "n.csv") == Counter({("2",): 1})
    assert told.rows == counts(*there, "x", "x", "y")
    for name in ("new.csv", "new.jsonl", "words.jsonl", "fed.csv", "n.csv"):
        assert len({time for _, time, _ in changes(place / name)}) == 1, "in one epoch"
        assert all(diff == 1 for _, _, diff in changes(place / name))
    said = caplog.text
    assert "the graph has changed since epoch" in said
    assert "added: group_by (n)" in said
    assert f"added: sink 'second' ({place / 'new.csv'})" in said
    assert "removed" not in said

    # From then on they go on as the others do.
    caplog.clear()
    place.write("in/3.jsonl", "a")
    await run(graph_of(lambda: new(Feed("x", "x", "y", "y"))), place.config(mode))
    assert given == [1]
    assert rows_in(place / "old.csv") == rows_in(place / "new.csv") == counts(*there, "a")
    assert told.rows == counts(*there, "a", "x", "x", "y", "y")
    assert rows_in(place / "fed.csv") == counts("x", "x", "y", "y")
    assert caplog.text == ""


async def test_what_is_new_meanwhile_comes_after(anywhere: Place) -> None:
    """Rows that came between the two runs are told once, to everybody."""

    def old(feed: Feed) -> ap.Table:
        words = ap.io.python.read(feed, schema=Word)
        ap.io.csv.write(counted(words), anywhere / "old.csv")
        return words

    def new(feed: Feed) -> None:
        words = old(feed)
        ap.io.csv.write(words, anywhere / "words.csv")
        ap.io.csv.write(counted(words), anywhere / "new.csv", name="new")

    await run(graph_of(lambda: old(Feed("a", "b"))), anywhere.config())
    await run(graph_of(lambda: new(Feed("a", "b", "a"))), anywhere.config())
    assert rows_in(anywhere / "words.csv") == each("a", "b", "a")
    assert rows_in(anywhere / "new.csv") == rows_in(anywhere / "old.csv") == counts("a", "b", "a")


async def test_a_source_that_is_added(anywhere: Place, caplog: pytest.LogCaptureFixture) -> None:
    anywhere.write("in/1.jsonl", "a")
    anywhere.write("more/1.jsonl", "a", "b")

    def define(*paths: str) -> None:
        tables = [file_words(anywhere / path) for path in paths]
        for path, table in zip(paths, tables, strict=True):
            ap.io.csv.write(counted(table), anywhere / f"{path}.csv")
        both = tables[0].concat_reindex(*tables[1:]) if len(tables) > 1 else tables[0]
        ap.io.csv.write(counted(both), anywhere / f"all-{len(tables)}.csv")

    await run(graph_of(lambda: define("in")), anywhere.config())
    before = (anywhere / "in.csv").read_text()
    figures = await run(graph_of(lambda: define("in", "more")), anywhere.config())
    assert figures.rows_read == 2
    assert (anywhere / "in.csv").read_text() == before
    assert rows_in(anywhere / "more.csv") == counts("a", "b")
    assert rows_in(anywhere / "all-2.csv") == counts("a", "a", "b")
    assert f"added: source ({anywhere / 'more'})" in caplog.text


# What is removed


async def test_what_is_removed(anywhere: Place, caplog: pytest.LogCaptureFixture) -> None:
    def define(*, whole: bool) -> None:
        words = file_words(anywhere / "in", name="files")
        ap.io.csv.write(words, anywhere / "words.csv")
        if whole:
            ap.io.csv.write(counted(words), anywhere / "counts.csv")
            ap.io.csv.write(ap.io.python.read(Feed("x"), schema=Word, name="feed"), anywhere / "feed.csv")

    anywhere.write("in/1.jsonl", "a")
    await run(graph_of(lambda: define(whole=True)), anywhere.config())
    before = (anywhere / "counts.csv").read_text()
    anywhere.write("in/2.jsonl", "b")
    await run(graph_of(lambda: define(whole=False)), anywhere.config())
    assert rows_in(anywhere / "words.csv") == each("a", "b")
    assert (anywhere / "counts.csv").read_text() == before
    for line in (
        "removed: group_by (word, count)",
        "removed: source 'feed'",
        f"removed: sink ({anywhere / 'feed.csv'})",
    ):
        assert line in caplog.text
    assert "added" not in caplog.text
    head = await anywhere.head()
    assert not [stream for stream in head.streams if "feed" in stream or stream.startswith("state/")]

    # What comes back is new: its output has to be another place, or to say that it starts anew.
    with pytest.raises(ap.errors.OutputNotEmpty):
        await run(graph_of(lambda: define(whole=True)), anywhere.config())


# What is changed


def counting(place: Place, *, output: str = "out.csv", least: str = "", name: str | None = None, **sink: Any) -> Define:
    """Counts words, `least` and greater ones, of a directory."""

    def define() -> None:
        words = file_words(place / "in", name="files")
        ap.io.csv.write(words, place / "words.csv")
        chosen = words.filter(ap.this.word >= least) if least else words
        ap.io.csv.write(counted(chosen, name), place / output, **sink)

    return define


@pytest.mark.parametrize("mode", [M.PERSISTING, M.SELECTIVE_PERSISTING])
async def test_an_output_behind_a_changed_operator(place: Place, mode: M, caplog: pytest.LogCaptureFixture) -> None:
    place.write("in/1.jsonl", *WORDS)
    await run(graph_of(counting(place)), place.config(mode))
    words = (place / "words.csv").read_text()
    says = r"(?s)the graph is not the one.*out\.csv\) were told something else.*on_restart=.overwrite"
    await refused(place, counting(place, least="b"), says, mode)

    # In another place it gets all that is there.
    figures = await run(graph_of(counting(place, least="b", output="other.csv")), place.config(mode))
    assert figures.rows_read == 0
    assert rows_in(place / "other.csv") == counts("b", "c")
    assert "removed: sink" in caplog.text
    assert "added: filter" in caplog.text
    assert "changed, itself or what it is computed from: group_by (word, count)" in caplog.text
    assert rows_in(place / "out.csv") == counts(*WORDS), "the old one is left alone"

    # Or it says that it may be overwritten.
    await refused(place, counting(place, least="c", output="other.csv"), "were told something else", mode)
    await run(graph_of(counting(place, least="c", output="other.csv", on_restart="overwrite")), place.config(mode))
    assert changes(place / "other.csv")[0][::2] == (("c", "1"), 1)
    assert rows_in(place / "other.csv") == counts("c")
    assert (place / "words.csv").read_text() == words


@pytest.mark.parametrize("kind", ["csv", "jsonlines", "parquet", "subscribe"])
async def test_every_kind_of_output_behind_a_changed_operator(anywhere: Place, kind: str) -> None:
    told = Told()

    def define(least: str, **settings: Any) -> None:
        words = ap.io.python.read(Feed(*WORDS), schema=Word).filter(ap.this.word >= least)
        if kind == "subscribe":
            ap.io.subscribe(counted(words), told, name="told", **settings)
        else:
            getattr(ap.io, kind).write(counted(words), anywhere / "out", name="out", **settings)

    await run(graph_of(lambda: define("a")), anywhere.config())
    told.changes.clear()
    await refused(anywhere, lambda: define("b"), "were told something else")
    assert told.changes == []
    await run(graph_of(lambda: define("b", on_restart="overwrite")), anywhere.config())
    if kind == "parquet":
        found = pl.read_parquet(anywhere / "out")
        assert sorted(found.select("word", "count", "diff").iter_rows()) == [("b", 1, 1), ("c", 1, 1)]
    elif kind == "subscribe":
        assert told.rows == counts("b", "c")
    else:
        found = (anywhere / "out").rename(anywhere / f"out.{kind}")
        assert rows_in(found) == counts("b", "c")


async def test_a_named_output_that_moved(anywhere: Place, caplog: pytest.LogCaptureFixture) -> None:
    """An output path is part of what a sink is: in the new place it gets all that is there."""
    anywhere.write("in/1.jsonl", *WORDS)
    await run(graph_of(counting(anywhere, output="old.csv")), anywhere.config())

    def define(output: str) -> None:
        words = file_words(anywhere / "in", name="files")
        ap.io.csv.write(words, anywhere / "words.csv")
        ap.io.csv.write(counted(words), anywhere / output, name="counts")

    await run(graph_of(lambda: define("one.csv")), anywhere.config())
    caplog.clear()
    anywhere.write("in/2.jsonl", "a")
    await run(graph_of(lambda: define("two.csv")), anywhere.config())
    assert f"removed: sink 'counts' ({anywhere / 'one.csv'})" in caplog.text
    assert f"added: sink 'counts' ({anywhere / 'two.csv'})" in caplog.text
    assert rows_in(anywhere / "two.csv") == counts(*WORDS, "a")
    assert rows_in(anywhere / "one.csv") == counts(*WORDS)
    await run(graph_of(lambda: define("two.csv")), anywhere.config())
    assert rows_in(anywhere / "two.csv") == counts(*WORDS, "a")


async def test_a_named_operator_that_changed(anywhere: Place, caplog: pytest.LogCaptureFixture) -> None:
    """It is the same one, but computes something else, so that its state is made anew."""
    anywhere.write("in/1.jsonl", *WORDS)
    await run(graph_of(counting(anywhere, name="counts")), anywhere.config())
    changed = counting(anywhere, name="counts", least="b", on_restart="overwrite")
    await refused(anywhere, changed, r"changed, itself.*: group_by 'counts'", on_graph_change="reject")
    await run(graph_of(changed), anywhere.config())
    assert rows_in(anywhere / "out.csv") == counts("b", "c")
    assert "changed, itself or what it is computed from: group_by 'counts'" in caplog.text
    anywhere.write("in/2.jsonl", "c")
    await run(graph_of(changed), anywhere.config())
    # An output that overwrites starts a new file with only what is new from now on.
    assert [(row, diff) for row, _, diff in changes(anywhere / "out.csv")] == [(("c", "1"), -1), (("c", "2"), 1)]


@pytest.mark.parametrize("mode", KEEPING)
async def test_filled_from_state_without_its_log(anywhere: Place, mode: M) -> None:
    """Above what changed there is an operator that did not: its state says what is there."""

    def define(least: int, output: str) -> None:
        words = ap.io.python.read(Feed(*WORDS), schema=Word, name="feed")
        table = counted(words).filter(ap.this.count >= least)
        ap.io.csv.write(table.reduce(n=ap.reducers.count(), most=ap.reducers.max(ap.this.word)), anywhere / output)

    await run(graph_of(lambda: define(1, "one.csv")), anywhere.config(mode))
    await without_objects(anywhere)
    await run(graph_of(lambda: define(2, "two.csv")), anywhere.config(mode, on_graph_change="replay"))
    assert rows_in(anywhere / "one.csv") == Counter({("3", "c"): 1})
    assert rows_in(anywhere / "two.csv") == Counter({("1", "a"): 1})


async def test_filled_from_a_log_that_is_lost(anywhere: Place) -> None:
    """The other way round: where the log is needed, one that is not there is an error that changes no output."""
    anywhere.write("in/1.jsonl", *WORDS)
    await run(graph_of(counting(anywhere)), anywhere.config())
    await without_objects(anywhere)
    before = (anywhere / "out.csv").read_text()
    with pytest.raises(ap.errors.DamagedState, match=OBJECTS):
        await run(graph_of(counting(anywhere, least="b", output="other.csv")), anywhere.config())
    assert (anywhere / "out.csv").read_text() == before


async def test_filled_from_the_state_of_a_keyed_source(anywhere: Place) -> None:
    rows = [{"item": "a", "amount": 1}, {"item": "b", "amount": 2}, {"item": "a", "amount": 3}]

    def define(*, whole: bool) -> None:
        prices = ap.io.python.read(Feed(*rows), schema=Price, name="prices")
        ap.io.csv.write(prices, anywhere / "prices.csv")
        if whole:
            ap.io.csv.write(prices.reduce(sum=ap.reducers.sum(ap.this.amount)), anywhere / "sum.csv")

    await run(graph_of(lambda: define(whole=False)), anywhere.config())
    await without_objects(anywhere)
    await run(graph_of(lambda: define(whole=True)), anywhere.config())
    assert rows_in(anywhere / "sum.csv") == Counter({("5",): 1})


async def test_several_changes_at_once(place: Place) -> None:
    """Some of it is filled from states, some from logs, and some is as it was; then all go on."""
    given: Given = []

    def define(fed: tuple[str, ...], *, later: bool) -> None:
        lines = file_words(place / "in", name="files")
        feed = ap.io.python.read(Feed(*fed), schema=Word, name="feed")
        by_word = counted(lines, "lines")
        ap.io.csv.write(by_word, place / "lines.csv")
        ap.io.csv.write(history(feed, given), place / "history.csv")
        both = lines.concat_reindex(feed)
        if later:
            ap.io.csv.write(counted(both.filter(ap.this.word != "b")), place / "both.csv")
            ap.io.csv.write(by_word.reduce(most=ap.reducers.max(ap.this.count)), place / "most.csv")
            ap.io.csv.write(feed.concat_reindex(by_word.select(ap.this.word)), place / "mixed.csv")
        else:
            ap.io.csv.write(counted(both), place / "all.csv")

    place.write("in/1.jsonl", *WORDS)
    await run(graph_of(lambda: define(("x", "b"), later=False)), place.config())
    place.write("in/2.jsonl", "c")
    await run(graph_of(lambda: define(("x", "b", "y"), later=True)), place.config())
    lines = (*WORDS, "c")
    assert rows_in(place / "both.csv") == counts(*(w for w in (*lines, "x", "b", "y") if w != "b"))
    assert rows_in(place / "most.csv") == Counter({("2",): 1})
    assert rows_in(place / "mixed.csv") == each("x", "b", "y", *set(lines))
    assert rows_in(place / "lines.csv") == counts(*lines)
    assert rows_in(place / "history.csv") == Counter({("x b y",): 1})
    assert given == [2, 1]


# What is wished for


@pytest.mark.parametrize("mode", KEEPING)
async def test_reject(anywhere: Place, mode: M) -> None:
    anywhere.write("in/1.jsonl", *WORDS)
    await run(graph_of(counting(anywhere)), anywhere.config(mode))
    says = r"(?s)removed: .*out\.csv.*added: .*other\.csv.*Restore the graph; or say on_graph_change=.replay"
    settings = {} if mode is M.OPERATOR_PERSISTING else {"on_graph_change": "reject"}
    await refused(anywhere, counting(anywhere, output="other.csv"), says, mode, **settings)
    assert not (anywhere / "other.csv").exists()
    # And the unchanged one goes on.
    anywhere.write("in/2.jsonl", "d")
    await run(graph_of(counting(anywhere)), anywhere.config(mode))
    assert rows_in(anywhere / "out.csv") == counts(*WORDS, "d")


async def test_operator_persisting_fills_from_states_and_from_logs_of_files(place: Place) -> None:
    def define(*, files: bool = False, state: bool = False, subject: bool = False) -> None:
        words = file_words(place / "in", name="files")
        feed = ap.io.python.read(Feed(*WORDS), schema=Word, name="feed")
        fed = counted(feed)
        ap.io.csv.write(counted(words), place / "files.csv")
        ap.io.csv.write(fed, place / "feed.csv")
        if files:
            ap.io.csv.write(words.reduce(n=ap.reducers.count()), place / "more-files.csv")
        if state:
            ap.io.csv.write(fed.reduce(n=ap.reducers.count()), place / "more-state.csv")
        if subject:
            ap.io.csv.write(feed, place / "more-feed.csv")

    place.write("in/1.jsonl", *WORDS)
    mode = M.OPERATOR_PERSISTING
    await run(graph_of(define), place.config(mode))
    await refused(place, lambda: define(files=True), "Restore the graph", mode)
    await run(graph_of(lambda: define(files=True, state=True)), place.config(mode, on_graph_change="replay"))
    assert rows_in(place / "more-files.csv") == Counter({("4",): 1})
    assert rows_in(place / "more-state.csv") == Counter({("3",): 1})
    says = r"(?s)added: sink .*more-feed\.csv.*be filled: the log of source 'feed' .*is not kept .*OPERATOR_"
    await refused(place, lambda: define(files=True, state=True, subject=True), says, mode, on_graph_change="replay")
