"""Values of Python in columns and back: what goes in comes out, and what does not fit is named."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncpersist.columnar.python_values import Misfit, column_of, fitted, values_of
from asyncpersist.dtypes import DType, Json, Pointer
from tests.examples import examples

ZONE = datetime.timezone(datetime.timedelta(hours=2))
INTS = st.integers(-(1 << 63), (1 << 63) - 1)
FLOATS = st.floats(allow_nan=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
PAIRS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, INTS),
    (float, FLOATS),
    (bool, st.booleans()),
    (str, TEXT),
    (bytes, st.binary(max_size=8)),
    (datetime.datetime, st.datetimes()),
    (datetime.timedelta, st.timedeltas(datetime.timedelta(-(10**5)), datetime.timedelta(10**5))),
    (list[int], st.lists(INTS, max_size=3)),
    (list[list[str]], st.lists(st.lists(TEXT, max_size=2), max_size=2)),
    (list[int | None], st.lists(st.none() | INTS, max_size=3)),
    (tuple[int, str], st.tuples(INTS, TEXT)),
    (tuple[int, list[bool]], st.tuples(INTS, st.lists(st.booleans(), max_size=2))),
    (Json, st.recursive(INTS | TEXT | st.booleans(), lambda item: st.lists(item, max_size=2))),
    (Pointer, st.integers(0, (1 << 128) - 1)),
]


@pytest.mark.parametrize(("annotation", "values"), PAIRS, ids=[str(pair[0]) for pair in PAIRS])
@examples(30)
@given(data=st.data())
def test_what_goes_in_comes_out(annotation: Any, values: st.SearchStrategy[Any], data: st.DataObject) -> None:
    dtype = DType.of(annotation)
    given_values = data.draw(st.lists(values, max_size=6))
    column = column_of("c", dtype, given_values)
    assert (column.name, column.dtype) == ("c", dtype.polars)
    assert values_of(column, dtype) == given_values
    assert fitted(column, dtype).to_list() == column.to_list() or dtype.kind == "json"
    optional = [*given_values, None]
    assert values_of(column_of("c", dtype.as_optional(), optional), dtype.as_optional()) == optional
    with pytest.raises(Misfit, match="got None") as caught:
        column_of(
            "c", dtype if dtype.kind != "json" else DType("int"), [*([] if dtype.kind == "json" else optional), None]
        )
    assert caught.value.index == (0 if dtype.kind == "json" else len(given_values))


@pytest.mark.parametrize(
    ("annotation", "value", "becomes"),
    [
        (int, np.int32(3), 3),
        (float, 3, 3.0),
        (float, np.float32(1.5), 1.5),
        (float, np.int64(2), 2.0),
        (bool, np.bool_(True), True),
        (bytes, bytearray(b"ab"), b"ab"),
        (datetime.datetime, datetime.datetime(2020, 1, 2, fold=1), datetime.datetime(2020, 1, 2)),
        (list[int], (1, 2), [1, 2]),
        (list[float], np.array([1.0, 2.0]), [1.0, 2.0]),
        (tuple[int, float], [1, 2], (1, 2.0)),
        (Json, {"a": [1, None]}, {"a": [1, None]}),
        (Json, None, None),
    ],
)
def test_what_else_fits(annotation: Any, value: Any, becomes: Any) -> None:
    dtype = DType.of(annotation)
    (found,) = values_of(column_of("c", dtype, [value]), dtype)
    assert found == becomes
    assert type(found) is type(becomes)


def test_a_time_with_a_zone_becomes_utc() -> None:
    dtype = DType("utc_datetime")
    (found,) = values_of(column_of("c", dtype, [datetime.datetime(2020, 1, 1, 2, tzinfo=ZONE)]), dtype)
    assert found == datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    assert found.utcoffset() == datetime.timedelta(0)


@pytest.mark.parametrize("array", [np.zeros((0, 3)), np.arange(6).reshape(2, 3), np.float32(1.5) * np.ones(2)])
def test_arrays_keep_their_shape(array: Any) -> None:
    dtype = DType("array")
    (found,) = values_of(column_of("c", dtype, [array]), dtype)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, array)
    assert found.shape == array.shape


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (int, True, "expected int, got True"),
        (int, 1.0, "expected int, got 1.0"),
        (int, "1", "got '1'"),
        (int, -(1 << 63) - 1, "does not fit 64 bits"),
        (float, False, "expected float, got False"),
        (float, "1.5", "got '1.5'"),
        (float, 10**400, "an int that is too large"),
        (bool, 1, "expected bool, got 1"),
        (str, b"a", "expected str, got b'a'"),
        (str, "\ud800", "surrogate"),
        (bytes, "a", "expected bytes, got 'a'"),
        (datetime.datetime, datetime.date(2020, 1, 1), "expected naive_datetime"),
        (datetime.datetime, datetime.datetime(2020, 1, 1, tzinfo=ZONE), "without a zone"),
        (datetime.timedelta, 5, "expected duration, got 5"),
        (list[int], "ab", r"expected list\[int\], got 'ab'"),
        (list[int], [1, True], "expected int, got True"),
        (list[int], [1, None], "expected int, got None"),
        (tuple[int, int], (1,), r"expected tuple\[int, int\], got \(1,\)"),
        (Json, {1, 2}, "what JSON cannot hold"),
        (Json, float("nan"), "expected json"),
        (np.ndarray, [["a"]], "expected array"),
        (np.ndarray, [[1], [1, 2]], "expected array"),
        (Pointer, -1, "expected pointer"),
    ],
)
def test_what_does_not_fit(annotation: Any, value: Any, message: str) -> None:
    dtype = DType.of(annotation)
    good = {"int": 1, "float": 1.0, "bool": True, "str": "a", "bytes": b"a", "json": 1, "pointer": 1}.get(dtype.kind)
    with pytest.raises(Misfit, match=message) as caught:
        column_of("c", dtype, [value] if good is None else [good, good, value])
    assert caught.value.index == (0 if good is None else 2)


def test_a_time_without_a_zone_is_no_utc() -> None:
    with pytest.raises(Misfit, match="with a zone"):
        column_of("c", DType("utc_datetime"), [datetime.datetime(2020, 1, 1)])


@pytest.mark.parametrize(
    ("column", "annotation", "becomes"),
    [
        (pl.Series([1, 2], dtype=pl.UInt8), int, [1, 2]),
        (pl.Series([1, None], dtype=pl.Int32), int | None, [1, None]),
        (pl.Series([1.5], dtype=pl.Float32), float, [1.5]),
        (pl.Series([1]), float, [1.0]),
        (pl.Series(["a", "b"], dtype=pl.Categorical()), str, ["a", "b"]),
        (pl.Series([None, None]), str | None, [None, None]),
        (pl.Series([datetime.datetime(2020, 1, 1)], dtype=pl.Datetime("ns")), datetime.datetime, None),
        (pl.Series([[1]], dtype=pl.List(pl.Int8)), list[int], [[1]]),
        (pl.Series([{"a": 1}]), Json, [{"a": 1}]),
        (pl.Series(["{}"]), Json, ["{}"]),
        (pl.Series([{"f0": 1, "f1": "a"}]), tuple[int, str], [(1, "a")]),
    ],
)
def test_columns_of_other_types_that_fit(column: pl.Series, annotation: Any, becomes: Any) -> None:
    dtype = DType.of(annotation)
    found = fitted(column, dtype)
    assert found.dtype == dtype.polars
    assert values_of(found, dtype) == (column.to_list() if becomes is None else becomes)


def test_a_column_in_another_zone_becomes_utc() -> None:
    column = pl.Series([datetime.datetime(2020, 1, 1)]).dt.replace_time_zone("Asia/Tokyo")
    found = fitted(column, DType("utc_datetime"))
    assert found.to_list() == [datetime.datetime(2019, 12, 31, 15, tzinfo=datetime.UTC)]


@pytest.mark.parametrize(
    ("column", "annotation", "message"),
    [
        (pl.Series([1.0]), int, "expected int, got 1.0"),
        (pl.Series([1, None]), int, "expected int, got None"),
        (pl.Series([None]), int, "expected int, got None"),
        (pl.Series([1, 1 << 63], dtype=pl.UInt64), int, "cannot be kept exactly"),
        (pl.Series([1], dtype=pl.Datetime("ns")), datetime.datetime, "cannot be kept exactly"),
        (pl.Series([True]), int, "expected int, got True"),
        (pl.Series([[1, None]]), list[int], "expected int, got None"),
    ],
)
def test_columns_that_do_not_fit(column: pl.Series, annotation: Any, message: str) -> None:
    with pytest.raises(Misfit, match=message):
        fitted(column, DType.of(annotation))


@pytest.mark.parametrize(
    ("values", "fits"),
    [([[1.0, 2.0], [], [3.0]], True), ([[1.0, None]], False), ([[], []], True), ([None, [1.0]], False)],
)
def test_columns_of_lists_fit_as_their_items_do(values: list[Any], fits: bool) -> None:
    column = pl.Series("c", values, dtype=pl.List(pl.Float64))
    dtype = DType.of(list[float])
    if fits:
        assert fitted(column, dtype).to_list() == values
    else:
        with pytest.raises(Misfit):
            fitted(column, dtype)
    assert fitted(column, DType.of(list[float | None] | None)).to_list() == values
