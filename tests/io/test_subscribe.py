"""Changes as calls: what is told, in which order, under which keys, and what a callback may do."""

from __future__ import annotations

import asyncio
import datetime
import functools
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import asyncpersist as ap
from asyncpersist.clock import SystemClock
from asyncpersist.columnar.delta import ID, Delta
from asyncpersist.disk import Disk
from asyncpersist.dtypes import DType, Pointer
from asyncpersist.errors import Unsupported
from asyncpersist.io.python import ConnectorSubject
from asyncpersist.io.sink import SinkWriter
from asyncpersist.io.subscribe import SubscribeSink

COLUMNS = {"word": DType("str"), "n": DType("int", optional=True)}


class Word(ap.Schema):
    word: str


class Words(ConnectorSubject):
    """Gives words, each in an epoch of its own: the next one once the one before was `told`."""

    def __init__(self, *words: str) -> None:
        self.words = list(words)
        self.given = 0
        self.told = asyncio.Event()

    async def run(self) -> None:
        for word in self.words[self.given :]:
            self.given += 1
            self.told.clear()
            await self.next(word=word)
            await self.told.wait()

    def offset(self) -> int:
        return self.given

    def seek(self, offset: int) -> None:
        self.given = offset


class Told:
    """Remembers all calls."""

    def __init__(self, words: Words | None = None) -> None:
        self.words = words
        self.calls: list[tuple[Any, ...]] = []

    def change(self, key: Pointer, row: dict[str, Any], time: int, is_addition: bool) -> None:
        self.calls.append((key, row, time, is_addition))

    def time_end(self, time: int) -> None:
        self.calls.append(("end of", time))
        if self.words is not None:
            self.words.told.set()

    def end(self) -> None:
        self.calls.append(("end",))

    def recovery(self, time: int) -> None:
        self.calls.append(("recovery", time))

    def rows(self) -> list[tuple[Any, ...]]:
        """(word, count, is_addition) of every change."""
        return [(*call[1].values(), call[3]) for call in self.calls if len(call) == 4]


def counts(words: Words, told: Told, **settings: Any) -> ap.Graph:
    with ap.Graph() as graph:
        table = ap.io.python.read(words, schema=Word, name="words")
        result = table.groupby(ap.this.word).reduce(ap.this.word, count=ap.reducers.count())
        ap.io.subscribe(result, told.change, told.end, told.time_end, on_recovery=told.recovery, **settings)
    return graph


def config(path: Path) -> ap.persistence.Config:
    return ap.persistence.Config(ap.persistence.Backend.filesystem(path / "state"), snapshot_interval_ms=0)


async def writer(told: Any, columns: dict[str, DType] = COLUMNS) -> SinkWriter:
    sink = SubscribeSink(columns, "told", told.change, told.end, told.time_end, told.recovery)
    assert sink.needs_ids
    await sink.check(None, persistent=True)
    return await sink.open(sink.initial(), persistent=True, exclusive=True, disk=Disk(), clock=SystemClock())


def delta(*rows: tuple[int, str, int | None, int]) -> Delta:
    """Of (id, word, n, weight)."""
    ids, words, numbers, weights = zip(*rows, strict=True)
    frame = pl.DataFrame({"word": words, "n": numbers, ID: ids}, schema_overrides={ID: pl.UInt128, "n": pl.Int64})
    return Delta(frame, np.array(weights, np.int64), consolidated=True)


async def test_retractions_come_first_and_a_weight_is_so_many_calls() -> None:
    told = Told()
    calls = await writer(told)
    await calls.begin(None)
    await calls.write(4, delta((1, "a", 1, 1), (2, "b", None, -2), (1 << 100, "c", 3, 2), (3, "d", 4, -1)))
    await calls.end_epoch(4)
    await calls.write(6, Delta(delta((9, "e", 5, 1)).rows))
    await calls.end_epoch(6)
    assert await calls.flush() == {}
    await calls.end()
    await calls.aclose()
    assert told.calls == [
        (2, {"word": "b", "n": None}, 4, False),
        (2, {"word": "b", "n": None}, 4, False),
        (3, {"word": "d", "n": 4}, 4, False),
        (1, {"word": "a", "n": 1}, 4, True),
        (1 << 100, {"word": "c", "n": 3}, 4, True),
        (1 << 100, {"word": "c", "n": 3}, 4, True),
        ("end of", 4),
        (9, {"word": "e", "n": 5}, 6, True),
        ("end of", 6),
        ("end",),
    ]
    assert type(told.calls[0][0]) is Pointer
    assert len({str(key) for key in (told.calls[0][0], Pointer(5), Pointer(6), Pointer(7 << 64))}) == 4
    assert f"{told.calls[0][0]}".startswith("^")
    assert len(str(told.calls[0][0])) == 9


