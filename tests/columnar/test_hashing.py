"""Stable hashes: golden values, the rule of each type, ids."""

from __future__ import annotations

import datetime
import math
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asyncpersist.columnar.delta import ID
from asyncpersist.columnar.hashing import hash_columns, id_halves, id_of, join_halves, row_ids, split_halves

FRAME = pl.DataFrame(
    {
        "str": ["word", "", None],
        "bytes": [b"word", b"\xff\x00", None],
        "int": [1, -1, None],
        "float": [1.5, math.nan, None],
        "bool": [True, False, None],
        "time": [datetime.datetime(2026, 1, 31), datetime.datetime(1969, 1, 1), None],
        "span": [datetime.timedelta(days=1), datetime.timedelta(0), None],
        "pointer": [2**100 + 7, 7, None],
        "list": [[1, 2], [], None],
        "lists": [[["a"], None], [[]], None],
        "struct": [{"f0": 1, "f1": "x"}, {"f0": None, "f1": None}, None],
        "null": [None, None, None],
    },
    schema_overrides={"pointer": pl.UInt128},
)
NONE = 0xA0761D6478BD642F
GOLDEN: dict[str, list[int]] = {
    "str": [0xE3CE369CF66C5C55, 0x2D06800538D394C2, NONE],
    "bytes": [0xE3CE369CF66C5C55, 0x0B06685630F819E7, NONE],
    "int": [0x5692161D100B05E5, 0xB4D055FCF2CBBD7B, NONE],
    "float": [0xE72B41D4576E3468, 0x469BF2DCC1AA179B, NONE],
    "bool": [0x5692161D100B05E5, 0x0000000000000000, NONE],
    "time": [0xEC967EA68300A48D, 0x6D7AD7F36F909B9E, NONE],
    "span": [0x9DDE5B8C1A0A5162, 0x0000000000000000, NONE],
    "pointer": [0xD330287772B844FE, 0x12AE30237B17DF14, NONE],
    "list": [0x13056057D9346D25, 0x0000000000000000, NONE],
    "lists": [0x67F9501425FE0170, 0x6321CB60B9FB508D, NONE],
    "struct": [0xFEF1EB2577A734DA, 0xA4A4A9876363600A, NONE],
    "null": [NONE, NONE, NONE],
}


def hashes(values: list[object], dtype: pl.DataType | type[pl.DataType], **options: int) -> list[int]:
    return [int(h) for h in hash_columns(pl.DataFrame({"x": pl.Series(values, dtype=dtype)}), ["x"], **options)]


@pytest.mark.parametrize("column", FRAME.columns)
def test_hashes_are_those_of_the_format(column: str) -> None:
    assert [int(h) for h in hash_columns(FRAME, [column])] == GOLDEN[column]


def test_the_hash_of_all_columns_is_that_of_the_format() -> None:
    assert [int(h) for h in hash_columns(FRAME, FRAME.columns)] == [
        0xFAB3BB2806A6327F,
        0x44687DB7394EE763,
        0x3F8E5EDEE554180C,
    ]


def test_ids_are_those_of_the_format() -> None:
    assert id_of(FRAME, ["str", "int"]).to_list() == [
        0x7A774AB0A6E042973899A20275C436B4,
        0x463975B0F2D461CBBAE76B2DFA31E3B0,
        0xA4A4A9876363600AA4A4A9876363600A,
    ]
    assert row_ids("source", "part", 3, 2).to_list() == [
        0x6F6481EC7A43FB3E0000000000000003,
        0x6F6481EC7A43FB3E0000000000000004,
    ]


def test_ids_come_in_halves() -> None:
    ids = id_of(FRAME, FRAME.columns)
    high, low = id_halves(FRAME, FRAME.columns)
    assert join_halves(high, low).equals(ids)
    assert [int(h) << 64 | int(rest) for h, rest in zip(high, low, strict=True)] == ids.to_list()
    assert [half.tolist() for half in split_halves(ids)] == [high.tolist(), low.tolist()]
    assert all(half.dtype == np.uint64 and not len(half) for half in split_halves(ids[:0]))


def test_columns_are_combined_by_the_documented_rule() -> None:
    one, two = (hash_columns(FRAME, [name]) for name in ("str", "int"))
    assert (hash_columns(FRAME, ["str", "int"]) == one * np.uint64(0x9E3779B97F4A7C15) + two).all()
    assert (hash_columns(FRAME, ["int", "str"]) != hash_columns(FRAME, ["str", "int"]))[:2].all()


def test_another_process_gives_the_same_hashes() -> None:
    program = (
        "import polars as pl; from asyncpersist.columnar.hashing import hash_columns;"
        "print(int(hash_columns(pl.DataFrame({'a': ['word'], 'b': [1]}), ['a', 'b'])[0]))"
    )
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(other.stdout) == int(hash_columns(pl.DataFrame({"a": ["word"], "b": [1]}), ["a", "b"])[0])


def test_no_columns_hash_to_zero() -> None:
    assert hash_columns(FRAME, []).tolist() == [0, 0, 0]


