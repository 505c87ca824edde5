"""Results come back under their arguments, in the same run and in later ones."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import polars as pl
import pytest

from asyncpersist.columnar import codec
from asyncpersist.columnar.delta import WEIGHT
from asyncpersist.columnar.hashing import id_of
from asyncpersist.columnar.state import Increment
from asyncpersist.testing.clocks import ManualClock
from asyncpersist.udfs.caching.entries import ENTRY_BYTES, KEY, VALUE
from asyncpersist.udfs.caching.keys import Keys, distinct
from asyncpersist.udfs.caching.room import CacheRoom
from asyncpersist.udfs.caching.sizes import value_sizes
from asyncpersist.udfs.caching.table import CacheTable

INT = pl.Int64()


def keys(*values: int) -> Keys:
    return Keys.of(pl.DataFrame({"a": pl.Series(values, dtype=pl.Int64)}))


def found(table: CacheTable, wanted: Keys, **options: Any) -> dict[int, Any]:
    rows, values = table.look_up(wanted, **options)
    return dict(zip(rows.tolist(), values.to_list(), strict=True))


def merged(increments: list[Increment]) -> pl.DataFrame:
    """What is read back of them, by way of files."""
    while len(increments) > 1 and any(increment.complete for increment in increments[1:]):
        increments = increments[1:]
    parts = [codec.encode(increment.rows, key=[KEY]) for increment in increments]
    return codec.decode(codec.merge_state(parts, [KEY], drop_tombstones=True))


@pytest.mark.parametrize("seed", range(2))
def test_a_table_is_a_dict_that_outlives_its_run(seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    clock = ManualClock()
    table = CacheRoom(clock).table("f", pl.String())
    oracle: dict[int, str | None] = {}
    increments: list[Increment] = []
    for _ in range(40):
        asked = [rng.randrange(200) for _ in range(rng.randrange(30))]
        assert found(table, keys(*asked)) == {i: oracle[key] for i, key in enumerate(asked) if key in oracle}
        fresh = sorted(set(asked), key=lambda _: rng.random())
        results = [rng.choice([None, "", "word" * rng.randrange(9)]) for _ in fresh]
        table.put(keys(*fresh), pl.Series(results, dtype=pl.String))
        oracle.update(zip(fresh, results, strict=True))
        assert len(table) == len(oracle)
        if rng.random() < 0.3 and (increment := table.capture()) is not None:
            increments.append(increment)
        if increments and rng.random() < 0.1:
            if (increment := table.capture()) is not None:
                increments.append(increment)
            table = CacheRoom(clock).table("f", pl.String())
            table.load(merged(increments))
            assert table.capture() is None


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (pl.Int64(), [1, None, -5]),
        (pl.Float64(), [1.5, None, float("inf")]),
        (pl.Boolean(), [True, None, False]),
        (pl.Binary(), [b"", None, b"\0\xff"]),
        (pl.UInt128(), [(1 << 128) - 1, None, 0]),
        (pl.Datetime("us", "UTC"), [0, None, -1]),
        (pl.Duration("us"), [0, None, -1]),
        (pl.List(pl.Float64()), [[], None, [1.0, None]]),
        (pl.List(pl.List(pl.String())), [[[]], None, [["a", None], None]]),
        (pl.Struct({"f0": pl.Int64(), "f1": pl.String()}), [{"f0": 1, "f1": None}, None, {"f0": None, "f1": "b"}]),
    ],
    ids=str,
)
def test_results_of_any_type_are_kept_and_written(dtype: pl.DataType, values: list[Any]) -> None:
    series = pl.Series("result", values, dtype=dtype)
    table = CacheRoom(ManualClock(), max_bytes=1 << 20).table("f", dtype)
    table.put(keys(1, 2, 3), series)
    rows, results = table.look_up(keys(3, 9, 2, 1, 1))
    assert rows.tolist() == [0, 2, 3, 4]
    assert results.equals(series[[2, 1, 0, 0]])
    table.put(keys(2), series[:1])
    increment = table.capture()
    assert increment is not None
    again = CacheRoom(ManualClock()).table("f", dtype)
    again.load(merged([increment]))
    assert again.look_up(keys(1, 2, 3))[1].equals(series[[0, 0, 2]])
    assert (len(again), again.bytes) == (len(table), table.bytes)
    assert table.bytes == sum(value_sizes(series[[0, 0, 2]])) + 3 * ENTRY_BYTES


def test_keys_are_the_ids_of_arguments() -> None:
    arguments = pl.DataFrame({"a": ["x", None], "b": [0.0, float("nan")]})
    table = CacheRoom(ManualClock()).table("f", INT)
    table.put(Keys.of(arguments), pl.Series([1, 2]))
    increment = table.capture()
    assert increment is not None
    ids = dict(zip(id_of(arguments, ["a", "b"]).to_list(), [1, 2], strict=True))
    assert dict(increment.rows.select(KEY, VALUE).iter_rows()) == ids
    other = pl.DataFrame({"a": ["x", None], "b": [-0.0, -float("nan")]})
    assert found(table, Keys.of(other)) == {0: 1, 1: 2}


def test_a_key_is_more_than_the_half_that_it_is_found_by() -> None:
    table = CacheRoom(ManualClock()).table("f", INT)
    both = Keys(np.array([1, 2, 1], np.uint64), np.array([7, 7, 8], np.uint64))
    table.put(both, pl.Series([10, 20, 30]))
    assert found(table, both) == {0: 10, 1: 20, 2: 30}
    assert found(table, Keys(np.array([3, 2], np.uint64), np.array([7, 8], np.uint64))) == {}


@pytest.mark.parametrize("halves", [3, 1 << 40])
def test_distinct_keys(halves: int) -> None:
    rng = random.Random(halves)
    pairs = [(rng.randrange(halves), rng.randrange(halves)) for _ in range(60)]
    high, low = (np.array(half, np.uint64) for half in zip(*pairs, strict=True))
    some = distinct(Keys(high, low))
    first = list(range(60)) if some.first is None else some.first.tolist()
    kind = list(range(60)) if some.kind is None else some.kind.tolist()
    assert first == [i for i, pair in enumerate(pairs) if pair not in pairs[:i]]
    assert [first[number] for number in kind] == [pairs.index(pair) for pair in pairs]
    assert distinct(Keys(high[:0], low[:0])).kind is None


def test_functions_of_one_room_have_results_of_their_own() -> None:
    room = CacheRoom(ManualClock())
    room.table("f", INT).put(keys(1, 2), pl.Series([10, 20]))
    room.table("g", pl.String()).put(keys(2, 3), pl.Series(["b", "c"]))
    assert found(room.table("f", INT), keys(1, 2, 3)) == {0: 10, 1: 20}
    assert found(room.table("g", pl.String()), keys(1, 2, 3)) == {1: "b", 2: "c"}
    increment = room.table("f", INT).capture()
    assert increment is not None
    assert increment.rows.height == 2


def test_a_result_counts_for_its_time() -> None:
    clock = ManualClock()
    table = CacheRoom(clock).table("f", INT, keep_for=60)
    table.put(keys(1, 2), pl.Series([10, 20]))
    increments = [table.capture()]
    clock.advance(9.5)
    table.put(keys(2, 3), pl.Series([21, 30]))
    assert found(table, keys(1, 2, 3), ttl=9.5) == {1: 21, 2: 30}
    assert found(table, keys(1, 2, 3), ttl=9.501) == {0: 10, 1: 21, 2: 30}
    assert found(table, keys(1, 2, 3)) == {0: 10, 1: 21, 2: 30}
    clock.advance(50.5)
    increments.append(table.capture())
    assert increments[1] is not None
    assert increments[1].complete
    assert len(table) == 2
    again = CacheRoom(clock).table("f", INT, keep_for=60)
    again.load(merged([increment for increment in increments if increment is not None]))
    assert found(again, keys(1, 2, 3)) == {1: 21, 2: 30}
    clock.advance(9.5)
    assert again.capture() is not None
    assert (len(again), again.bytes) == (0, 0)


def test_what_no_longer_counts_goes_although_nothing_is_captured() -> None:
    clock = ManualClock()
    table = CacheRoom(clock).table("f", INT, keep_for=60)
    for step in range(50):
        assert not found(table, keys(step), ttl=60)
        table.put(keys(100 + step), pl.Series([step]))
        clock.advance(20)
        assert len(table) <= 4
    clock.advance(60)
    table.take_in()
    assert len(table) == 0


def test_the_longest_time_that_is_given_counts() -> None:
    clock = ManualClock()
    room = CacheRoom(clock)
    for seconds in (1.0, 30.0, 2.0):
        table = room.table("f", INT, keep_for=seconds)
    table.put(keys(1), pl.Series([10]))
    clock.advance(29)
    table.capture()
    assert len(table) == 1
    room.table("f", INT)
    clock.advance(29)
    table.capture()
    assert len(table) == 1


@pytest.mark.parametrize("seed", range(2))
def test_what_is_dropped_is_gone_from_what_is_written(seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    table = CacheRoom(ManualClock(), max_entries=300).table("f", pl.String())
    increments: list[Increment] = []
    tombstones = 0
    for step in range(20):
        some = rng.sample(range(1000), 60)
        table.put(keys(*some), pl.Series([f"{step} {key}" for key in some]))
        if step % 3 and (increment := table.capture()) is not None:
            increments.append(increment)
            tombstones += increment.rows.filter(pl.col(WEIGHT) == 0).height
    assert tombstones
    last = table.capture()
    again = CacheRoom(ManualClock()).table("f", pl.String())
    again.load(merged([*increments, *([] if last is None else [last])]))
    everything = keys(*range(1000))
    assert found(again, everything) == found(table, everything)
    assert len(again) == len(table) <= 300


def test_nothing_is_asked_put_or_loaded() -> None:
    room = CacheRoom(ManualClock(), max_bytes=10)
    table = room.table("f", pl.List(pl.Int64()))
    assert found(table, keys()) == {}
    table.put(keys(), pl.Series([], dtype=pl.List(pl.Int64())))
    assert table.capture() is None
    assert table.uses.capture() is None
    asked = table.ask(keys())
    assert (len(asked.found), len(asked.missing), asked.flight) == (0, 0, None)
    table.load(pl.DataFrame())
    table.uses.load(pl.DataFrame())
    assert (len(table), table.bytes, room.bytes, table.key, table.uses.key) == (0, 0, 0, (KEY,), (KEY,))


def test_sizes_follow_what_values_take() -> None:
    values = pl.Series([[{"f0": "ab", "f1": 1}, {"f0": None, "f1": None}], [], None, [{"f0": "c", "f1": 2}]])
    assert value_sizes(values).tolist() == [8 + (8 + 2 + 8) + (8 + 8), 8, 8, 8 + 8 + 1 + 8]
    assert value_sizes(pl.Series([b"abc", None])).tolist() == [11, 8]
    assert value_sizes(pl.Series(["é", ""])).tolist() == [10, 8]
    assert value_sizes(pl.Series([1, 2], dtype=pl.UInt128)).tolist() == [16, 16]
    assert value_sizes(pl.Series([True, None])).tolist() == [8, 8]