async def test_values_are_those_of_python() -> None:
    class All(ap.Schema):
        number: float
        flag: bool
        at: ap.DateTimeUtc
        pair: tuple[int, str]
        data: ap.Json
        vector: np.ndarray
        items: list[int] | None

    row = {
        "number": 1,
        "flag": True,
        "at": datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
        "pair": (1, "a"),
        "data": {"a": [1, None]},
        "vector": np.array([[1.0, 2.0]]),
        "items": None,
    }

    class One(ConnectorSubject):
        async def run(self) -> None:
            await self.next(**row)

    told = Told()
    with ap.Graph() as graph:
        ap.io.subscribe(ap.io.python.read(One(), schema=All), told.change)
    await ap.run(graph)
    ((_, found, _, is_addition),) = told.calls
    assert is_addition
    np.testing.assert_array_equal(found.pop("vector"), row.pop("vector"))
    assert found == row


async def test_callbacks_may_be_coroutines() -> None:
    class Slow(Told):
        async def change(self, **call: Any) -> None:  # type: ignore[override]
            await asyncio.sleep(0)
            super().change(**call)

        async def time_end(self, time: int) -> None:  # type: ignore[override]
            super().time_end(time)

        async def end(self) -> None:  # type: ignore[override]
            super().end()

        async def recovery(self, time: int) -> None:  # type: ignore[override]
            super().recovery(time)

    told = Slow()
    calls = await writer(told)
    await calls.begin(2)
    await calls.write(4, delta((1, "a", 1, 1)))
    await calls.end_epoch(4)
    await calls.end()
    assert told.calls == [("recovery", 2), (1, {"word": "a", "n": 1}, 4, True), ("end of", 4), ("end",)]


async def test_many_calls_let_the_loop_go_on() -> None:
    turns = 0

    async def tick() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    told = Told()
    calls = await writer(told)
    await calls.write(4, delta(*((n, "a", n, 1) for n in range(50_000))))
    ticking.cancel()
    assert len(told.calls) == 50_000
    assert turns > 5


async def test_a_table_is_told_as_it_changes() -> None:
    words = Words("a", "b", "a")
    told = Told(words)
    await ap.run(counts(words, told))
    assert told.rows() == [("a", 1, True), ("b", 1, True), ("a", 1, False), ("a", 2, True)]
    changes = [call for call in told.calls if len(call) == 4]
    assert changes[0][0] == changes[2][0] == changes[3][0] != changes[1][0]
    times = [call[2] for call in changes]
    assert times == sorted(times)
    assert [call for call in told.calls if call[0] == "end of"] == [("end of", time) for time in sorted(set(times))]
    assert told.calls[-1] == ("end",)


async def test_a_restart_tells_what_is_new_under_the_same_keys(tmp_path: Path) -> None:
    first, second = Told(), Told()
    for told, given in ((first, ["a", "b"]), (second, ["a", "b", "a"])):
        told.words = words = Words(*given)
        await ap.run(counts(words, told), persistence_config=config(tmp_path))
    assert first.rows() == [("a", 1, True), ("b", 1, True)]
    assert second.rows() == [("a", 1, False), ("a", 2, True)]
    assert second.calls[1][0] == first.calls[0][0]
    last = max(call[2] for call in first.calls if len(call) == 4)
    assert second.calls[0] == ("recovery", last)
    assert not [call for call in first.calls if call[0] == "recovery"]


async def test_the_callbacks_are_no_part_of_what_a_subscription_is(tmp_path: Path) -> None:
    words = Words("a")
    await ap.run(counts(words, Told(words)), persistence_config=config(tmp_path))
    with ap.Graph() as graph:
        table = ap.io.python.read(Words("a"), schema=Word, name="words")
        result = table.groupby(ap.this.word).reduce(ap.this.word, count=ap.reducers.count())
        ap.io.subscribe(result, lambda **_: None)
    await ap.run(graph, persistence_config=config(tmp_path))


