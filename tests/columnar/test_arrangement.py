"""Arrangements against a plain dict; gathers that own their memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncpersist.columnar.arrangement import Arrangement
from asyncpersist.columnar.members import Members
from asyncpersist.columnar.rows import RowStore, own_copy
from asyncpersist.columnar.slot_values import slot_values
from tests.examples import examples

SCHEMA = {"a": pl.String(), "b": pl.Int64()}
keys = st.tuples(st.sampled_from([None, "", "x", "a string of some length"]), st.sampled_from([None, 0, 1, 2**62]))
steps = st.lists(st.dictionaries(keys, st.integers(-2, 3), min_size=1), max_size=8)


def frame(rows: Any) -> pl.DataFrame:
    return pl.DataFrame([*rows], schema=SCHEMA, orient="row")


def claim(arrangement: Arrangement, rows: pl.DataFrame) -> np.ndarray:
    hashes = arrangement.hashes(rows)
    order = np.argsort(hashes)
    slots = np.empty(rows.height, np.int64)
    slots[order] = arrangement.claim(rows[order], hashes[order])
    return slots


@examples(50)
@given(steps, st.sampled_from([2, 4, 64]), st.integers(0, 255), st.integers(0, 255))
def test_against_a_dict(changes: list[dict[Any, int]], hash_bits: int, captures: int, compactions: int) -> None:
    arrangement = Arrangement(SCHEMA, hash_bits=hash_bits)
    weights: dict[Any, int] = {}
    saved: dict[Any, int] = {}
    touched: set[Any] = set()
    for number, wanted in enumerate(changes):
        change = {key: max(weight, -weights.get(key, 0)) for key, weight in wanted.items()}
        for key, weight in change.items():
            weights[key] = weights.get(key, 0) + weight
        touched |= set(change)
        rows = frame(change)
        slots = claim(arrangement, rows)
        assert len(set(slots.tolist())) == len(slots)
        arrangement.add(slots, np.array(list(change.values()), np.int64))
        if captures >> number & 1:
            taken, complete = arrangement.take_touched()
            given_out = dict(
                zip(arrangement.rows.gather(taken).rows(), arrangement.weights[taken].tolist(), strict=True)
            )
            if complete:
                assert given_out == {key: weight for key, weight in weights.items() if weight}
                saved = {}
            else:
                assert given_out == {key: weights[key] for key in touched if weights[key] or saved.get(key)}
            saved.update(given_out)
            touched.clear()
        if compactions >> number & 1:
            removed = arrangement.removable()
            assert arrangement.weights[removed].sum() == 0
            arrangement.compact(removed)
        live = {key: weight for key, weight in weights.items() if weight}
        assert arrangement.live == len(live)
        asked = frame([*live, ("absent", 7)])
        found = arrangement.find(asked)
        assert found[-1] == -1
        assert dict(zip(live, arrangement.weights[found[:-1]].tolist(), strict=True)) == live
        assert arrangement.rows.gather(found[:-1]).equals(asked[:-1])


def test_many_batches_find_all_they_put_in() -> None:
    arrangement = Arrangement({"b": pl.Int64()})
    random = np.random.default_rng(7)
    seen: dict[int, int] = {}
    for _ in range(60):
        numbers = np.unique(random.integers(0, 20_000, 500))
        slots = claim(arrangement, pl.DataFrame({"b": numbers}))
        for number, slot in zip(numbers.tolist(), slots.tolist(), strict=True):
            assert seen.setdefault(number, slot) == slot
    assert len(arrangement) == len(seen)
    assert arrangement.rows.gather(np.array(list(seen.values())))["b"].to_list() == list(seen)


def test_taking_back_what_is_not_there_is_refused() -> None:
    arrangement = Arrangement(SCHEMA)
    slots = claim(arrangement, frame([("x", 1)]))
    with pytest.raises(RuntimeError, match="not there"):
        arrangement.add(slots, np.array([-1]))


def test_rows_are_copied_out_of_their_batch() -> None:
    batch = pl.DataFrame({"a": [f"a string that is no view's own {i}" for i in range(10_000)]})
    few = batch[np.arange(0, 10_000, 1000)]
    copy = own_copy(few)
    assert copy.equals(few)
    assert copy.estimated_size() < 1000
    nested = few.select(pl.struct("a", n=pl.concat_list("a", "a")).alias("s"), pl.col("a").cast(pl.Binary).alias("b"))
    assert own_copy(nested).equals(nested)


def test_a_store_has_few_chunks() -> None:
    store = RowStore({"b": pl.Int64()})
    for start in range(0, 3000, 3):
        store.append(pl.DataFrame({"b": [start, start + 1, start + 2]}))
    everything = store.gather(np.arange(3000))
    assert everything["b"].to_list() == list(range(3000))
    assert len(store.chunks) <= 8
    some = np.array([2999, 0, 5, 5, 1500])
    assert sorted(store.pick(some)["b"]) == sorted(some)
    assert store.pick(some[:0]).equals(pl.DataFrame(schema={"b": pl.Int64}))


def test_keys_that_are_hashed_by_some_columns_differ_in_the_others() -> None:
    arrangement = Arrangement(SCHEMA, hashed=["b"])
    rows = frame([("x", 1), ("y", 1), (None, 1), ("x", 2)])
    slots = claim(arrangement, rows)
    assert len(set(slots.tolist())) == 4
    assert arrangement.find(rows).tolist() == slots.tolist()
    assert arrangement.find(frame([("z", 1)])).tolist() == [-1]


def test_members_are_found_by_group() -> None:
    members, owners = Members(), np.array([3, 0, 3, -1, 7, 0, 3], np.int64)
    for start in range(0, len(owners), 2):
        members.extend(owners[start : start + 2])
    assert len(members) == len(owners)
    assert sorted(members.of(np.array([7, 3]))) == [0, 2, 4, 6]
    assert len(members.of(np.array([5]))) == 0


def test_replaced_values_are_not_kept() -> None:
    column: Any = slot_values(pl.String())
    column.reserve(5)
    for i in range(2000):
        column.put(np.arange(5), pl.Series([f"value {i} {slot}" for slot in range(5)]))
    assert column.get(np.arange(5)).to_list() == [f"value 1999 {slot}" for slot in range(5)]
    assert len(column._store) < 5000


@examples(20)
@given(
    st.sampled_from(
        [pl.Int64(), pl.Float64(), pl.Boolean(), pl.String(), pl.Datetime("us", "UTC"), pl.List(pl.Int64())]
    ),
    st.lists(st.tuples(st.dictionaries(st.integers(0, 9), st.integers(0, 5)), st.booleans()), max_size=8),
)
def test_values_by_slot(dtype: pl.DataType, changes: list[tuple[dict[int, int], bool]]) -> None:
    made: dict[Any, Any] = {
        pl.Int64(): [None, 0, 1, 2**62, -5, 7],
        pl.Float64(): [None, 0.0, 1.5, float("inf"), -1.0, 2.0],
        pl.Boolean(): [None, True, False, None, True, False],
        pl.String(): [None, "", "a", "b" * 30, "c", "d"],
        pl.List(pl.Int64()): [None, [], [1], [None], [1, 2], [3]],
    }
    source = pl.Series(made.get(dtype, [None, 0, 1, 2**40, -5, 7])).cast(dtype)
    column, model = slot_values(dtype), [None] * 10
    column.reserve(10)
    for change, keep in changes:
        slots = np.array(list(change), np.int64)
        picked = source[pl.Series(list(change.values()), dtype=pl.Int64)]
        column.put(slots, picked)
        for slot, value in zip(change, picked.to_list(), strict=True):
            model[slot] = value
        if keep:
            column.keep(np.arange(10))
        got = column.get(np.arange(10))
        assert got.dtype == dtype
        assert got.to_list() == model
