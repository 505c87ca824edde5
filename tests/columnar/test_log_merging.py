"""Files of a log that become fewer: what counts stays, whatever the order of merging; the rest follows its rule."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncpersist.columnar.codec import EPOCH, decode, encode, files, join
from asyncpersist.columnar.delta import ID, ORDER, WEIGHT
from asyncpersist.columnar.hashing import row_ids
from asyncpersist.columnar.log_merging import Counting, MissingColumns, left_of, merge_log

NET = Counting(("word",), "net")
LATEST = Counting(("word", ORDER, "value"), "latest", ("word",))


def log(epoch: int, rows: list[tuple[str, int]]) -> pl.DataFrame:
    words, weights = [word for word, _ in rows], [weight for _, weight in rows]
    return pl.DataFrame(
        {"word": words, WEIGHT: weights, EPOCH: [epoch] * len(rows)},
        schema={"word": pl.String, WEIGHT: pl.Int64, EPOCH: pl.Int64},
    )


def encoded(*frames: pl.DataFrame) -> list[bytes]:
    return [encode(frame, key=None) for frame in frames]


def test_without_a_rule_files_are_put_end_to_end() -> None:
    frames = [log(2, [("b", 1), ("a", 1)]), log(4, [("b", -1)]), log(6, [("c", 2)])]
    merged = merge_log(encoded(*frames), None)
    assert decode(merged.data).equals(pl.concat(frames))
    assert len(files(merged.data)) == 1  # they are small
    assert (merged.saved, merged.retracted, merged.compacted) == (0, 0, False)


def test_large_files_are_not_decoded() -> None:
    large = pl.DataFrame({"word": row_ids("s", "p", 0, 200_000).cast(pl.String)}).with_columns(
        pl.lit(1).alias(WEIGHT), pl.lit(2).alias(EPOCH)
    )
    data = encode(large, key=None, compression="uncompressed")
    damaged = data[:1000] + bytes(1000) + data[2000:]
    merged = merge_log([damaged, *encoded(log(2, [("a", 1)]), log(4, [("b", 1)])), join([damaged])], None)
    assert [file.nbytes for file in files(merged.data)][::2] == [len(data), len(data)]
    assert decode(files(merged.data)[1]).rows() == [("a", 1, 2), ("b", 1, 4)]


def test_what_is_there_is_what_counts() -> None:
    frames = [log(2, [("b", 1), ("a", 1)]), log(4, [("b", -1), ("a", 1)]), log(6, [("c", 2)])]
    merged = merge_log(encoded(*frames), NET)
    assert sorted(decode(merged.data).select("word", WEIGHT, EPOCH).rows()) == [("a", 2, 6), ("c", 2, 6)]
    assert (merged.saved, merged.retracted, merged.compacted) == (3, 1, True)


def test_where_little_is_saved_rows_stay_as_they_are() -> None:
    frames = [log(2, [(c, 1) for c in "abcdef"]), log(4, [(c, 1) for c in "fghijk"]), log(6, [("a", 1)])]
    merged = merge_log(encoded(*frames), NET)
    assert decode(merged.data).equals(pl.concat(frames))
    assert (merged.saved, merged.compacted) == (0, False)
    always = merge_log(encoded(*frames), NET, always=True)
    assert decode(always.data).height == 11
    assert (always.saved, always.compacted) == (2, True)


def test_ids_keep_equal_rows_of_a_log_apart() -> None:
    first = log(2, [("a", 1), ("a", 1)]).with_columns(row_ids("source", "file", 0, 2))
    second = log(4, [("a", -1)]).with_columns(row_ids("source", "file", 0, 1))
    merged = merge_log(encoded(first, second), Counting(("word", ID), "net"))
    assert decode(merged.data)[ID].to_list() == [first[ID][1]]


def test_columns_that_are_not_kept_are_dropped_and_missing_ones_are_no_loss() -> None:
    more = log(2, [("a", 1), ("a", 1), ("b", 1)]).with_columns(pl.lit(7).alias("more"))
    less = log(4, [("a", 1), ("b", 1)]).drop("word").with_columns(pl.lit(8).alias("other"))
    merged = merge_log(encoded(more, log(2, [("b", 1), ("b", -1)])), NET)
    assert sorted(decode(merged.data).rows()) == [("a", 2, 2), ("b", 1, 2)]
    # What cannot be merged comes out as it was, behind what could be.
    merged = merge_log(encoded(more, log(2, [("b", 1), ("b", -1)]), less, log(6, [("c", 1)])), NET)
    assert [decode(file).height for file in files(merged.data)] == [2, 2, 1]
    merged = merge_log(encoded(more, less), NET)
    assert [decode(file).width for file in files(merged.data)] == [4, 3]
    assert not merged.compacted
    with pytest.raises(MissingColumns):
        merge_log(encoded(more, less), NET, always=True)


changes = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.booleans()), max_size=30)


@given(changes, st.lists(st.integers(0, 30), max_size=4), st.booleans())
def test_the_latest_row_counts(drawn: list[tuple[str, int, bool]], cuts: list[int], whole: bool) -> None:
    rows = [(word, order, value, -1 if gone else 1) for order, (word, value, gone) in enumerate(drawn)]
    schema = {"word": pl.String, ORDER: pl.Int64, "value": pl.Int64, WEIGHT: pl.Int64}
    edges = [0, *sorted(cuts), 30]
    frames = [
        pl.DataFrame(rows[start:stop][::-1], schema=schema, orient="row").with_columns(
            pl.lit(n).cast(pl.Int64).alias(EPOCH)
        )
        for n, (start, stop) in enumerate(pairwise(edges))
    ]
    last = {row[0]: row for row in rows}
    expected = sorted(row for row in last.values() if row[3] > 0 or not whole)
    merged = merge_log(encoded(*frames), LATEST, whole=whole, always=True)
    assert sorted(decode(merged.data).drop(EPOCH).select(list(schema)).rows()) == expected


@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([-1, 1, 2])), max_size=8), min_size=1, max_size=6
    ),
    st.data(),
)
def test_the_net_of_a_log_is_that_of_its_files(drawn: list[list[tuple[str, int]]], data: st.DataObject) -> None:
    logs = encoded(*(log(2 * n, rows) for n, rows in enumerate(drawn, 1)))
    rows = sum(map(len, drawn))
    while len(logs) > 1:
        start = data.draw(st.integers(0, len(logs) - 2))
        stop = data.draw(st.integers(start + 2, len(logs)))
        merged = merge_log(logs[start:stop], NET, always=data.draw(st.booleans()))
        logs[start:stop] = [merged.data]
        rows -= merged.saved
    expected: Counter[str] = Counter()
    for word, weight in (row for rows_of in drawn for row in rows_of):
        expected[word] += weight
    found: Counter[str] = Counter()
    for word, weight in decode(logs[0]).select("word", WEIGHT).rows():
        found[word] += weight
    assert {word: n for word, n in found.items() if n} == {word: n for word, n in expected.items() if n}
    assert decode(logs[0]).height == rows


def test_what_would_be_left_is_estimated_from_two_files() -> None:
    def drawn(first: int, last: int) -> bytes:
        numbers = pl.int_range(first, last, eager=True) * 7919 % 100_000
        rows = pl.DataFrame({"word": numbers.cast(pl.String)})
        return encode(rows.with_columns(pl.lit(1).alias(WEIGHT), pl.lit(2).alias(EPOCH)), key=None)

    assert left_of(drawn(0, 1000), drawn(1000, 2000), 10**6, NET) == 1.0
    # Both are a tenth of all words; half of them are in both: 20 000 words.
    assert left_of(drawn(0, 10_000), drawn(5_000, 15_000), 200_000, NET) == pytest.approx(0.1, rel=0.05)


def test_nothing_cannot_be_merged() -> None:
    with pytest.raises(ValueError, match="nothing"):
        merge_log([], None)