async def test_two_subscriptions_to_one_table() -> None:
    words = Words("a", "b")
    told = [Told(words), Told(words)]
    with ap.Graph() as graph:
        table = ap.io.python.read(words, schema=Word)
        for each in told:
            ap.io.subscribe(table, each.change, on_time_end=each.time_end)
    await ap.run(graph)
    assert told[0].calls == told[1].calls
    assert [call[1]["word"] for call in told[0].calls if len(call) == 4] == ["a", "b"]


@pytest.mark.parametrize("where", ["change", "time_end", "end"])
async def test_an_error_in_a_callback_ends_the_run(where: str, tmp_path: Path) -> None:
    class Failing(Told):
        def fail(self, *_: Any, **__: Any) -> None:
            raise KeyError("mine")

    words = Words("a")
    told = Failing(words)
    setattr(told, where, told.fail)
    with pytest.raises(KeyError, match="mine") as raised:
        await ap.run(counts(words, told, name="totals"), persistence_config=config(tmp_path))
    assert raised.value.__notes__ == [f"subscription 'totals': raised in its on_{where}"]


async def test_an_upsert_takes_back_what_it_replaces() -> None:
    class Price(ap.Schema):
        item: str = ap.column_definition(primary_key=True)
        price: float

    class Prices(ConnectorSubject):
        async def run(self) -> None:
            for item, price in (("a", 1), ("b", 2), ("a", 3), ("b", None), ("c", 4), ("c", None)):
                if price is None:
                    await self.remove(item=item)
                else:
                    await self.next(item=item, price=price)
                self.told.clear()
                if (item, price) != ("c", None):
                    await self.told.wait()

        def __init__(self) -> None:
            self.told = asyncio.Event()

    prices = Prices()
    told = Told(prices)  # type: ignore[arg-type]
    with ap.Graph() as graph:
        ap.io.subscribe(ap.io.python.read(prices, schema=Price), told.change, on_time_end=told.time_end)
    await ap.run(graph)
    assert told.rows() == [
        ("a", 1.0, True),
        ("b", 2.0, True),
        ("a", 1.0, False),
        ("a", 3.0, True),
        ("b", 2.0, False),
        ("c", 4.0, True),
        ("c", 4.0, False),
    ]
    assert len({call[0] for call in told.calls if len(call) == 4}) == 3


@pytest.mark.parametrize(
    ("arguments", "settings", "error", "message"),
    [
        ((3,), {}, TypeError, "on_change must be a function, got 3"),
        ((None,), {}, TypeError, "on_change must be a function, got None"),
        ((print, 1), {}, TypeError, "on_end must be a function"),
        ((print,), {"on_recovery": 1}, TypeError, "on_recovery must be a function"),
        ((lambda row: None,), {}, TypeError, "on_change is called with key=, row=, time=, is_addition="),
        ((lambda key, row, time, is_addition, more: None,), {}, TypeError, "on_change .* missing .*'more'"),
        ((Told().change, lambda time: None), {}, TypeError, "on_end is called with no arguments"),
        ((Told().change, None, lambda: None), {}, TypeError, "on_time_end is called with one argument, the time"),
        ((Told().change,), {"on_recovery": lambda: None}, TypeError, "on_recovery is called with one argument"),
        ((print,), {"name": 1}, TypeError, "name must be a str"),
        ((print,), {"delivery": "committed"}, Unsupported, "not built yet"),
        ((print,), {"delivery": "soon"}, ValueError, "must be"),
    ],
)
def test_wrong_arguments(arguments: tuple[Any, ...], settings: Any, error: type[Exception], message: str) -> None:
    with ap.Graph():
        table = ap.io.python.read(Words(), schema=Word)
        with pytest.raises(error, match=message):
            ap.io.subscribe(table, *arguments, **settings)
        with pytest.raises(TypeError, match="takes a table first"):
            ap.io.subscribe(print, print)  # type: ignore[arg-type]


class Unsigned:
    """A callable whose signature nobody can tell."""

    __signature__ = "unknown"

    def __call__(self, **_: Any) -> None:
        pass


@pytest.mark.parametrize(
    "function",
    [Told().change, lambda **_: None, lambda row, **_: None, functools.partial(Told().change), Unsigned()],
)
def test_functions_that_may_be_told(function: Any) -> None:
    with ap.Graph() as graph:
        ap.io.subscribe(ap.io.python.read(Words(), schema=Word), function)
    assert len(graph.sinks) == 1
