"""How values stand in output files: read back with the standard library they are what was written."""

from __future__ import annotations

import base64
import csv
import datetime
import io
import json
import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncpersist.columnar.delta import Delta
from asyncpersist.dtypes import DType
from asyncpersist.io.render import header, render

MICROSECOND = datetime.timedelta(microseconds=1)
NAIVE = datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31, 23, 59, 59, 999999)

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=5,
)

SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(),
    "bool": st.booleans(),
    "str": st.text(),
    "bytes": st.binary(),
    "naive_datetime": st.datetimes(*NAIVE),
    "utc_datetime": st.datetimes(*NAIVE, timezones=st.just(datetime.UTC)),
    "duration": st.integers(-(2**63), 2**63 - 1),
    "pointer": st.integers(0, 2**128 - 1),
    "json": JSON.map(lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))),
    "array": st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=3).map(
        lambda data: {"data": data, "shape": [len(data)]}
    ),
}


def values_of(dtype: DType) -> st.SearchStrategy[Any]:
    if dtype.kind == "list":
        present: st.SearchStrategy[Any] = st.lists(values_of(dtype.args[0]), max_size=3)
    elif dtype.kind == "tuple":
        present = st.fixed_dictionaries({f"f{i}": values_of(arg) for i, arg in enumerate(dtype.args)})
    else:
        present = SCALARS[dtype.kind]
    return st.one_of(st.none(), present)


def optional(kind: str, *args: DType) -> DType:
    return DType(kind, True, args)


DTYPES = [
    *map(optional, SCALARS),
    optional("list", optional("float")),
    optional("list", optional("utc_datetime")),
    optional("list", optional("list", optional("pointer"))),
    optional("list", optional("json")),
    optional("list", optional("tuple", optional("bytes"), optional("str"))),
    optional("tuple", optional("int"), optional("json"), optional("list", optional("bool"))),
    optional("tuple", optional("duration"), optional("array"), optional("naive_datetime")),
]


def as_json(value: Any, dtype: DType) -> Any:
    """What a JSON reader is to find."""
    if value is None:
        return None
    match dtype.kind:
        case "float":
            return value if math.isfinite(value) else None
        case "bytes":
            return base64.b64encode(value).decode()
        case "naive_datetime" | "utc_datetime":
            return value.isoformat(timespec="microseconds")
        case "duration":
            return value * 1000
        case "pointer":
            return f"^{value:032X}"
        case "json":
            return json.loads(value)
        case "array":
            return {"shape": value["shape"], "elements": value["data"]}
        case "list":
            return [as_json(item, dtype.args[0]) for item in value]
        case "tuple":
            return [as_json(value[f"f{i}"], arg) for i, arg in enumerate(dtype.args)]
    return value


def as_csv(value: Any, dtype: DType) -> Any:
    """What a CSV field is to say, read with `READ`."""
    if value is None:
        return None
    if dtype.kind == "float":
        return "nan" if math.isnan(value) else value
    return as_json(value, dtype)


READ: dict[str, Callable[[str], Any]] = {
    "int": int,
    "float": lambda field: "nan" if math.isnan(float(field)) else float(field),
    "bool": {"true": True, "false": False}.__getitem__,
    "duration": int,
    "list": json.loads,
    "tuple": json.loads,
    "array": json.loads,
    "json": json.loads,
}


def frame_of(values: list[Any], dtype: DType) -> pl.DataFrame:
    if dtype.kind == "duration":
        return pl.DataFrame({"x": pl.Series(values, dtype=pl.Int64).cast(pl.Duration("us"))})
    return pl.DataFrame({"x": pl.Series(values, dtype=dtype.polars)})


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(data=st.data())
def test_json_lines_read_back(dtype: DType, data: st.DataObject) -> None:
    values = data.draw(st.lists(values_of(dtype), max_size=6))
    lines = render("jsonlines", {"x": dtype}, 8, Delta(frame_of(values, dtype))).decode().split("\n")
    assert lines.pop() == ""
    assert [json.loads(line) for line in lines] == [
        {"x": as_json(value, dtype), "time": 8, "diff": 1} for value in values
    ]
    assert all(list(json.loads(line)) == ["x", "time", "diff"] for line in lines)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(data=st.data())
