"""What makes a source or an operator the same one: what is no change of a graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import asyncpersist as ap
from tests.modes.graphs import KEEPING, WORDS, graph_of
from tests.modes.pieces import (
    Feed,
    M,
    Place,
    Told,
    Word,
    changes,
    counted,
    counts,
    file_words,
    read,
    rows_in,
    run,
    summed,
)

# What is no change


def reordered(place: Place, words: tuple[str, ...]) -> None:
    feed = ap.io.python.read(Feed(*words), schema=Word)
    files = file_words(place / "in")
    ap.io.csv.write(counted(files), place / "files.csv")
    ap.io.csv.write(counted(feed), place / "feed.csv")


def first(place: Place, words: tuple[str, ...]) -> None:
    lines = file_words(place / "in")
    counts_of_lines = counted(lines)
    subject = ap.io.python.read(Feed(*words), schema=Word)
    ap.io.csv.write(counted(subject), place / "feed.csv")
    ap.io.csv.write(counts_of_lines, place / "files.csv")


def other_batches(place: Place, words: tuple[str, ...]) -> None:
    feed = ap.io.python.read(Feed(*words), schema=Word, autocommit_duration_ms=1, max_backlog_size=7)
    ap.io.csv.write(counted(feed), place / "feed.csv")
    ap.io.csv.write(counted(file_words(place / "in")), place / "files.csv")


@pytest.mark.parametrize("mode", [M.PERSISTING, M.OPERATOR_PERSISTING])
@pytest.mark.parametrize("other", [reordered, other_batches])
async def test_what_is_no_change(
    anywhere: Place, mode: M, other: Callable[[Place, tuple[str, ...]], None], caplog: pytest.LogCaptureFixture
) -> None:
    anywhere.write("in/1.jsonl", "x", "y")
    config = anywhere.config(mode, on_graph_change="reject")
    await run(graph_of(lambda: first(anywhere, WORDS)), config)
    before = (anywhere / "files.csv").read_text()
    figures = await run(graph_of(lambda: other(anywhere, (*WORDS, "a"))), config)
    assert figures.rows_read == 1
    assert (anywhere / "files.csv").read_text() == before
    assert rows_in(anywhere / "feed.csv") == counts(*WORDS, "a")
    assert "the graph has changed" not in caplog.text


async def test_from_static_to_streaming_and_back(anywhere: Place, caplog: pytest.LogCaptureFixture) -> None:
    anywhere.write("in/1.jsonl", "a")
    config = anywhere.config(on_graph_change="reject")
    for number, mode in enumerate(["static", "streaming", "static"], start=2):
        graph = graph_of(
            lambda mode=mode: ap.io.csv.write(counted(file_words(anywhere / "in", mode=mode)), anywhere / "out.csv")
        )
        async with ap.Runtime(graph, persistence_config=config) as runtime:
            await read(runtime, 1)
        anywhere.write(f"in/{number}.jsonl", "a")
    assert rows_in(anywhere / "out.csv") == counts("a", "a", "a")
    assert "the graph has changed" not in caplog.text


async def test_a_callback_is_no_part_of_its_sink(anywhere: Place) -> None:
    config = anywhere.config(on_graph_change="reject")
    one, other = Told(), Told()

    def define(words: tuple[str, ...], told: Told, **more: Any) -> None:
        ap.io.subscribe(counted(ap.io.python.read(Feed(*words), schema=Word)), told, **more)

    await run(graph_of(lambda: define(("a", "b"), one)), config)
    await run(graph_of(lambda: define(("a", "b", "a"), other, on_end=lambda: None)), config)
    assert one.rows == counts("a", "b")
    assert [(row, diff) for row, _, diff in other.changes] == [(("a", "1"), -1), (("a", "2"), 1)]


@pytest.mark.parametrize("mode", KEEPING)
async def test_a_named_source_whose_path_moved(anywhere: Place, mode: M, caplog: pytest.LogCaptureFixture) -> None:
    config = anywhere.config(mode, on_graph_change="reject")

    def define(path: str) -> None:
        ap.io.csv.write(counted(file_words(anywhere / path, name="files")), anywhere / "out.csv")

    anywhere.write("in/1.jsonl", "a", "b")
    await run(graph_of(lambda: define("in")), config)
    before = (anywhere / "out.csv").read_text()
    (anywhere / "in").rename(anywhere / "moved")
    anywhere.write("moved/2.jsonl", "b")
    await run(graph_of(lambda: define("moved")), config)
    assert rows_in(anywhere / "out.csv") == counts("a", "b", "b")
    # Only what is new is told: nothing of it goes and comes back.
    assert [(row, diff) for row, _, diff in changes(anywhere / "out.csv")[2:]] == [(("b", "1"), -1), (("b", "2"), 1)]
    assert (anywhere / "out.csv").read_text().startswith(before)
    assert "the graph has changed" not in caplog.text


async def test_a_named_subject_of_another_class(anywhere: Place) -> None:
    class Other(Feed):
        """The same feed, in a class that was renamed."""

    config = anywhere.config(on_graph_change="reject")
    for feed in (Feed("a"), Other("a", "b")):
        table = graph_of(
            lambda feed=feed: ap.io.csv.write(
                counted(ap.io.python.read(feed, schema=Word, name="feed")), anywhere / "out.csv"
            )
        )
        await run(table, config)
    assert rows_in(anywhere / "out.csv") == counts("a", "b")


async def test_equal_sources_are_told_apart_by_their_order(anywhere: Place) -> None:
    """Of what has no name and is defined alike, the first is the first and the second the second."""
    config = anywhere.config(on_graph_change="reject")

    def define(first: Feed, second: Feed) -> None:
        for output, feed in (("first", first), ("second", second)):
            ap.io.csv.write(counted(ap.io.python.read(feed, schema=Word)), anywhere / f"{output}.csv")

    await run(graph_of(lambda: define(Feed("a"), Feed("x", "y"))), config)
    feeds = Feed("a", "b"), Feed("x", "y", "z")
    await run(graph_of(lambda: define(*feeds)), config)
    assert [feed.sought for feed in feeds] == [[1], [2]]
    assert rows_in(anywhere / "first.csv") == counts("a", "b")
    assert rows_in(anywhere / "second.csv") == counts("x", "y", "z")


def test_summing_up() -> None:
    """The judge of these tests notices what it is to notice."""
    with pytest.raises(AssertionError):
        summed([(("a",), 2, -1)])
    with pytest.raises(AssertionError):
        summed([(("a",), 2, 1), (("a",), 2, -1)])
    with pytest.raises(AssertionError):
        summed([(("a",), 4, 1), (("b",), 2, 1)])
