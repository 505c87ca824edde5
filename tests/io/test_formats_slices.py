"""What is not parsed by Polars alone: a few values at a time, read the same either way, and many broken records."""

from __future__ import annotations

import datetime
import json
import time
import tracemalloc
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncpersist.dtypes import DateTimeUtc, Json
from asyncpersist.io.formats.csv_records import CsvParserSettings
from asyncpersist.io.formats.format import Format
from asyncpersist.io.formats.slices import slices
from tests.examples import examples
from tests.io.reading import csv_format, json_format
from tests.io.test_formats import both_ways

ROWS = 6000
PIPES = CsvParserSettings(delimiter="|", enable_quoting=False)


@given(st.lists(st.sampled_from([0, 1, 20, 3000, 40_000, 1_000_000]), max_size=3000), st.integers(1, 9))
@examples(50)
def test_slices(lengths: list[int], times: int) -> None:
    lengths = lengths * times
    with mock.patch.object(time, "sleep") as rest:
        found = list(slices(np.cumsum(np.array(lengths, np.int64), dtype=np.int64)))
    assert rest.call_count == max(len(found) - 1, 0)
    assert [k for i, j in found for k in range(i, j)] == list(range(len(lengths)))
    for i, j in found:
        assert j - i <= 500
        assert j - i == 1 or sum(lengths[i:j]) <= 16 << 10
    assert len(found) <= len(lengths) // 500 + sum(lengths) // (8 << 10) + 1


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (list[int], "[#,2,3]"),
        (list[str], '["#",""]'),
        (list[list[int]], "[[#,2],[]]"),
        (tuple[int, str], '[#,"x"]'),
        (Json, '{"k":#}'),
        (bytes, '"YW#"'),
        (datetime.timedelta, "#"),
        (np.ndarray, "[#,2]"),
        (DateTimeUtc, '"2024-01-01T00:00:00+02:#"'),
        (datetime.datetime, '"2024-01-01T00:#"'),
    ],
)
@pytest.mark.parametrize("kind_of_file", ["json", "csv"])
def test_few_python_values_are_there_at_a_time(kind: Any, value: str, kind_of_file: str) -> None:
    """They are made into columns by calls that hold the interpreter lock."""
    format = json_format(v=kind) if kind_of_file == "json" else csv_format({}, PIPES, v=kind)
    line = f'{{"v":{value}}}\n' if kind_of_file == "json" else value.strip('"') + "\n"
    data = "".join(line.replace("#", str(10 + i % 50)) for i in range(ROWS)).encode()
    format.parse(data[: data.find(b"\n") + 1], ("v",))
    tracemalloc.start()
    try:
        rows = format.parse(data, ("v",))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows.height == ROWS
    assert peak < 100 * ROWS


# -- both ways agree

MOMENTS = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["2024-02-29", "2023-02-29", "0001-01-01", "0000-01-01", "9999-12-31", "20240229"]),
        st.sampled_from(["T", " ", ""]),
        st.sampled_from(["00:00:00", "23:59:59.1234567", "24:00:00", "12:30", "23:59:60", ""]),
        st.sampled_from(["", "", "Z", "+00:00", "+02:00", "-23:59", "+24:00", "-00:00", "+0200", "+02", "+01:00:30"]),
    ),
)


@examples(70)
@given(st.lists(MOMENTS, min_size=1, max_size=2))
def test_moments_both_ways_agree(texts: list[str]) -> None:
    for kind in (datetime.datetime, DateTimeUtc, DateTimeUtc | None):
        both_ways(csv_format(v=kind), "".join(text + ",\n" for text in texts).encode(), ("v", "w"))
        both_ways(json_format(v=kind), "".join(json.dumps({"v": text}) + "\n" for text in texts).encode())


@examples(100)
@given(
    st.lists(
        st.from_regex(r"[ \t]?[-+]?[0-9]{0,20}", fullmatch=True) | st.text("PT1DHS-.", max_size=6),
        min_size=1,
        max_size=3,
    )
)
def test_durations_both_ways_agree(texts: list[str]) -> None:
    for kind in (datetime.timedelta, datetime.timedelta | None):
        both_ways(csv_format(v=kind), "".join(text + ",\n" for text in texts).encode(), ("v", "w"))


