"""Operators against Python's own, at the edges of 64 bits, around zero, with None and NaN."""

from __future__ import annotations

import datetime
import itertools
import math
import operator
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asyncpersist.columnar.delta import Delta
from asyncpersist.errors import GraphError, RowError, Unsupported
from asyncpersist.table.expression import ColumnExpression
from asyncpersist.table.this import this
from tests.examples import examples
from tests.table.pieces import frame, rows_of, step, table, value_of

MAX, MIN = 2**63 - 1, -(2**63)

edges = st.sampled_from([0, 1, -1, 2, -2, 3, MAX, MAX - 1, MIN, MIN + 1, 2**32, -(2**32), 3037000499, 3037000500])
ints = edges | st.integers(MIN, MAX) | st.integers(-20, 20)
floats = st.sampled_from([0.0, -0.0, 1.0, -1.0, math.nan, math.inf, -math.inf, 1e308]) | st.floats()
TYPES = {"a": int | None, "b": int | None}

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
}


def outcome(function: Callable[..., Any], *args: Any) -> Any:
    """What Python makes of it: None with None, "error" where there is no value of 64 bits."""
    if any(arg is None for arg in args):
        return None
    try:
        result = function(*args)
    except ZeroDivisionError:
        return "error"
    return "error" if isinstance(result, int) and not MIN <= result <= MAX else result


def ours(expression: Any, types: dict[str, Any], row: dict[str, Any]) -> Any:
    try:
        return value_of(expression, types, row)
    except RowError:
        return "error"


@pytest.mark.parametrize("symbol", OPERATORS)
@given(a=ints | st.none(), b=ints | st.none())
@example(a=MIN, b=-1)
@example(a=MAX, b=1)
@examples(40)
def test_ints_are_as_in_python(symbol: str, a: int | None, b: int | None) -> None:
    function = OPERATORS[symbol]
    expected = outcome(function, a, b)
    assert ours(function(this.a, this.b), TYPES, {"a": a, "b": b}) == expected
    if b is not None:
        assert ours(function(this.a, b), TYPES, {"a": a, "b": b}) == expected
    if a is not None:
        assert ours(function(a, this.b), TYPES, {"a": a, "b": b}) == expected


@given(a=ints | st.none(), b=st.integers(-3, 70) | st.sampled_from([None, MAX, MAX - 1]))
@example(a=-2, b=63)
@example(a=2, b=63)
@example(a=-2097152, b=3)
@example(a=2097152, b=3)
@examples(75)
def test_powers_of_ints(a: int | None, b: int | None) -> None:
    def power(x: int, y: int) -> int:
        if y < 0 or (abs(x) > 1 and y > 63):
            raise ZeroDivisionError
        return x ** (64 + y % 2 if y > 64 else y)

    assert ours(this.a**this.b, TYPES, {"a": a, "b": b}) == outcome(power, a, b)


@given(a=ints | st.none())
@examples(30)
def test_one_int(a: int | None) -> None:
    row = {"a": a, "b": None}
    assert ours(-this.a, TYPES, row) == outcome(operator.neg, a)
    assert ours(this.a.num.abs(), TYPES, row) == outcome(abs, a)
    assert ours(~this.a, TYPES, row) == outcome(operator.invert, a)
    assert ours(this.a.num.round(-2), TYPES, row) == outcome(lambda x: round(x, -2), a)


@pytest.mark.parametrize("symbol", ["+", "-", "*", "/", "//", "%"])
@given(a=floats, b=floats | ints)
@examples(40)
def test_floats_are_as_in_python(symbol: str, a: float, b: float) -> None:
    function = {**OPERATORS, "/": operator.truediv}[symbol]
    types = {"a": float, "b": int if isinstance(b, int) else float}
    expected = outcome(function, a, float(b))
    for expression in (function(this.a, this.b), function(this.a, b), function(a, this.b)):
        found = ours(expression, types, {"a": a, "b": b})
        assert found == expected or (math.isnan(found) and math.isnan(expected))


