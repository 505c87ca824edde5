"""Functions within expressions: when they are called, with what, and what becomes of it."""

from __future__ import annotations

import datetime
import functools
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import asyncpersist as ap
from asyncpersist.errors import ColumnNotFound, FunctionFailed, GraphError, SchemaError
from tests.udfs.pieces import minus, outcome, plus


class Pair(ap.Schema):
    a: int
    b: str | None


class Counted:
    """A function that notes what it was called with."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def double(self, value: int) -> int:
        self.calls.append(value)
        return 2 * value

    def shout(self, text: str, times: int = 1) -> str:
        self.calls.append((text, times))
        return text.upper() * times


ROWS = [{"a": 1, "b": "x"}, {"a": 2, "b": None}, {"a": 3, "b": "ü"}, {"a": 1, "b": "x"}]


def columns(rows: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


async def test_a_function_of_rows_in_select_with_columns_and_filter() -> None:
    counted = Counted()
    double = ap.udf(counted.double)

    def build(t: ap.Table) -> ap.Table:
        return t.with_columns(c=double(ap.this.a) + 1).filter(double(ap.this.c) > 7).select(ap.this.b, c=ap.this.c)

    found = await outcome(build, Pair, plus(*ROWS))
    assert columns(found.rows, "b", "c") == [(None, 5), ("ü", 7)]
    assert Counter(counted.calls) == Counter([1, 2, 3, 1, 3, 5, 7, 3])


async def test_arguments_are_expressions_literals_and_keywords() -> None:
    counted = Counted()
    shout = ap.udf(counted.shout)
    found = await outcome(
        lambda t: t.select(
            one=shout(ap.coalesce(t.b, "none") + "!"),
            two=shout("y", times=t.a),
            three=shout(times=2, text=pl.col("b").fill_null("-")),
        ),
        Pair,
        plus(*ROWS[:3]),
    )
    assert columns(found.rows, "one", "two", "three") == [
        ("X!", "Y", "XX"),
        ("NONE!", "YY", "--"),
        ("Ü!", "YYY", "ÜÜ"),
    ]


async def test_functions_of_functions() -> None:
    counted = Counted()
    double = ap.udf(counted.double)
    found = await outcome(lambda t: t.select(c=double(double(ap.this.a) + double(1))), Pair, plus(*ROWS[:3]))
    assert columns(found.rows, "c") == [(8,), (12,), (16,)]


async def test_one_expression_used_twice_is_one_call_two_that_look_alike_are_two() -> None:
    counted = Counted()
    double = ap.udf(counted.double)
    once = double(ap.this.a)
    found = await outcome(lambda t: t.select(c=once, d=once + 1), Pair, plus(ROWS[0]))
    assert (found.rows, counted.calls) == ([{"c": 2, "d": 3}], [1])
    await outcome(lambda t: t.select(c=double(ap.this.a), d=double(ap.this.a)), Pair, plus(ROWS[0]))
    assert counted.calls == [1, 1, 1]
    sure = ap.udf(deterministic=True)(counted.double)
    await outcome(lambda t: t.select(c=sure(ap.this.a), d=sure(ap.this.a)), Pair, plus(ROWS[0]))
    assert counted.calls == [1, 1, 1, 1]


async def test_a_branch_that_is_not_taken_calls_nothing() -> None:
    counted = Counted()
    double = ap.udf(counted.double)

    def build(t: ap.Table) -> ap.Table:
        return t.select(
            chosen=ap.if_else(t.a > 1, double(t.a), 0),
            nested=ap.if_else(t.a > 1, ap.if_else(t.a > 2, double(t.a * 10), double(t.a * 100)), -1),
            known=ap.coalesce(t.b, ap.cast(str, double(t.a * 1000))),
            needed=ap.require(double(t.a * 7), t.b),
        )

    found = await outcome(build, Pair, plus(*ROWS[:3]))
    assert columns(found.rows, "chosen", "nested", "known", "needed") == [
        (0, -1, "x", 14),
        (4, 400, "4000", None),
        (6, 60, "ü", 42),
    ]
    assert sorted(counted.calls) == [2, 3, 7, 21, 30, 200, 2000]


async def test_what_a_branch_needs_is_not_computed_elsewhere() -> None:
    double = ap.udf(Counted().double)

    def build(t: ap.Table) -> ap.Table:
        return t.select(
            divided=ap.if_else(t.a > 1, double(10 // (t.a - 1)), 0),
            known=ap.if_else(t.b.is_not_none(), ap.apply_with_type(len, int, ap.unwrap(t.b)), -1),
            nested=ap.if_else(t.a > 2, double(double(t.a)), -1),
            inner=ap.if_else(t.a > 1, ap.if_else(double(t.a) > 4, t.a, -2), -1),
            later=ap.coalesce(t.b, ap.cast(str, double(double(t.a)))),
        )

    found = await outcome(build, Pair, plus(*ROWS[:3]))
    assert columns(found.rows, "divided", "known", "nested", "inner", "later") == [
        (0, 1, -1, -1, "x"),
        (20, -1, -1, -2, "8"),
        (10, 1, 12, 3, "ü"),
    ]


async def test_a_call_that_is_needed_everywhere_is_the_one_of_a_branch_too() -> None:
    counted = Counted()
    once = ap.udf(counted.double)(ap.this.a)
    found = await outcome(
        lambda t: t.select(high=ap.if_else(once > 2, once, 0), low=ap.if_else(once > 4, 0, once), all=once),
        Pair,
        plus(*ROWS[:3]),
    )
    assert columns(found.rows, "high", "low", "all") == [(0, 2, 2), (4, 4, 4), (6, 0, 6)]
    assert counted.calls == [1, 2, 3]
    counted.calls.clear()
    some = ap.udf(counted.double)(ap.this.a)
    found = await outcome(
        lambda t: t.select(low=ap.if_else(t.a < 2, some, 0), high=ap.if_else(t.a > 2, some, 0)), Pair, plus(*ROWS[:3])
    )
    assert columns(found.rows, "low", "high") == [(2, 0), (0, 0), (0, 6)]
    assert counted.calls == [1, 3]


async def test_functions_that_only_look_alike_are_not_one() -> None:
    def made(factor: int) -> Any:
        def times(a: int) -> int:
            return a * factor

        return times

    class Factor:
        def __init__(self, by: int) -> None:
            self.by = by

        def times(self, a: int) -> int:
            return a * self.by

    pairs: list[tuple[Any, Any]] = [
        (lambda a: a * 2, lambda a: a * 3),
        (made(2), made(3)),
        (functools.partial(int.__mul__, 2), functools.partial(int.__mul__, 3)),
        (Factor(2).times, Factor(3).times),
    ]
    for two, three in pairs:
        certain = ap.udf(return_type=int, deterministic=True)
        found = await outcome(lambda t: t.select(a=certain(two)(t.a), b=certain(three)(t.a)), Pair, plus(ROWS[1]))  # noqa: B023
        assert found.rows == [{"a": 4, "b": 6}]
        found = await outcome(
            lambda t: t.reduce(
                a=ap.reducers.sum(ap.apply_with_type(two, int, t.a)),  # noqa: B023
                b=ap.reducers.sum(ap.apply_with_type(three, int, t.a)),  # noqa: B023
            ),
            Pair,
            plus(ROWS[1]),
        )
        assert found.rows == [{"a": 4, "b": 6}]
    cached = ap.udf(return_type=int, cache_strategy=ap.udfs.InMemoryCache())
    for two, three in pairs[1:2] + pairs[3:]:
        with pytest.raises(GraphError, match=r"two different functions .* could not be told apart"):
            await outcome(lambda t: t.select(a=cached(two)(t.a), b=cached(three)(t.a)), Pair, plus(ROWS[1]))  # noqa: B023
    two, three = pairs[2]
    found = await outcome(lambda t: t.select(a=cached(two)(t.a), b=cached(three)(t.a)), Pair, plus(ROWS[1]))
    assert found.rows == [{"a": 4, "b": 6}]


async def test_equal_arguments() -> None:
    def joined(a: int, b: int) -> str:
        return f"{a} {b}"

    found = await outcome(
        lambda t: t.select(
            c=ap.apply(joined, t.a, t.a), d=ap.apply(joined, t.a + 1, b=t.a + 1), e=ap.apply(joined, 5, 5)
        ),
        Pair,
        plus(ROWS[0]),
    )
    assert columns(found.rows, "c", "d", "e") == [("1 1", "2 2", "5 5")]


async def test_options_may_be_given_with_the_function() -> None:
    counted = Counted()
    function = ap.udf(counted.double, cache_strategy=ap.udfs.InMemoryCache())
    found = await outcome(lambda t: t.select(c=function(t.a * 0)), Pair, plus(*ROWS))
    assert (columns(found.rows, "c"), counted.calls) == ([(0,)] * 4, [0])


async def test_functions_in_reduce_below_and_above_the_groups() -> None:
    counted = Counted()
    double = ap.udf(counted.double)
    found = await outcome(
        lambda t: t.groupby(ap.this.b).reduce(
            ap.this.b, s=ap.reducers.sum(double(ap.this.a)), d=double(ap.reducers.count())
        ),
        Pair,
        plus(*ROWS),
    )
    assert sorted(columns(found.rows, "b", "s", "d"), key=repr) == [("x", 4, 4), ("ü", 6, 2), (None, 4, 2)]
    assert sorted(counted.calls) == [1, 1, 1, 1, 2, 2, 3]


async def test_functions_without_arguments_are_called_for_every_row() -> None:
    numbers = iter(range(100))

    def ticket() -> int:
        return next(numbers)

    async def fixed() -> str:
        return "same"

    found = await outcome(
        lambda t: t.select(c=ap.udf(ticket)(), d=ap.udf(deterministic=True)(fixed)()), Pair, plus(*ROWS)
    )
    assert sorted(columns(found.rows, "c", "d")) == [(0, "same"), (1, "same"), (2, "same"), (3, "same")]


async def test_none_is_passed_on_or_propagated() -> None:
    calls: list[Any] = []

    def told(text: str | None) -> str:
        calls.append(text)
        return repr(text)

    found = await outcome(
        lambda t: t.select(p=ap.udf(told)(t.b), q=ap.udf(propagate_none=True)(told)(t.b)), Pair, plus(*ROWS[:2])
    )
    assert columns(found.rows, "p", "q") == [("'x'", "'x'"), ("None", None)]
    assert sorted(calls, key=repr) == ["x", "x", None]


async def test_functions_of_whole_columns() -> None:
    sizes: list[int] = []

    @ap.udf(return_type=float)
    def scaled(a: pl.Series, b: pl.Series) -> pl.Series:
        sizes.append(len(a))
        return a * 1.5 + b.str.len_chars().fill_null(0)

    @ap.udf(return_type=int, columns="numpy", max_batch_size=3)
    def squared(a: np.ndarray) -> np.ndarray:
        sizes.append(len(a))
        return a**2

    @ap.udf(max_batch_size=3)
    def listed(values: list[int]) -> list[str]:
        sizes.append(len(values))
        return [str(value) for value in values]

    found = await outcome(lambda t: t.select(c=scaled(t.a, t.b), d=squared(t.a), e=listed(t.a)), Pair, plus(*ROWS))
    assert columns(found.rows, "c", "d", "e") == [(2.5, 1, "1"), (3.0, 4, "2"), (5.5, 9, "3"), (2.5, 1, "1")]
    assert sorted(sizes) == [1, 1, 3, 3, 4]


async def test_what_is_returned_may_be_of_any_type_of_column() -> None:
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5)
    values: dict[Any, Any] = {
        int: 3,
        float: 2.5,
        bool: True,
        str: "ß",
        bytes: b"\0",
        datetime.datetime: moment,
        datetime.timedelta: datetime.timedelta(seconds=1),
        list[float]: [1.0, 2.0],
        tuple[int, str]: (1, "a"),
        ap.Json: {"a": [1, None]},
        int | None: None,
    }
    for kind, value in values.items():
        found = await outcome(
            lambda t, kind=kind, value=value: t.select(c=ap.apply_with_type(lambda a: value, kind, t.a)),
            Pair,
            plus(ROWS[0]),
        )
        assert columns(found.rows, "c") == [(value,)]


async def test_python_objects_are_opt_in(tmp_path: Path) -> None:
    def made(a: int) -> ap.PyObjectWrapper[complex]:
        return ap.wrap_py_object(complex(a, 1))

    def read(value: ap.PyObjectWrapper[complex]) -> float:
        return value.value.real

    found = await outcome(
        lambda t: t.select(c=ap.udf(made)(t.a)).with_columns(d=ap.udf(read)(ap.this.c)), Pair, plus(*ROWS[:2])
    )
    assert columns(found.rows, "c", "d") == [(ap.wrap_py_object(1 + 1j), 1.0), (ap.wrap_py_object(2 + 1j), 2.0)]
    with pytest.raises(FunctionFailed, match="expected object, got 3"):
        await outcome(
            lambda t: t.select(c=ap.apply_with_type(lambda a: 3, ap.PyObjectWrapper, t.a)), Pair, plus(ROWS[0])
        )
    with ap.Graph(), pytest.raises(SchemaError, match="are Python objects, which files cannot hold"):
        table = ap.io.python.read(_Nothing(), schema=Pair)
        ap.io.csv.write(table.select(c=ap.udf(made)(table.a)), tmp_path / "out.csv")


async def test_classes_and_partials_and_builtins() -> None:
    class Scaled(ap.UDF):
        def __init__(self, factor: int) -> None:
            super().__init__(deterministic=True)
            self.factor = factor

        def __wrapped__(self, value: int) -> int:
            return value * self.factor

    class Later(ap.UDF):
        async def __wrapped__(self, value: int) -> int:
            return value + 1

    found = await outcome(
        lambda t: t.select(c=Scaled(3)(t.a), d=Later()(t.a), e=ap.apply_with_type(len, int, ap.coalesce(t.b, ""))),
        Pair,
        plus(*ROWS[:2]),
    )
    assert columns(found.rows, "c", "d", "e") == [(3, 2, 1), (6, 3, 0)]


async def test_what_comes_and_goes_is_called_for_once_and_taken_back_as_it_was() -> None:
    """A function that never returns the same: only what was given out may be taken back."""
    seed = random.randrange(1 << 30)
    print("seed", seed)
    chance = random.Random(seed)
    calls: list[int] = []

    @ap.udf
    def drawn(a: int) -> float:
        calls.append(a)
        return chance.random()

    rows = [{"a": i % 3, "b": str(i)} for i in range(6)]
    found = await outcome(
        lambda t: t.select(t.a, c=drawn(t.a)),
        Pair,
        plus(*rows),
        minus(rows[0], rows[4]),
        [*minus(rows[1]), *plus(rows[0])],
        removes=True,
    )
    assert len(found.rows) == 4, "and each was there when it was taken back"
    assert calls == [0, 1, 2, 0, 1, 2, 0]
    assert len({row["c"] for row in found.rows}) == 4


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda t: ap.udf(lambda a: a)(t.a), GraphError, "nothing says what it returns"),
        (lambda t: ap.udf(return_type=object)(lambda a: a)(t.a), SchemaError, "is no column type"),
        (lambda t: ap.udf(return_type=int)(lambda a: a)(t.a, t.b), GraphError, "too many positional arguments"),
        (lambda t: ap.udf(return_type=int)(lambda a: a)(t.nonsense), ColumnNotFound, "nonsense"),
        (
            lambda t: ap.udf(return_type=int, cache_strategy=ap.udfs.DefaultCache())(lambda a: a)(t.a),
            GraphError,
            "a lambda has no name",
        ),
        (lambda t: ap.udf(3)(t.a), TypeError, "udf takes a function"),
        (lambda t: ap.udf(len, cache=3), TypeError, "udf has no option cache; there are return_type"),
        (lambda t: ap.udf(_Nothing)(t.a), TypeError, "_Nothing is a class: make it a subclass of UDF"),
        (lambda t: ap.udf(Counted().shout)(t.a), GraphError, "text is annotated as str, and is given int"),
        (lambda t: ap.udf(_mixed)(t.a, t.a), GraphError, "some parameters are annotated pl.Series"),
        (lambda t: ap.udf(executor="sync")(len)(t.b), TypeError, "executor must be one of"),
        (lambda t: ap.udf(max_batch_size=0)(len)(t.b), ValueError, "max_batch_size must be at least 1"),
        (lambda t: ap.udf(version=[])(len)(t.b), TypeError, "version must be"),
    ],
)
def test_what_cannot_be_meant_is_refused_while_the_graph_is_built(wrong: Any, error: Any, message: str) -> None:
    with ap.Graph():
        table = ap.io.python.read(_Nothing(), schema=Pair)
        with pytest.raises(error, match=message):
            table.select(c=wrong(table))


def _mixed(a: pl.Series, b: int) -> int:
    return b


class _Nothing(ap.io.python.ConnectorSubject):
    async def run(self) -> None:
        pass
