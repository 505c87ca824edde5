"""A source whose schema changed: refused, or read again from its beginning."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

import asyncpersist as ap
from asyncpersist.errors import GraphChanged
from tests.modes.pieces import A, Feed, M, Place, rows_in, run


class Item(ap.Schema):
    item: str
    amount: int


class Fewer(ap.Schema):
    item: str


class More(ap.Schema):
    item: str
    amount: int
    note: str = "-"


class OtherType(ap.Schema):
    item: str
    amount: float


class Keyed(ap.Schema):
    item: str = ap.column_definition(primary_key=True)
    amount: int


class KeyedByBoth(ap.Schema):
    item: str = ap.column_definition(primary_key=True)
    amount: int = ap.column_definition(primary_key=True)


class Reordered(ap.Schema):
    amount: int
    item: str


CHANGES = {
    "fewer": (Fewer, "without amount"),
    "more": (More, "with note: str"),
    "other type": (OtherType, "amount: float instead of int"),
    "primary key": (Keyed, "primary key item instead of none"),
    "order": (Reordered, "another order of columns"),
}

ROWS = [{"item": "a", "amount": 1}, {"item": "b", "amount": 2}, {"item": "a", "amount": 3}]


def of_files(place: Place, schema: type[ap.Schema], name: str | None) -> ap.Table:
    return ap.io.jsonlines.read(place / "in", schema=schema, mode="static", name=name)


def of_subject(place: Place, schema: type[ap.Schema], name: str | None) -> ap.Table:
    columns = schema.column_names()
    rows = [{column: row[column] for column in columns if column in row} for row in ROWS]
    return ap.io.python.read(Feed(*rows), schema=schema, name=name)


Read = Callable[[Place, type[ap.Schema], str | None], ap.Table]


def define(place: Place, read: Read, schema: type[ap.Schema], name: str | None, **sink: Any) -> ap.Graph:
    """The number of items, and a table that has nothing to do with it."""
    with ap.Graph() as graph:
        table = read(place, schema, name)
        ap.io.csv.write(
            table.groupby(ap.this.item).reduce(ap.this.item, n=ap.reducers.count()), place / "out.csv", **sink
        )
        other = ap.io.python.read(Feed({"item": "x"}, {"item": "y"}), schema=Fewer, name="other")
        ap.io.csv.write(other.reduce(n=ap.reducers.count()), place / "other.csv")
    return graph


def write(place: Place) -> None:
    (place / "in").mkdir()
    (place / "in" / "1.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))


@pytest.mark.parametrize("name", ["items", None])
@pytest.mark.parametrize("read", [of_files, of_subject])
@pytest.mark.parametrize("change", CHANGES)
async def test_a_schema_that_changed(anywhere: Place, read: Read, change: str, name: str | None) -> None:
    write(anywhere)
    schema, says = CHANGES[change]
    await run(define(anywhere, read, Item, name), anywhere.config())
    before = await anywhere.contents()
    outputs = (anywhere / "out.csv").read_text(), (anywhere / "other.csv").read_text()
    for settings in ({}, {"on_graph_change": "replay"}):
        with pytest.raises(GraphChanged, match=rf"has another schema than before \({says}.*on_schema_change=.reread"):
            await run(define(anywhere, read, schema, name), anywhere.config(**settings))
    # Read again, it would contradict what the readers of its output were told.
    with pytest.raises(GraphChanged, match="were told something else"):
        await run(define(anywhere, read, schema, name), anywhere.config(on_schema_change="reread"))
    assert await anywhere.contents() == before
    assert ((anywhere / "out.csv").read_text(), (anywhere / "other.csv").read_text()) == outputs

    figures = await run(
        define(anywhere, read, schema, name, on_restart="overwrite"), anywhere.config(on_schema_change="reread")
    )
    assert figures.rows_read == 3
    amounts = Counter({("a", "1"): 1, ("b", "1"): 1}) if schema is Keyed else Counter({("a", "2"): 1, ("b", "1"): 1})
    assert rows_in(anywhere / "out.csv") == amounts
    assert (anywhere / "other.csv").read_text() == outputs[1], "others go on"
    head = await anywhere.head()
    logs = [stream for stream in head.streams if stream.startswith("log/")]
    assert len(logs) == 2
    assert sorted(sum(ref.rows for ref in head.streams[log]) for log in logs) == [2, 3], "its log is a new one"

    # And then it is as if it had always been so.
    figures = await run(
        define(anywhere, read, schema, name, on_restart="overwrite"), anywhere.config(on_graph_change="reject")
    )
    assert figures.rows_read == 0


@pytest.mark.parametrize("name", ["items", None])
@pytest.mark.parametrize("read", [of_files, of_subject])
async def test_another_primary_key(anywhere: Place, read: Read, name: str | None) -> None:
    """A log is kept for the key there was: of rows under one key it may hold the last one alone."""
    write(anywhere)
    await run(define(anywhere, read, Keyed, name), anywhere.config())
    overwriting = define(anywhere, read, KeyedByBoth, name, on_restart="overwrite")
    with pytest.raises(GraphChanged, match="primary key item, amount instead of item"):
        await run(overwriting, anywhere.config())
    overwriting = define(anywhere, read, KeyedByBoth, name, on_restart="overwrite")
    await run(overwriting, anywhere.config(on_schema_change="reread"))
    assert rows_in(anywhere / "out.csv") == Counter({("a", "2"): 1, ("b", "1"): 1})


@pytest.mark.parametrize("mode", [M.PERSISTING, M.SELECTIVE_PERSISTING, M.OPERATOR_PERSISTING, M.UDF_CACHING, M.BATCH])
async def test_in_every_mode(anywhere: Place, mode: M) -> None:
    write(anywhere)
    await run(define(anywhere, of_subject, Item, "items"), anywhere.config(mode))
    settings = {"on_graph_change": "replay"} if mode is M.OPERATOR_PERSISTING else {}
    with pytest.raises(GraphChanged, match=r"'items'.* has another schema than before \(with note: str\)"):
        await run(define(anywhere, of_subject, More, "items"), anywhere.config(mode, **settings))
    config = anywhere.config(mode, on_schema_change="reread", **settings)
    await run(define(anywhere, of_subject, More, "items", on_restart="overwrite"), config)
    assert rows_in(anywhere / "out.csv") == Counter({("a", "2"): 1, ("b", "1"): 1})


async def test_a_source_that_is_not_kept(anywhere: Place) -> None:
    """Nothing of it was kept, so nothing has to fit."""
    for schema in (Item, More):
        await run(define(anywhere, of_subject, schema, None), anywhere.config(M.SELECTIVE_PERSISTING))
        assert rows_in(anywhere / "out.csv") == Counter({("a", "2"): 1, ("b", "1"): 1})


async def test_a_replay_of_another_schema(anywhere: Place) -> None:
    """A recording cannot be read again, so there is no way but its schema."""
    await run(define(anywhere, of_subject, Item, "items"), anywhere.config(M.BATCH, A.RECORD))
    before = await anywhere.contents()
    for wish in ("reject", "reread"):
        with pytest.raises(GraphChanged, match="has another schema than before"):
            await run(
                define(anywhere, of_subject, More, "items"),
                anywhere.config(M.BATCH, A.REPLAY, on_schema_change=wish),
            )
    assert await anywhere.contents() == before


async def test_another_kind_of_source_under_the_same_name(anywhere: Place) -> None:
    write(anywhere)
    await run(define(anywhere, of_files, Item, "items"), anywhere.config())
    with pytest.raises(GraphChanged, match="another kind of source: python instead of fs"):
        await run(define(anywhere, of_subject, Item, "items"), anywhere.config())


async def test_a_crash_after_a_source_is_read_again(anywhere: Place) -> None:
    write(anywhere)
    await run(define(anywhere, of_files, Item, "items"), anywhere.config())

    class Refusing(Feed):
        async def run(self) -> None:
            raise ZeroDivisionError

    def failing() -> ap.Graph:
        graph = define(anywhere, of_files, More, "items", on_restart="overwrite")
        with graph:
            ap.io.csv.write(ap.io.python.read(Refusing(), schema=Fewer, name="bad"), anywhere / "bad.csv")
        return graph

    before = (await anywhere.head()).streams
    with pytest.raises(ZeroDivisionError):
        await run(failing(), anywhere.config(on_schema_change="reread"))
    assert (await anywhere.head()).streams == before
    await run(
        define(anywhere, of_files, More, "items", on_restart="overwrite"),
        anywhere.config(on_schema_change="reread"),
    )
    assert rows_in(anywhere / "out.csv") == Counter({("a", "2"): 1, ("b", "1"): 1})