numbers = st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(1e-3, 1e3), st.integers(-(10**6), 10**6)), min_size=2)


@given(rows=numbers, cuts=st.lists(st.integers(0, 20)))
@examples(30)
def test_results_do_not_tell_how_rows_were_batched(rows: list[tuple[float, float, int]], cuts: list[int]) -> None:
    over = table(a=float, b=float, i=int)
    below = over.select(this.a, this.b, this.i, k=3.7)
    result = below.select(
        p=this.a / 3.7,
        q=pl.col("a") / 3.7,
        r=this.a / this.k,
        s=pl.col("i") / pl.col("k"),
        t=this.i % this.b,
        u=(pl.col("a") / 1e3).exp(),
        v=pl.col("b") ** 0.3 / 7,
        w=this.b**this.k,
    )
    whole = step(result, Delta(frame(over, rows))).rows
    bounds = sorted({0, len(rows), *(min(cut, len(rows)) for cut in cuts)})
    pieces = [frame(over, rows[low:high]) for low, high in itertools.pairwise(bounds)]
    apart = [step(result, Delta(piece)).rows for piece in pieces]
    in_chunks = step(result, Delta(pl.concat(pieces, rechunk=False))).rows
    assert repr(pl.concat(apart).rows()) == repr(whole.rows()) == repr(in_chunks.rows())


@pytest.mark.parametrize(
    "function", [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge], ids=lambda f: f.__name__
)
@given(a=floats | st.none(), b=floats | st.none())
@examples(40)
def test_comparisons_of_floats_are_ieee(function: Callable[[Any, Any], Any], a: float | None, b: float | None) -> None:
    types = {"a": float | None, "b": float | None}
    expected = None if a is None or b is None else function(a, b)
    assert value_of(function(this.a, this.b), types, {"a": a, "b": b}) is expected
    if b is not None:
        assert value_of(function(this.a, b), types, {"a": a, "b": b}) is expected
    if a is not None and b is not None:
        assert value_of(function(this.a, this.b), {"a": float, "b": float}, {"a": a, "b": b}) is expected


@given(a=ints | st.none(), b=ints | st.none())
@examples(20)
def test_comparisons_with_none_are_none(a: int | None, b: int | None) -> None:
    for function in (operator.eq, operator.ne, operator.lt, operator.ge):
        assert value_of(function(this.a, this.b), TYPES, {"a": a, "b": b}) is outcome(function, a, b)


@given(a=st.sampled_from([True, False, None]), b=st.sampled_from([True, False, None]))
@examples(20)
def test_false_decides_and_true_decides_or(a: bool | None, b: bool | None) -> None:
    types, row = {"a": bool | None, "b": bool | None}, {"a": a, "b": b}
    conjunction = False if False in (a, b) else None if None in (a, b) else True
    disjunction = True if True in (a, b) else None if None in (a, b) else False
    assert value_of(this.a & this.b, types, row) is conjunction
    assert value_of(this.a | this.b, types, row) is disjunction
    assert value_of(this.a ^ this.b, types, row) is (None if None in (a, b) else a != b)
    assert value_of(~this.a, types, row) is (None if a is None else not a)


durations = st.timedeltas(datetime.timedelta(-(10**5)), datetime.timedelta(10**5))
moments = st.datetimes(datetime.datetime(1800, 1, 1), datetime.datetime(2200, 1, 1))