@examples(100)
@given(st.lists(st.text("AQgwz+/= -_", max_size=8), min_size=1, max_size=3))
def test_base64_both_ways_agrees(texts: list[str]) -> None:
    both_ways(csv_format(v=bytes), "".join(text + ",\n" for text in texts).encode(), ("v", "w"))


NUMBERS = ["1", "-0", "1.5", "1e2", "1E400", "9223372036854775808", "01", "NaN"]
STRINGS = ['"a"', '"1"', '"true"', '"[1]"', '"\\ud800"', '"\\u0041"', '"\\u0000"']
ITEMS = st.sampled_from([*NUMBERS, *STRINGS, "null", "true", "[1]", "{}"])
VALUES = ITEMS | st.lists(ITEMS, max_size=3).map(lambda items: "[" + ", ".join(items) + "]")


@examples(80)
@given(st.lists(st.lists(st.tuples(st.sampled_from(["v", "s"]), VALUES), max_size=3), min_size=1, max_size=2))
def test_lists_both_ways_agree(records: list[list[tuple[str, str]]]) -> None:
    data = "".join("{" + ",".join(f'"{k}":{v}' for k, v in record) + "}\n" for record in records).encode()
    for item in (int, float, bool, str):
        both_ways(json_format(v=list[item]), data)  # type: ignore[valid-type]
        both_ways(json_format({"v": [item(1)]}, v=list[item | None] | None, s=str | None), data)
        both_ways(json_format({"v": [item(1)]}, v=list[item]), data)  # type: ignore[valid-type]


def test_lists_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    format = json_format(v=list[int | None] | None, f=list[float], b=list[bool], s=list[str])
    monkeypatch.setattr(format, "record", None)
    data = b'{"v":[1,null],"f":[1,2.5],"b":[],"s":["a",""]}\n{"v":null,"f":[],"b":[true],"s":[]}\n'
    assert format.parse(data, None).rows() == [([1, None], [1.0, 2.5], [], ["a", ""]), (None, [], [True], [])]


# -- many broken records


@pytest.mark.parametrize("share", [1, 2, 100, 1000])
@pytest.mark.parametrize("kind", ["json", "csv"])
def test_many_broken_records_cost_few_attempts(share: int, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    good, broken = ('{"v":"a"}\n', '{"v":1}\n') if kind == "json" else ("a,1\n", "a\n")
    data = "".join(broken if i % share == 0 else good for i in range(20_000)).encode()
    format = json_format(v=str) if kind == "json" else csv_format(v=str)
    attempts = _counting(format, monkeypatch)
    examined = format.examine(data, ("v", "w"))
    assert [record.ordinal for record in examined.bad] == list(range(0, 20_000, share))
    assert [record.line for record in examined.bad] == list(range(0, 20_000, share))
    assert examined.rows["v"].to_list() == ["a"] * (20_000 - len(examined.bad))
    assert attempts() <= 2 * 20_000 // 500


def test_a_broken_record_costs_few_that_are_looked_at_singly(monkeypatch: pytest.MonkeyPatch) -> None:
    format = json_format(v=str)
    data = b"".join(b'{"v":1}\n' if i == 12_345 else b'{"v":"a"}\n' for i in range(20_000))
    looked_at = []
    record = format.record
    monkeypatch.setattr(format, "record", lambda text, layout: (looked_at.append(text), record(text, layout))[1])
    assert [record.ordinal for record in format.examine(data, None).bad] == [12_345]
    assert len(looked_at) <= 1000


def test_every_record_is_looked_at_once_where_none_is_read_by_polars(monkeypatch: pytest.MonkeyPatch) -> None:
    format = json_format(v=Json)
    attempts = _counting(format, monkeypatch)
    examined = format.examine(b'{"v":1}\n{}\n' * 3000, None)
    assert (examined.rows.height, len(examined.bad), attempts()) == (3000, 3000, 0)


def _counting(format: Format, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    calls: list[Any] = []
    parse = format.parse
    monkeypatch.setattr(format, "parse", lambda data, layout: (calls.append(None), parse(data, layout))[1])
    return lambda: len(calls)


def test_indented_and_blank_lines() -> None:
    data = b'  {"v":"a"}\n \n\r\n\t{"v":1}\n\n{"v":"b"}\r\n   \n'
    examined = json_format(v=str).examine(data, None)
    assert examined.rows["v"].to_list() == ["a", "b"]
    assert [(record.ordinal, record.line, record.text) for record in examined.bad] == [(1, 3, b'\t{"v":1}')]
