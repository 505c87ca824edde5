"""State and log files: round trips, merging against dictionaries, damage."""

from __future__ import annotations

import math
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncpersist.columnar.codec import EPOCH, columns, decode, encode, files, join, latest_rows, merge_state, parts
from asyncpersist.columnar.delta import WEIGHT
from asyncpersist.columnar.hashing import hash_columns

EVERYTHING = pl.DataFrame(
    {
        "s": ["a", None, ""],
        "i": [1, None, -(2**63)],
        "f": [math.nan, None, -0.0],
        "y": [b"\x00\xff", None, b""],
        "b": [True, None, False],
        "l": [["x", None], None, []],
        "t": [{"f0": 1, "f1": [b"z"]}, None, {"f0": None, "f1": None}],
        "j": ['{"a":1}', None, "null"],
        "p": [2**127, None, 0],
        "d": pl.Series([0, None, 10**15], dtype=pl.Datetime("us", "UTC")),
        "n": pl.Series([0, None, -1], dtype=pl.Duration("us")),
        WEIGHT: [1, 0, 5],
    },
    schema_overrides={"p": pl.UInt128},
)


@pytest.mark.parametrize("compression", ["zstd", "lz4", "uncompressed"])
def test_a_log_comes_back_as_it_was(compression: Any) -> None:
    assert decode(encode(EVERYTHING, key=None, compression=compression)).equals(EVERYTHING)
    assert decode(encode(EVERYTHING.clear(), key=None)).schema == EVERYTHING.schema


@pytest.mark.parametrize("key", [[], ["s"], ["f", "t"], ["l", "p", "d"]])
def test_a_state_comes_back_in_the_order_of_its_hashes(key: list[str]) -> None:
    back = decode(encode(EVERYTHING, key=key))
    assert back.columns == EVERYTHING.columns
    assert back.sort("i").equals(EVERYTHING.sort("i"))
    hashes = hash_columns(back, key).tolist()
    assert hashes == sorted(hashes)


def test_chunks_do_not_matter() -> None:
    chunked = pl.concat([EVERYTHING[:1], EVERYTHING[1:]], rechunk=False)
    assert decode(encode(chunked, key=None)).equals(EVERYTHING)
    assert decode(encode(chunked, key=["s"])).equals(decode(encode(EVERYTHING, key=["s"])))


def test_rows_under_one_key_keep_their_order() -> None:
    frame = pl.DataFrame({"k": ["a", "b"] * 500, "v": range(1000)})
    back = decode(encode(frame, key=["k"]))
    for _, group in back.group_by("k"):
        assert group["v"].is_sorted()


KEYS: list[Any] = [None, math.nan, 0.0, 1.0]
increments = st.lists(
    st.dictionaries(st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 3)), st.integers(-2, 3), max_size=8),
    min_size=1,
    max_size=5,
)


def increment(rows: dict[tuple[str | None, int], int]) -> pl.DataFrame:
    """Keys of a string and a struct; the weight is also the value."""
    return pl.DataFrame(
        {
            "s": [s for s, _ in rows],
            "t": [{"f0": KEYS[i], "f1": None} for _, i in rows],
            "v": [str(weight) for weight in rows.values()],
            WEIGHT: list(rows.values()),
        },
        schema={
            "s": pl.String,
            "t": pl.Struct({"f0": pl.Float64, "f1": pl.String}),
            "v": pl.String,
            WEIGHT: pl.Int64,
        },
    )


def content(frame: pl.DataFrame) -> dict[tuple[str | None, str], int]:
    rows = {(s, repr(t["f0"])): weight for s, t, v, weight in frame.rows()}
    assert len(rows) == frame.height
    return rows


@given(increments, st.booleans())
def test_the_last_row_under_a_key_wins(parts: list[dict[Any, int]], drop: bool) -> None:
    expected: dict[Any, int] = {}
    for part in parts:
        expected |= {(s, repr(KEYS[i])): weight for (s, i), weight in part.items()}
    if drop:
        expected = {key: weight for key, weight in expected.items() if weight}
    files = [encode(increment(part), key=["s", "t"]) for part in parts]
    assert content(decode(merge_state(files, ["s", "t"], drop_tombstones=drop))) == expected
    assert content(latest_rows(list(map(increment, parts)), ["s", "t"], drop_tombstones=drop)) == expected


@given(increments)
def test_merging_in_steps_is_merging_at_once(parts: list[dict[Any, int]]) -> None:
    key = ["s", "t"]
    files = [encode(increment(part), key=key) for part in parts]
    steps = files[0]
    for file in files[1:]:
        steps = merge_state([steps, file], key, drop_tombstones=False)
    in_steps, at_once = (merge_state(group, key, drop_tombstones=True) for group in ([steps], files))
    assert decode(in_steps).equals(decode(at_once))