def test_no_rows_have_no_hashes() -> None:
    assert len(hash_columns(FRAME.head(0), FRAME.columns)) == 0
    assert id_of(FRAME.head(0), FRAME.columns).dtype == pl.UInt128


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1), st.integers(1, 63))
def test_few_bits_are_the_low_ones(values: list[int], bits: int) -> None:
    full = hashes(list(values), pl.Int64)
    assert hashes(list(values), pl.Int64, bits=bits) == [h & ((1 << bits) - 1) for h in full]


def test_what_groups_as_equal_hashes_as_equal() -> None:
    other_nan = np.array([0xFFF8000000000001], np.uint64).view(np.float64)[0]
    zero, minus_zero, nan, another = hashes([0.0, -0.0, math.nan, other_nan], pl.Float64)
    assert zero == minus_zero
    assert nan == another
    zero, minus_zero = hashes([[0.0], [-0.0]], pl.List(pl.Float64))
    assert zero == minus_zero


def test_width_of_numbers_does_not_matter() -> None:
    assert hashes([-5], pl.Int8) == hashes([-5], pl.Int64)
    assert hashes([5], pl.UInt64) == hashes([5], pl.Int64)
    assert hashes([0.5], pl.Float32) == hashes([0.5], pl.Float64)
    assert hashes(["a"], pl.Categorical) == hashes(["a"], pl.String)


def test_what_lies_under_a_none_does_not_matter() -> None:
    values = pl.Series([1.0, 2.0, 3.0])
    hidden = pl.select(pl.when(values < 2.5).then(None).otherwise(values).alias("x"))
    assert hash_columns(hidden, ["x"])[:2].tolist() == [NONE, NONE]


@given(st.lists(st.one_of(st.none(), st.lists(st.one_of(st.none(), st.integers(-3, 3)), max_size=4)), max_size=12))
@example([[0, 0], [1, 1]])
def test_lists_hash_alike_wherever_they_stand(values: list[list[int | None] | None]) -> None:
    dtype = pl.List(pl.Int64)
    together = hashes(list(values), dtype)
    assert together == [h for value in values for h in hashes([value], dtype)]
    different = {repr(value) for value in values}
    assert len(set(together)) == len(different)


def test_sliced_and_chunked_frames_hash_alike() -> None:
    chunked = pl.concat([FRAME[:1], FRAME[1:]], rechunk=False)
    assert (hash_columns(chunked, FRAME.columns) == hash_columns(FRAME, FRAME.columns)).all()
    assert (hash_columns(FRAME[1:], FRAME.columns) == hash_columns(FRAME, FRAME.columns)[1:]).all()


def test_names_that_look_like_patterns_are_names() -> None:
    frame = pl.DataFrame({"^.*$": ["a"], "*": ["b"]})
    assert hash_columns(frame, ["*"]).tolist() == hashes(["b"], pl.String)


def test_a_type_without_a_rule_is_refused() -> None:
    with pytest.raises(TypeError, match=r"'x'.*Decimal"):
        hashes([1], pl.Decimal(10, 2))


def test_ids_of_different_rows_differ_in_both_halves() -> None:
    ids = id_of(pl.DataFrame({"i": range(10_000)}), ["i"])
    assert ids.name == ID
    assert ids.dtype == pl.UInt128
    values = ids.to_list()
    assert len({i >> 64 for i in values}) == len({i & (2**64 - 1) for i in values}) == 10_000


def test_row_ids_sort_as_the_rows_lie_and_continue() -> None:
    ids = row_ids("source", "file", 0, 10)
    assert ids.is_sorted()
    assert ids.n_unique() == 10
    assert pl.concat([row_ids("source", "file", 0, 4), row_ids("source", "file", 4, 6)]).to_list() == ids.to_list()
    assert row_ids("source", "file", 0, 0).dtype == pl.UInt128


def test_row_ids_keep_identity_and_partition_apart() -> None:
    assert row_ids("ab", "c", 0, 1).to_list() != row_ids("a", "bc", 0, 1).to_list()
    assert row_ids("a", "file-\udcff", 0, 1).len() == 1


@pytest.mark.parametrize(
    "dtype", [pl.Int64, pl.UInt64, pl.Float64, pl.String, pl.Boolean, pl.Datetime("us"), pl.UInt128]
)
def test_what_is_hashed_stays_as_it_is(dtype: pl.DataType) -> None:
    """Also where it lies in several chunks of which some are empty, as after a filter."""
    parts = [pl.DataFrame({"a": pl.Series(values).cast(dtype)}) for values in ([0, 1], [1, 0], [1])]
    rows = pl.concat(parts, rechunk=False).filter(pl.Series([False, False, True, True, False]))
    assert rows["a"].n_chunks() == 3
    before = rows["a"].to_list()
    hashes = hash_columns(rows, ["a"])
    id_of(rows, ["a"])
    assert rows["a"].to_list() == before
    assert hash_columns(rows.rechunk(), ["a"]).tolist() == hashes.tolist()
