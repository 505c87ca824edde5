"""What goes wrong where several things meet: fills in pieces, ids, sources that begin anew, owners that come back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import polars as pl
import pytest

import asyncpersist as ap
from asyncpersist.errors import ModeChanged
from asyncpersist.io.python import ConnectorSubject
from asyncpersist.runtime import log_reading, stepping
from tests.modes.graphs import graph_of
from tests.modes.pieces import A, Feed, M, Place, Told, Word, changes, counted, file_words, read, rows_in, run, running
from tests.modes.probes import Given, history


class Keyed(ap.Schema):
    key: int = ap.column_definition(primary_key=True)
    value: int


class Updates(ConnectorSubject):
    """Gives every key the value 0, then some of them 1, and takes some away."""

    def __init__(self) -> None:
        self.given = 0

    async def run(self) -> None:
        for keys, value in ((range(300), 0), (range(50), 1)):
            if self.given < 300 + 50 * value:
                self.given += len(keys)
                await self.next_batch(pl.DataFrame({"key": keys, "value": [value] * len(keys)}))
        for key in range(self.given - 350, 20):
            self.given += 1
            await self.remove(key=key)

    def offset(self) -> int:
        return self.given

    def seek(self, offset: int) -> None:
        self.given = offset


async def test_the_latest_row_of_a_key_is_filled_in(anywhere: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """In many steps, as a large log is."""
    monkeypatch.setattr(log_reading, "_SMALL_ROWS", 100)
    monkeypatch.setattr(stepping, "_PASS_BYTES", 1)

    def define(output: str) -> None:
        rows = ap.io.python.read(Updates(), schema=Keyed, name="keyed")
        groups = rows.groupby(ap.this.value).reduce(ap.this.value, count=ap.reducers.count())
        ap.io.csv.write(groups, anywhere / output)

    right = Counter({("0", "250"): 1, ("1", "30"): 1})
    await run(graph_of(lambda: define("one.csv")), anywhere.config(M.UDF_CACHING, snapshot_interval_ms=0))
    assert rows_in(anywhere / "one.csv") == right
    await run(graph_of(lambda: define("two.csv")), anywhere.config())
    assert rows_in(anywhere / "two.csv") == right


@pytest.mark.parametrize("above", ["the sources", "groups"])
async def test_the_order_of_arrival_over_several_sources(anywhere: Place, above: str) -> None:
    given: Given = []

    def define(mark: str, output: str, feeds: Sequence[Feed]) -> None:
        one, other = (ap.io.python.read(feed, schema=Word, name=f"feed {n}") for n, feed in enumerate(feeds))
        words = one.concat_reindex(other)
        if above == "groups":
            words = words.filter(ap.this.word != mark)  # another operator, too
            words = words.groupby(ap.this.word).reduce(ap.this.word, count=ap.reducers.count()).select(ap.this.word)
        ap.io.csv.write(history(words, given, mark=mark), anywhere / output)

    feeds = [Feed(held=True), Feed(held=True)]
    async with running(graph_of(lambda: define(" ", "one.csv", feeds)), anywhere.config()) as runtime:
        for number in range(6):
            feeds[number % 2].push(f"{number % 4}")
            await read(runtime, number + 1)
        for feed in feeds:
            feed.finish()
        await runtime.wait()
    ((told, _),) = rows_in(anywhere / "one.csv").items()
    again = [Feed(*feed.rows) for feed in feeds]
    await run(graph_of(lambda: define("+", "two.csv", again)), anywhere.config())
    ((filled, _),) = rows_in(anywhere / "two.csv").items()
    assert filled[0].split("+") == told[0].split(" ")


async def test_equal_sources_are_told_apart_by_the_order_of_their_definitions(anywhere: Place) -> None:
    def define(outputs: str, ones: Sequence[str], others: Sequence[str]) -> None:
        tables = {
            "x": ap.io.python.read(Feed(*ones), schema=Word),
            "y": ap.io.python.read(Feed(*others), schema=Word),
        }
        for name in outputs:
            ap.io.csv.write(tables[name.lower()].filter(ap.this.word != name), anywhere / f"{name}.csv")

    await run(graph_of(lambda: define("xy", ["x0", "x1"], ["y0"])), anywhere.config())
    await run(graph_of(lambda: define("Yyx", ["x0", "x1", "x2"], ["y0", "y1"])), anywhere.config())
    assert rows_in(anywhere / "x.csv") == Counter({("x0",): 1, ("x1",): 1, ("x2",): 1})
    assert rows_in(anywhere / "y.csv") == Counter({("y0",): 1, ("y1",): 1})


async def test_a_source_that_begins_anew_under_an_output_that_would_go_on(anywhere: Place) -> None:
    anywhere.write("a/1.jsonl", "a")
    anywhere.write("b/1.jsonl", "b")

    def define() -> None:
        both = file_words(anywhere / "a", name="a").concat_reindex(file_words(anywhere / "b"))
        ap.io.csv.write(both, anywhere / "out.csv")

    await run(graph_of(define), anywhere.config(M.UDF_CACHING))
    with pytest.raises(ModeChanged, match="were told something else"):
        await run(graph_of(define), anywhere.config())
    with pytest.raises(ModeChanged, match="were told something else"):
        await run(graph_of(define), anywhere.config(access=A.OFFSETS_ONLY))
    assert rows_in(anywhere / "out.csv") == Counter({("a",): 1, ("b",): 1})


async def test_a_replay_that_goes_on_after_a_source_that_gave_nothing(anywhere: Place) -> None:
    anywhere.write("one/1.jsonl", "a")
    anywhere.write("two/1.jsonl")

    def define(output: str) -> None:
        one, two = (file_words(anywhere / name, name=name) for name in ("one", "two"))
        ap.io.csv.write(counted(one.concat_reindex(two)), anywhere / output)

    await run(graph_of(lambda: define("out.csv")), anywhere.config())
    anywhere.write("two/2.jsonl", "a")
    await run(graph_of(lambda: define("again.csv")), anywhere.config(M.SPEEDRUN_REPLAY, A.REPLAY))
    assert rows_in(anywhere / "again.csv") == Counter({("a", "2"): 1})


async def test_a_last_line_that_was_given_an_id_later_and_grows(anywhere: Place) -> None:
    (anywhere / "in").mkdir()
    path = anywhere / "in" / "1.csv"
    path.write_text("word\nx\nab")
    told = Told()

    def define(*, asks: bool) -> None:
        words = ap.io.csv.read(anywhere / "in", schema=Word, mode="static", name="files")
        ap.io.csv.write(words, anywhere / "out.csv")
        if asks:
            ap.io.subscribe(words, told)

    for asks in (False, True, True):
        await run(graph_of(lambda asks=asks: define(asks=asks)), anywhere.config())  # type: ignore[misc]
    with path.open("a") as file:
        file.write("cd\ny\n")
    for _ in range(2):
        await run(graph_of(lambda: define(asks=True)), anywhere.config())
    assert told.rows == rows_in(anywhere / "out.csv") == Counter({("x",): 1, ("abcd",): 1, ("y",): 1})


async def test_ids_that_come_where_operators_have_seen_nothing(anywhere: Place) -> None:
    path = anywhere.write("in/1.jsonl", "a")
    anywhere.write("in/2.jsonl", "b")
    told = Told()

    def define(*, asks: bool) -> None:
        words = file_words(anywhere / "in", name="files")
        ap.io.csv.write(counted(words), anywhere / "out.csv")
        if asks:
            ap.io.subscribe(words.filter(ap.this.word != ""), told)

    await run(graph_of(lambda: define(asks=False)), anywhere.config(M.UDF_CACHING))
    path.unlink()
    for _ in range(2):
        await run(graph_of(lambda: define(asks=True)), anywhere.config(M.UDF_CACHING))
    assert told.changes == []


async def test_what_is_not_taken_back_is_said(anywhere: Place, caplog: pytest.LogCaptureFixture) -> None:
    path = anywhere.write("in/1.jsonl", "a")
    anywhere.write("in/2.jsonl", "b")

    def define() -> None:
        ap.io.csv.write(file_words(anywhere / "in", name="files"), anywhere / "out.csv")

    await run(graph_of(define), anywhere.config(access=A.OFFSETS_ONLY))
    path.unlink()
    caplog.clear()
    await run(graph_of(define), anywhere.config(access=A.OFFSETS_ONLY))
    assert "source.files: 1.jsonl was read in an earlier run" in caplog.text
    assert len(changes(anywhere / "out.csv")) == 2


@pytest.mark.parametrize("mode", [M.BATCH, M.SPEEDRUN_REPLAY])
async def test_a_state_is_replayed_in_place(anywhere: Place, mode: M) -> None:
    anywhere.write("in/1.jsonl", "a", "b", "a")

    def define(output: str) -> None:
        ap.io.csv.write(counted(file_words(anywhere / "in", name="files")), anywhere / output)

    await run(graph_of(lambda: define("out.csv")), anywhere.config())
    anywhere.write("in/2.jsonl", "b")
    for _ in range(2):
        await run(graph_of(lambda: define("again.csv")), anywhere.config(mode))
        assert rows_in(anywhere / "again.csv") == Counter({("a", "2"): 1, ("b", "2"): 1})


async def test_an_owner_that_comes_back_during_a_replay(anywhere: Place) -> None:
    words = [str(number) for number in range(20)]

    def define(feed: Feed, output: str) -> None:
        ap.io.csv.write(counted(ap.io.python.read(feed, schema=Word, name="feed")), anywhere / output)

    await run(graph_of(lambda: define(Feed(*words), "out.csv")), anywhere.config(retain_snapshots=1))
    replayed, config = Feed(*words, held=True), anywhere.config(M.REALTIME_REPLAY, A.REPLAY)
    async with running(graph_of(lambda: define(replayed, "again.csv")), config) as runtime:
        await anywhere.store.delete([entry.key for entry in await anywhere.store.list("objects/")])
        replayed.finish()
        await asyncio.wait_for(runtime.wait(), 30)
    assert rows_in(anywhere / "again.csv") == Counter({(word, "1"): 1 for word in words})