def test_csv_reads_back(dtype: DType, data: st.DataObject) -> None:
    values = data.draw(st.lists(values_of(dtype), max_size=6))
    text = (header("csv", {"x": dtype}) + render("csv", {"x": dtype}, 8, Delta(frame_of(values, dtype)))).decode()
    read = READ.get(dtype.kind, str)
    names, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    assert names == ["x", "time", "diff"]
    assert [row[1:] for row in rows] == [["8", "1"]] * len(values)
    found = [read(field) if field or dtype.kind in ("str", "bytes") else None for field, _, _ in rows]
    # The csv module cannot tell an empty string from None; the next test does.
    missing = "" if dtype.kind in ("str", "bytes") else None
    assert found == [missing if value is None else as_csv(value, dtype) for value in values]


def test_none_and_the_empty_string_differ_in_csv() -> None:
    rows = Delta(pl.DataFrame({"a": [None, "", 'a,"b"\r\n'], "b": [1, 2, 3]}))
    columns = {"a": optional("str"), "b": optional("int")}
    assert render("csv", columns, 2, rows) == b',1,2,1\n"",2,2,1\n"a,""b""\r\n",3,2,1\n'


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("float", [0.1, 1.0, 1e300, math.nan, -math.inf, -0.0], "0.1 1.0 1e+300 NaN -inf -0.0"),
        ("bool", [True, False], "true false"),
        ("naive_datetime", [datetime.datetime(2026, 1, 31, 23, 59)], "2026-01-31T23:59:00.000000"),
        (
            "utc_datetime",
            [datetime.datetime(2026, 1, 31, 23, 59, tzinfo=datetime.UTC)],
            "2026-01-31T23:59:00.000000+00:00",
        ),
        ("duration", [datetime.timedelta(days=1, microseconds=3) // MICROSECOND], "86400000003000"),
        ("bytes", [b"\xff\x00"], "/wA="),
        ("pointer", [2**127 + 171], "^800000000000000000000000000000AB"),
    ],
)
def test_values_in_csv(kind: str, values: list[Any], expected: str) -> None:
    dtype = DType(kind)
    text = render("csv", {"x": dtype}, 2, Delta(frame_of(values, dtype))).decode()
    assert [line.removesuffix(",2,1") for line in text.splitlines()] == expected.split()


@pytest.mark.parametrize("format", ["csv", "jsonlines"])
def test_columns_stand_in_their_order_and_others_do_not(format: Literal["csv", "jsonlines"]) -> None:
    rows = pl.DataFrame({"z": [1], "other": [2], 'a "b", c': [3]})
    columns = {'a "b", c': DType("int"), "z": DType("int")}
    text = (header(format, columns) + render(format, columns, 2, Delta(rows))).decode()
    if format == "csv":
        assert list(csv.reader(text.splitlines())) == [['a "b", c', "z", "time", "diff"], ["3", "1", "2", "1"]]
    else:
        assert list(json.loads(text).items()) == [('a "b", c', 3), ("z", 1), ("time", 2), ("diff", 1)]


def test_names_are_quoted_beside_json_columns() -> None:
    columns = {'a "b"': DType("int"), "j": DType("json")}
    text = render("jsonlines", columns, 2, Delta(pl.DataFrame({'a "b"': [3], "j": ['{"x":1}']})))
    assert json.loads(text) == {'a "b"': 3, "j": {"x": 1}, "time": 2, "diff": 1}


@given(st.lists(st.integers(-3, 3).filter(bool), max_size=20))
def test_lines_sum_up_to_the_delta_with_retractions_first(weights: list[int]) -> None:
    delta = Delta(pl.DataFrame({"x": range(len(weights))}, schema={"x": pl.Int64}), np.array(weights, np.int64))
    lines = render("csv", {"x": DType("int")}, 2, delta).decode().splitlines()
    rows = [(int(x), int(diff)) for x, _, diff in (line.split(",") for line in lines)]
    assert [diff for _, diff in rows] == sorted(diff for _, diff in rows)
    assert [sum(diff for x, diff in rows if x == i) for i in range(len(weights))] == weights
    assert len(rows) == sum(map(abs, weights))
