"""CSV where Polars and the rules part: too many fields, bytes it mistakes for something else, lone carriage returns."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any
from unittest import mock

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncpersist.errors import MalformedInput
from asyncpersist.io.formats import csv_records
from asyncpersist.io.formats.csv_records import CsvParserSettings
from asyncpersist.io.formats.format import Broken
from asyncpersist.io.formats.parquet import Parquet
from asyncpersist.io.formats.repeated_lines import lines_of
from tests.examples import examples
from tests.io.reading import csv_format, json_format, values
from tests.io.test_formats import both_ways

# -- records of another length than the header


@pytest.mark.parametrize(
    ("columns", "layout", "data", "expected"),
    [
        ({"price": int, "note": str}, ("price", "city", "note"), "1,Rome,x\n3,5,Oslo,x\n", [(1, "x")]),
        ({"price": int}, ("price", "city", "note"), "1,Rome,x\n3,5,Oslo,x\n", [(1,)]),
        ({"a": str}, ("a", "b", "c"), "1,2,3\n1,2,3,\n", [("1",)]),
        ({"b": str, "c": str}, ("a", "b", "c"), "1,2,3,4\n1,2,3\n", [("2", "3")]),
        # One too few and one too many make up for each other.
        ({"a": str, "c": str | None}, ("a", "b", "c"), "1,2,\n1,2\n1,2,3,4\n", [("1", None)]),
        ({"a": str, "c": str | None}, ("a", "b", "c"), '1,"2,\n",\n1,2\n1,2,3,4\n', [("1", None)]),
    ],
)
def test_a_record_with_too_many_fields_is_broken(
    columns: dict[str, Any], layout: tuple[str, ...], data: str, expected: list[tuple[Any, ...]]
) -> None:
    assert both_ways(csv_format(**columns), data.encode(), layout) == expected


def test_records_that_are_right_are_read_at_once() -> None:
    data = b'1,"2,\n",\n1,,\n,"2",3\n'
    rows = csv_format(a=str, c=str | None).parse(data, ("a", "b", "c"))
    assert rows.rows() == [("1", None), ("1", None), ("", "3")]


@examples(150)
@given(
    st.lists(st.lists(st.sampled_from(["", "a", '""', '"b,"', '"\n"', "1"]), max_size=5), min_size=1, max_size=5),
    st.sampled_from([{"v": str}, {"w": str | None}, {"v": str, "x": str | None}, {"v": str, "w": str}, {"x": str}]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_records_of_any_length_both_ways_agree(records: list[list[str]], columns: dict[str, Any], end: str) -> None:
    data = "".join(",".join(fields) + end for fields in records).encode()
    both_ways(csv_format(**columns), data, ("v", "w", "x"))


# -- bytes that Polars takes for something else where they come first


@pytest.mark.parametrize("start", [b"\xef\xbb\xbf", b"x\x01", b"x^", "x\u009c".encode(), b"(\xb5/\xfd", b"\x1f\x8b"])
def test_no_first_bytes_are_mistaken(start: bytes) -> None:
    data = start + b"2,b\n" + start + b"3,c\n"
    expected = []
    with contextlib.suppress(UnicodeDecodeError):
        expected = [(start.decode() + "2", "b"), (start.decode() + "3", "c")]
        lines = lines_of(data)
        assert (lines is None) == (b"\x01" in start)
        assert lines is None or lines["line"].to_list() == [start.decode() + "2,b", start.decode() + "3,c"]
        assert csv_format(v=str, w=str).parse(data, ("v", "w")).rows() == expected
    assert both_ways(csv_format(v=str, w=str), data, ("v", "w")) == expected
    assert both_ways(csv_format(w=str), data, ("v", "w")) == [row[1:] for row in expected]
    for line in (start + b'{"s":"a"}\n', start + b"\n", b'{"s":"a"}\n' + start + b"\n"):
        found = both_ways(json_format(s=str), line)
        assert found == ([("a",)] if line[:1] == b"{" else [])


@pytest.mark.parametrize("start", [b"(\xb5/\xfd", b"\x1f\x8b"])
def test_what_looks_compressed_is_broken(start: bytes) -> None:
    with pytest.raises(Broken):
        csv_format(v=str).parse(start + b"\n", ("v",))
    with pytest.raises(Broken):
        json_format(v=str).parse(start + b"\n", None)


async def test_a_byte_order_mark_is_one_at_the_start_of_a_file_only(tmp_path: Path) -> None:
    lines = "".join(f"\ufeff{i},x^\n" for i in range(1000))
    (tmp_path / "a.csv").write_bytes(("\ufeffv,w\n" + lines).encode())
    (tmp_path / "b.csv").write_text("v,w\n" + "".join(f"x^{i},\n" for i in range(1000)))
    expected = [(f"\ufeff{i}", "x^") for i in range(1000)] + [(f"x^{i}", "") for i in range(1000)]
    for size in (100, 1 << 20):
        assert await values(tmp_path, csv_format(v=str, w=str), chunk_bytes=size) == expected


# -- columns that are not asked for


async def test_columns_named_like_patterns_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("*,a,^.*$,x\n1,2,3,4\n")
    assert await values(tmp_path / "a.csv", csv_format(a=int, x=int)) == [(2, 4)]
    (tmp_path / "a.jsonl").write_text('{"*":1,"a":2,"^.*$":3,"x":4}\n')
    assert await values(tmp_path / "a.jsonl", json_format(a=int, x=int)) == [(2, 4)]
    pl.DataFrame({"*": [1], "a": [2], "^.*$": [3], "x": [4]}).write_parquet(tmp_path / "a.parquet")
    columns = csv_format(a=int, x=int).columns
    assert await values(tmp_path / "a.parquet", Parquet(columns, {})) == [(2, 4)]


# -- carriage returns


@pytest.mark.parametrize("text", ["v,w\ra,b\r", "v\ra\rb\r", "v,w\ra,b\n", '"v",w\r"a",b\r\n', "\nv,w\ra,b"])
async def test_lines_that_end_in_a_carriage_return_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_bytes(text.encode())
    with pytest.raises(MalformedInput, match=r"a\.csv', line 1: there is a carriage return within the header"):
        await values(tmp_path, csv_format(v=str))


def test_lines_that_end_in_a_carriage_return_alone_are_noticed_early() -> None:
    with pytest.raises(Broken, match="carriage return"):
        csv_format(v=str).head(b"v,w\ra,b\r", complete=False)
    for start in (b"v,w\r", b'v,"w\r', b'v,"w\r"', b'v,"w\r"\r'):
        assert csv_format(v=str).head(start, complete=False) is None


async def test_a_quoted_name_may_hold_a_carriage_return(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'v,"w\r1"\r\na,b\r\n')
    assert await values(tmp_path, csv_format(**{"v": str, "w\r1": str})) == [("a", "b")]


# -- records longer than what is looked at in one call

SYNTAXES = [
    CsvParserSettings(),
    CsvParserSettings(comment_character="#"),
    CsvParserSettings(escape="\\"),
    CsvParserSettings(escape="\\", enable_double_quote_escapes=False),
    CsvParserSettings(enable_double_quote_escapes=False),
    CsvParserSettings(enable_quoting=False, comment_character="#"),
]


@examples(150)
@given(st.text('ab",\n\r#\\', max_size=40), st.sampled_from(SYNTAXES), st.integers(1, 6))
def test_long_records_are_cut_like_short_ones(text: str, syntax: CsvParserSettings, window: int) -> None:
    format = csv_format({}, syntax, v=str)
    data = text.encode() + b"\n"
    cut, records = format.cut(data), format.records(data)
    with mock.patch.object(csv_records, "_WINDOW", window):
        assert format.cut(data) == cut
        again = format.records(data)
    assert (again.data, again.ends.tolist(), again.lines.tolist()) == (
        records.data,
        records.ends.tolist(),
        records.lines.tolist(),
    )


def test_a_quote_that_is_never_closed_takes_the_rest() -> None:
    data = b"a,1\n" + b'"b,2\n' + b"c,3\n" * 100_000
    format = csv_format(v=str, n=int)
    assert format.cut(data) == 4
    examined = format.examine(data, ("v", "n"))
    assert examined.rows.rows() == [("a", 1)]
    [record] = examined.bad
    assert (record.ordinal, record.line, record.error) == (1, 1, "a quoted field is not closed")
    assert record.text == data[4:-1]


@examples(150)
@given(st.text('ab",\n\r#', max_size=30), st.sampled_from(SYNTAXES[:2]))
def test_records_know_their_lines(text: str, syntax: CsvParserSettings) -> None:
    data = text.encode() + b"\n"
    records = csv_format({}, syntax, v=str).records(data)
    at = 0
    for i in range(len(records)):
        record = records.between(i, i + 1)
        at = next(
            k
            for k in range(at, len(data))
            if data.startswith(record, k) and data.count(b"\n", 0, k) == records.lines[i]
        )
        assert at == 0 or data[at - 1 : at] == b"\n"
        at += len(record)