@given(t=moments, u=moments, d=durations, e=durations, n=st.integers(-50, 50))
@examples(30)
def test_dates_and_durations(
    t: datetime.datetime, u: datetime.datetime, d: datetime.timedelta, e: datetime.timedelta, n: int
) -> None:
    types = {"t": datetime.datetime, "u": datetime.datetime, "d": datetime.timedelta, "e": datetime.timedelta, "n": int}
    row = {"t": t, "u": u, "d": d, "e": e, "n": n}
    for expression, expected in [
        (this.t + this.d, t + d),
        (this.d + this.t, t + d),
        (this.t - this.d, t - d),
        (this.t - this.u, t - u),
        (this.d + this.e, d + e),
        (this.d - this.e, d - e),
        (this.d * this.n, d * n),
        (this.n * this.d, d * n),
        (-this.d, -d),
        (abs(this.d), abs(d)),
        (this.t < this.u, t < u),
        (this.t + datetime.timedelta(seconds=1), t + datetime.timedelta(seconds=1)),
    ]:
        assert value_of(expression, types, row) == expected
    if n and e:
        assert value_of(this.d // this.n, types, row) == d // n
        assert value_of(this.d // this.e, types, row) == d // e
        assert value_of(this.d % this.e, types, row) == d % e
        assert value_of(this.d / this.e, types, row) == pytest.approx(d / e)
    else:
        assert ours((this.d // this.n) + (this.d % this.e), types, row) == "error"


def test_durations_overflow() -> None:
    with pytest.raises(RowError, match=r"this\.d \* this\.n"):
        value_of(this.d * this.n, {"d": datetime.timedelta, "n": int}, {"d": datetime.timedelta(10**6), "n": 10**9})


def test_division() -> None:
    types = {"a": int, "b": int, "f": float}
    row = {"a": -7, "b": 2, "f": 0.0}
    assert value_of(this.a / this.b, types, row) == -3.5
    assert value_of(this.a // 2.0, types, row) == -4.0
    assert value_of(this.a % 2.0, types, row) == 1.0
    for expression in (this.a / this.f, this.a // this.f, this.a % this.f, this.a / 0, this.a % 0, this.f / 0.0):
        with pytest.raises(RowError, match="division by zero"):
            value_of(expression, types, row)


def test_a_row_error_names_the_expression_and_the_row() -> None:
    over = table(a=int, b=int, other=str)
    with pytest.raises(RowError) as caught:
        rows_of(over.select(q=this.a + 100 // this.b), over, [(1, 2, "x"), (3, 0, "y"), (5, 0, "z")])
    assert str(caught.value) == "(100 // this.b): division by zero, in the row with b=0."


def test_text_is_joined_and_repeated() -> None:
    types = {"s": str, "n": int}
    assert value_of(this.s + "!", types, {"s": "é", "n": 2}) == "é!"
    assert value_of("<" + this.s, types, {"s": "é", "n": 2}) == "<é"
    assert value_of(this.s * this.n, types, {"s": "éa", "n": 3}) == "éaéaéa"
    assert value_of(2 * this.s, types, {"s": "éa", "n": -1}) == "éaéa"
    assert value_of(this.s * this.n, types, {"s": "éa", "n": -1}) == ""


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        (this.a + this.s, ["this.a", "this.s", "int", "str"]),
        (this.a + True, ["int", "bool"]),
        (this.s < this.a, ["str", "int"]),
        (this.a == None, ["is_none"]),  # noqa: E711
        (this.a + None, ["None for every row"]),
        (this.l < this.l, ["order"]),
        (-this.s, ["str"]),
        (this.a & this.b, ["int", "bool"]),
        (this.s - this.s, ["str"]),
        (this.a + 2**63, ["64 bits"]),
    ],
)
def test_types_that_do_not_fit_are_refused(expression: ColumnExpression, words: list[str]) -> None:
    with pytest.raises(GraphError) as caught:
        table(a=int, b=bool, s=str, l=list[int]).select(x=expression)
    assert all(word in str(caught.value) for word in words)


def test_what_python_would_misread_is_refused() -> None:
    with pytest.raises(Unsupported):
        this.a @ this.b
    with pytest.raises(GraphError, match="if_else"):
        bool(this.a > 1)
    with pytest.raises(GraphError, match="iterated"):
        list(this.a)
    with pytest.raises(GraphError, match="neither"):
        this.a + object()