def test_without_a_key_the_last_row_is_the_state() -> None:
    parts = [encode(pl.DataFrame({"n": [n], WEIGHT: [w]}), key=[]) for n, w in ((1, 1), (2, 2), (3, 0))]
    assert decode(merge_state(parts[:2], [], drop_tombstones=True)).rows() == [(2, 2)]
    assert decode(merge_state(parts, [], drop_tombstones=True)).rows() == []
    assert decode(merge_state(parts, [], drop_tombstones=False)).rows() == [(3, 0)]


def log(epoch: int, rows: list[tuple[str, int]]) -> pl.DataFrame:
    words, weights = [word for word, _ in rows], [weight for _, weight in rows]
    return pl.DataFrame(
        {"word": words, WEIGHT: weights, EPOCH: [epoch] * len(rows)},
        schema={"word": pl.String, WEIGHT: pl.Int64, EPOCH: pl.Int64},
    )


logs = st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([-1, 1, 2])), max_size=4), max_size=6)


@given(logs, st.data())
def test_joined_files_are_the_files_end_to_end(drawn: list[list[tuple[str, int]]], data: st.DataObject) -> None:
    frames = [log(2 * n, rows) for n, rows in enumerate(drawn, 1)]
    encoded = [encode(frame, key=None) for frame in frames]
    # Joined in any grouping, any number of times, it is the same.
    while len(encoded) > 1:
        start = data.draw(st.integers(0, len(encoded) - 2))
        stop = data.draw(st.integers(start + 1, len(encoded)))
        encoded[start:stop] = [join(encoded[start:stop])]
    whole = join(encoded)
    assert len(files(whole)) == len(frames)
    assert all(map(pl.DataFrame.equals, parts(whole), frames))
    if frames:
        assert decode(whole).equals(pl.concat(frames))
    assert [columns(file) for file in files(whole)] == [frame.columns for frame in frames]


def test_parts_of_a_joined_file_are_decoded_when_they_are_asked_for() -> None:
    good = encode(log(2, [("a", 1)]), key=None)
    reading = parts(join([good, b"APSTATE\x01nonsense"]))
    assert next(reading).height == 1
    with pytest.raises(ValueError, match="cut off or damaged"):
        next(reading)


@pytest.mark.parametrize("cut", [3, 8, 9, 12, 25, 40, -1])
def test_a_joined_file_that_is_cut_off_is_refused(cut: int) -> None:
    joined = join([encode(log(n, [("a", 1)]), key=None) for n in (2, 4)])
    with pytest.raises(ValueError, match=r"no state or log file|cut off"):
        decode(joined[:cut])
    with pytest.raises(ValueError, match="format 7"):
        files(joined[:7] + b"\x07" + joined[8:])


def test_files_with_other_columns_have_no_single_frame() -> None:
    other = encode(log(2, [("a", 1)]).rename({"word": "other"}), key=None)
    joined = join([encode(log(2, [("a", 1)]), key=None), other])
    with pytest.raises(ValueError, match="columns differ"):
        decode(joined)
    assert [part.columns[0] for part in parts(joined)] == ["word", "other"]


@pytest.mark.parametrize("count", [3, 1000])
def test_columns_given_as_runs_come_last(count: int) -> None:
    rows = pl.DataFrame({"n": range(2 * count)})
    back = decode(encode(rows, key=None, runs={"w": [(1, 2 * count)], "e": [(e, 2) for e in range(count)]}))
    assert back.columns == ["n", "w", "e"]
    assert back["e"].to_list() == [e for e in range(count) for _ in range(2)]


GOOD = encode(pl.DataFrame({"w": [f"word {i}" for i in range(1000)]}), key=None)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no state or log file"),
        (b"APS", "no state or log file"),
        (b"PK" + GOOD, "no state or log file"),
        (GOOD[:7] + b"\x02" + GOOD[8:], "format 2"),
        (GOOD[:-1], "cut off"),
        (GOOD[:8], "cut off"),
        (GOOD[:100] + GOOD[-20:], "damaged"),
        (GOOD[:8] + b"x" * 2000 + GOOD[-8:], "damaged"),
        (GOOD[:-120] + bytes(60) + GOOD[-60:], "damaged"),
    ],
)
def test_what_is_no_such_file_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode(data)


def test_the_format_names_itself() -> None:
    assert GOOD.startswith(b"APSTATE\x01")
    assert b'"columns":["w"]' in GOOD
