"""Consolidation against a recomputation with a Counter."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from asyncpersist.columnar.consolidate import consolidate, consolidate_if_smaller
from asyncpersist.columnar.delta import ID, Delta
from asyncpersist.columnar.hashing import row_ids

SCHEMA = {
    "s": pl.String(),
    "f": pl.Float64(),
    "l": pl.List(pl.Float64()),
    "t": pl.Struct({"f0": pl.Int64(), "f1": pl.List(pl.String())}),
}

floats = st.sampled_from([None, math.nan, 0.0, -0.0, 1.0])
rows = st.fixed_dictionaries(
    {
        "s": st.sampled_from([None, "", "a"]),
        "f": floats,
        "l": st.one_of(st.none(), st.lists(floats, max_size=2)),
        "t": st.one_of(
            st.none(),
            st.fixed_dictionaries({"f0": st.sampled_from([None, 1]), "f1": st.sampled_from([None, [], [None], ["x"]])}),
        ),
    }
)
weights = st.integers(-3, 3).filter(bool)


def canonical(value: Any) -> Any:
    if isinstance(value, float):
        return "nan" if math.isnan(value) else value + 0.0
    if isinstance(value, dict):
        return tuple((key, canonical(inner)) for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(map(canonical, value))
    return value


def summed(delta: Delta) -> Counter[Any]:
    """What the delta changes, row by row, without what cancels out."""
    total: Counter[Any] = Counter()
    frame = delta.weighted()
    for *row, weight in frame.rows():
        total[canonical(row)] += weight
    return Counter({row: weight for row, weight in total.items() if weight})


def delta_of(items: list[tuple[dict[str, Any], int]]) -> Delta:
    frame = pl.DataFrame([row for row, _ in items], schema=SCHEMA)
    return Delta(frame, np.array([weight for _, weight in items], np.int64))


@given(st.lists(st.tuples(rows, weights), max_size=30))
def test_equal_rows_are_merged_and_nothing_else_changes(items: list[tuple[dict[str, Any], int]]) -> None:
    delta = delta_of(items)
    result = consolidate(delta)
    assert result.consolidated
    assert result.rows.schema == delta.rows.schema
    assert summed(result) == summed(delta)
    assert result.height == len(summed(delta))


@given(st.lists(rows, max_size=30))
def test_rows_without_weights_count_as_one_each(items: list[dict[str, Any]]) -> None:
    result = consolidate(Delta(pl.DataFrame(items, schema=SCHEMA)))
    assert summed(result) == summed(delta_of([(item, 1) for item in items]))
    assert result.height == len(summed(result))


def test_ids_keep_equal_rows_apart() -> None:
    frame = pl.DataFrame({"w": ["a", "a"]})
    with_ids = frame.with_columns(row_ids("source", "file", 0, 2))
    assert consolidate(Delta(frame)).height == 1
    assert consolidate(Delta(with_ids)).height == 2
    twice = pl.concat([with_ids, with_ids])
    assert consolidate(Delta(twice, np.array([1, 1, -1, 1]))).rows[ID].to_list() == [with_ids[ID][1]]


def test_a_consolidated_delta_is_returned_as_it_is() -> None:
    delta = Delta(pl.DataFrame({"w": ["a", "b"]}), consolidated=True)
    assert consolidate(delta) is delta
    assert consolidate_if_smaller(delta) is delta


def test_rows_without_columns_are_one_row() -> None:
    frame = pl.DataFrame(height=5)
    assert consolidate(Delta(frame)).weighted().rows() == [(5,)]
    assert consolidate(Delta(frame, np.array([1, -1, 2, 1, -3]))).height == 0
    assert consolidate_if_smaller(Delta(frame)).height == 1


def test_small_deltas() -> None:
    frame = pl.DataFrame({"w": ["a"]})
    assert consolidate(Delta(frame.clear())).height == 0
    assert consolidate(Delta(frame, np.array([-2]))).weighted().rows() == [("a", -2)]


def words(distinct: int, height: int) -> pl.DataFrame:
    """Draws with a fixed linear congruence, spread over the frame."""
    numbers = np.arange(height, dtype=np.int64) * 48271 % 2147483647 * 16807 % 2147483647 % distinct
    return pl.DataFrame({"w": pl.Series(numbers).cast(pl.String)})


def test_what_repeats_is_consolidated() -> None:
    for distinct in (1, 100, 10_000):
        delta = Delta(words(distinct, 50_000))
        result = consolidate_if_smaller(delta)
        assert result.consolidated
        assert result.height == delta.rows.n_unique()
        assert summed(result).total() == 50_000


def test_what_hardly_repeats_is_left_alone() -> None:
    for distinct in (100_000, 1_000_000_000):
        delta = Delta(words(distinct, 50_000))
        assert consolidate_if_smaller(delta) is delta


def test_few_rows_are_judged_by_what_they_are() -> None:
    delta = Delta(pl.DataFrame({"w": ["a", "b", "a"]}))
    assert consolidate_if_smaller(delta) is delta
    assert consolidate_if_smaller(Delta(pl.DataFrame({"w": ["a", "a"]}))).height == 1


def test_rows_with_ids_are_left_alone() -> None:
    delta = Delta(words(1, 1000).with_columns(row_ids("source", "file", 0, 1000)))
    assert consolidate_if_smaller(delta) is delta
