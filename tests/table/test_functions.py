"""Functions that choose and convert, and what is not computed because its branch is not taken."""

from __future__ import annotations

import datetime
import math
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncpersist.dtypes import DType, Json
from asyncpersist.errors import GraphError, RowError, Unsupported
from asyncpersist.table.functions import (
    cast,
    coalesce,
    declare_type,
    fill_error,
    if_else,
    is_none,
    is_not_none,
    make_tuple,
    require,
    unwrap,
)
from asyncpersist.table.this import this
from tests.examples import examples
from tests.table.pieces import rows_of, table, value_of

ROWS = [(6, 0), (6, 3), (None, 0), (6, None)]


def over() -> Any:
    return table(a=int | None, b=int | None)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (if_else(this.b != 0, this.a // this.b, 0), [0, 2, 0, 0]),
        (if_else(this.b == 0, -1, this.a // this.b), [-1, 2, -1, None]),
        (if_else((this.b == 0) | this.b.is_none(), -1.0, this.a / this.b), [-1.0, 2.0, -1.0, -1.0]),
        (coalesce(require(this.a, this.b) * 0 + this.b, this.a // 0), "error"),
        (coalesce(this.b, this.a // 0), "error"),
        (coalesce(this.a, this.b, 100 // (this.b - this.b + 1)), [6, 6, 0, 6]),
        (coalesce(this.a * 0, 1 // (this.b - 0)), "error"),
        (coalesce(this.a, 7), [6, 6, 7, 6]),
        (require(100 // (this.a - 5), this.a, this.b), [100, 100, None, None]),
        (require(100 // this.b, this.a), "error"),
        (require(unwrap(this.b), this.b), [0, 3, 0, None]),
        (is_none(this.a), [False, False, True, False]),
        (is_not_none(this.b), [True, True, True, False]),
        (if_else(this.a.is_none(), None, this.a + 1), [7, 7, None, 7]),
        (if_else(this.b > 1, this.a, 0.5), [0.5, 6.0, 0.5, 0.5]),
        (unwrap(this.a), "error"),
        (unwrap(coalesce(this.a, 1)), [6, 6, 1, 6]),
    ],
)
def test_only_the_branch_taken_can_fail(expression: Any, expected: Any) -> None:
    t = over()
    if expected == "error":
        with pytest.raises(RowError):
            rows_of(t.select(x=expression), t, ROWS)
    else:
        assert [value for (value,) in rows_of(t.select(x=expression), t, ROWS)] == expected


def test_guards_nest() -> None:
    t = table(a=int, b=int, c=int)
    inner = if_else(this.c > 0, this.a // (this.b - 1), this.a // this.b)
    expression = if_else(this.b == 0, 0, inner)
    assert rows_of(t.select(x=expression), t, [(4, 0, 1), (4, 1, 0), (4, 2, 1), (4, 0, 0)]) == [(0,), (4,), (4,), (0,)]
    with pytest.raises(RowError, match="b=1"):
        rows_of(t.select(x=expression), t, [(4, 2, 1), (4, 1, 1)])


def test_types_of_results() -> None:
    t = table(a=int, b=int | None, f=float)
    types = t.select(
        p=coalesce(this.b, this.a),
        q=coalesce(this.b, None, this.b),
        r=if_else(this.a > 0, this.a, this.f),
        s=require(this.a, this.b),
        u=unwrap(this.b),
        v=make_tuple(this.a, this.b),
        w=declare_type(int | None, None),
        x=this.a + this.b,
        y=this.a == this.b,
        z=this.a / this.a,
    ).columns
    assert {name: str(dtype) for name, dtype in types.items()} == {
        "p": "int",
        "q": "int?",
        "r": "float",
        "s": "int?",
        "u": "int",
        "v": "tuple[int, int?]",
        "w": "int?",
        "x": "int?",
        "y": "bool?",
        "z": "float",
    }


@given(value=st.floats() | st.sampled_from([2.0**63, -(2.0**63), 9.2e18, -0.5]))
@examples(30)
def test_a_float_becomes_an_int(value: float) -> None:
    try:
        expected: Any = int(value)
    except (ValueError, OverflowError):
        expected = None
    types, row = {"f": float}, {"f": value}
    if expected is not None and -(2**63) <= expected < 2**63:
        assert value_of(cast(int, this.f), types, row) == expected
    else:
        with pytest.raises(RowError):
            value_of(cast(int, this.f), types, row)


@pytest.mark.parametrize(
    ("target", "annotation", "value", "expected"),
    [
        (float, int, 3, 3.0),
        (str, int, -3, "-3"),
        (bool, int, 3, True),
        (bool, float, 0.0, False),
        (int, bool, True, 1),
        (str, bool, True, "True"),
        (str, float, 1.5, "1.5"),
        (str, float, math.nan, "nan"),
        (int, str, " 12 ", 12),
        (float, str, "1e3", 1000.0),
        (int, int | None, None, None),
        (int, str | None, None, None),
        (str, str, "x", "x"),
    ],
)
def test_cast(target: Any, annotation: Any, value: Any, expected: Any) -> None:
    assert value_of(cast(target, this.a), {"a": annotation}, {"a": value}) == expected


@pytest.mark.parametrize("text", ["", "x", "1.5", "9223372036854775808"])
def test_text_that_spells_no_int(text: str) -> None:
    types, row = {"a": str}, {"a": text}
    for expression in (cast(int, this.a), this.a.str.parse_int()):
        with pytest.raises(RowError, match="spells no int"):
            value_of(expression, types, row)
    assert value_of(this.a.str.parse_int(optional=True), types, row) is None


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (int, 5, "5"),
        (int | None, None, "None"),
        (bool, False, "False"),
        (datetime.datetime, datetime.datetime(2024, 3, 31, 1, 2, 3, 4), "2024-03-31T01:02:03.000004000"),
        (str, "é", "é"),
    ],
)
def test_to_string(annotation: Any, value: Any, expected: str) -> None:
    assert value_of(this.a.to_string(), {"a": annotation}, {"a": value}) == expected


def test_items_of_lists_and_tuples() -> None:
    t = table(l=list[int], i=int)
    rows = [([1, 2], 1), ([3], -1), ([], 0)]
    chosen = t.select(x=this.l.get(this.i), y=this.l.get(0, -5))
    assert rows_of(chosen, t, rows) == [(2, 1), (3, 3), (None, -5)]
    assert str(chosen.columns["x"]) == "int?"
    assert str(chosen.columns["y"]) == "int"
    with pytest.raises(RowError, match="no such item"):
        rows_of(t.select(x=this.l[this.i]), t, rows)
    pair = make_tuple(this.i, this.l)
    assert rows_of(t.select(x=pair[0], y=pair[-1], z=pair.get(7, "none")), t, rows[:1]) == [(1, [1, 2], "none")]
    for wrong in (pair[2], pair[this.i], this.i[0]):
        with pytest.raises(GraphError):
            t.select(x=wrong)


def test_json() -> None:
    text = '{"a":{"b":[1,2.5,"x",null,true]},"n":null,"big":9223372036854775808}'
    types, row = {"j": Json, "k": Json | None}, {"j": text, "k": None}
    items = this.j["a"]["b"]
    for expression, expected in [
        (items[0].as_int(), 1),
        (items[0].as_float(), 1.0),
        (items[1].as_float(), 2.5),
        (items[2].as_str(), "x"),
        (items[3].as_str(), None),
        (items[3].as_int(default=7), 7),
        (items[4].as_bool(unwrap=True), True),
        (items[-1].as_bool(), True),
        (this.j.get("nope"), None),
        (this.j.get("nope", {"z": 1}), '{"z":1}'),
        (this.j["n"].as_int(), None),
        (this.k.get("a"), None),
        (this.k["a"], None),
        (this.j["a"].to_string(), '{"b":[1,2.5,"x",null,true]}'),
    ]:
        assert value_of(expression, types, row) == expected
    for wrong in (this.j["nope"], items[9], items[2].as_int(), this.j["big"].as_int(), items[3].as_int(unwrap=True)):
        with pytest.raises(RowError):
            value_of(wrong, types, row)
    with pytest.raises(GraphError, match="plain"):
        table(**types).select(x=this.j[this.j])


@pytest.mark.parametrize(
    "expression",
    [
        None,
        if_else(this.a, 1, 2),
        if_else(this.a > 1, 1, "x"),
        coalesce(this.a, "x"),
        cast(bytes, this.a),
        declare_type(str, this.a),
        unwrap(None),
        make_tuple(this.a, None),
        [],
        [1, "x"],
    ],
)
def test_what_has_no_type_is_refused(expression: Any) -> None:
    with pytest.raises(GraphError):
        over().select(x=expression)


def test_declare_type() -> None:
    types = {"a": int | None}
    assert value_of(declare_type(int, this.a), types, {"a": 1}) == 1
    with pytest.raises(RowError, match="None"):
        value_of(declare_type(int, this.a), types, {"a": None})


def test_not_built() -> None:
    with pytest.raises(Unsupported):
        fill_error(this.a, 0)


@pytest.mark.parametrize(
    "value",
    [
        True,
        1,
        1.5,
        "x",
        b"x",
        datetime.datetime(2020, 1, 1),
        datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
        datetime.timedelta(1),
        [1, 2],
        [[1], None],
    ],
)
def test_constants(value: Any) -> None:
    t = table(a=int)
    assert rows_of(t.select(x=value), t, [(1,), (2,)]) == [(value,)] * 2
    assert rows_of(t.select(x=value), t, []) == []


def test_a_tuple_and_a_dict_are_constants_too() -> None:
    t = table(a=int)
    made = t.select(p=(1, "x"), q={"z": [1]})
    assert made.columns["p"] == DType("tuple", args=(DType("int"), DType("str")))
    assert rows_of(made, t, [(1,)]) == [({"f0": 1, "f1": "x"}, '{"z":[1]}')]


def test_polars_expressions_mix_with_ours() -> None:
    t = table(a=int, s=str)
    mixed = t.select(x=this.a + pl.col("a") * 2, y=pl.col("s").str.to_uppercase(), z=if_else(pl.col("a") > 1, "p", "q"))
    assert rows_of(mixed, t, [(1, "u"), (2, "v")]) == [(3, "U", "q"), (6, "V", "p")]


def test_an_error_within_polars_is_an_error_of_the_row() -> None:
    t = table(s=str)
    with pytest.raises(RowError, match='col\\("s"\\)'):
        rows_of(t.select(x=pl.col("s").cast(pl.Int64)), t, [("x",)])
