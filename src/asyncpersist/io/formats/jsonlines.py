"""JSON Lines: one JSON object a line, in UTF-8. Blank lines are skipped.

A key that is missing and one that is null are None, or the column's default if it has one (in an optional
column: only where the key is missing). Other keys are ignored; of equal keys the first counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from asyncpersist.dtypes import DType
from asyncpersist.io.formats.datetimes import to_datetimes
from asyncpersist.io.formats.format import Broken, Format, Records, frame_of
from asyncpersist.io.formats.values import from_json, json_of, stored

__all__ = ["JsonLines"]

_FAST = {"int", "float", "bool", "str", "naive_datetime", "utc_datetime"}
_AS_TEXT = {"str", "naive_datetime", "utc_datetime"}

# Polars writes values that are no strings as text into a string column, and half of a surrogate pair as NUL.
_SUSPECT = r"^[-0-9\[{]|^true$|^false$|\x00"


class JsonLines(Format):
    """`defaults` holds the defaults of those columns that have one."""

    one_per_line = True

    def __init__(self, columns: Mapping[str, DType], defaults: Mapping[str, Any]) -> None:
        self.columns = dict(columns)
        self._defaults = {name: stored(value, self.columns[name]) for name, value in defaults.items()}
        self._schema = {n: pl.String() if t.kind in _AS_TEXT else t.polars for n, t in self.columns.items()}
        self._fast = all(t.kind in _FAST for t in self.columns.values())
        self._strings = [n for n, t in self.columns.items() if t.kind == "str"]

    def definition(self) -> dict[str, Any]:
        return {"format": "jsonlines"}

    def is_blank(self, text: bytes) -> bool:
        return not text.strip(b" \t\r\n")

    def parse(self, data: bytes, layout: Any) -> pl.DataFrame:
        if not self._fast:
            return self._parse_slowly(self.records(data))
        try:
            rows = pl.read_ndjson(data, schema=self._schema)
        except pl.exceptions.PolarsError as exc:
            raise Broken from exc
        changed = []
        for name, dtype in self.columns.items():
            column = rows[name]
            if column.null_count() and not (dtype.optional and name not in self._defaults):
                if dtype.optional or name not in self._defaults:
                    raise Broken  # only the text tells whether a key is missing
                changed.append(self._filled(column, dtype))
            elif dtype.kind.endswith("datetime"):
                changed.append(to_datetimes(column, dtype))
        return rows.with_columns(changed) if changed else rows

    def _filled(self, column: pl.Series, dtype: DType) -> pl.Series:
        known = to_datetimes(column, dtype) if dtype.kind.endswith("datetime") else column
        default = pl.Series([self._defaults[column.name]], dtype=dtype.polars)
        return known.fill_null(default[0])

    def _parse_slowly(self, records: Records) -> pl.DataFrame:
        rows = [self.record(records.between(i, i + 1), None) for i in range(len(records))]
        return frame_of(self.columns, rows)

    def record(self, text: bytes, layout: Any) -> Sequence[Any]:
        value = _decode(text)
        if not isinstance(value, dict):
            raise Broken("expected a JSON object")
        return [self._value(value, name, dtype) for name, dtype in self.columns.items()]

    def _value(self, record: dict[str, Any], name: str, dtype: DType) -> Any:
        value = record.get(name)
        if value is None:
            if name in self._defaults and not (dtype.optional and name in record):
                return self._defaults[name]
            if dtype.optional:
                return None
            if dtype.kind != "json" or name not in record:
                missing = "got null" if name in record else f"the key is missing (there are {list(record)})"
                raise Broken(f"column {name!r}: expected {dtype}, {missing}")
        try:
            return from_json(value, dtype)
        except Broken as exc:
            raise Broken(f"column {name!r}: {exc}") from exc

    def is_doubtful(self, rows: pl.DataFrame) -> bool:
        return self._fast and any(rows[name].str.contains(_SUSPECT).any() for name in self._strings)

    def confirm(self, data: bytes, rows: pl.DataFrame) -> None:
        lines: pl.Series | None = None
        for name in self._strings:
            if _only_strings(data, name):
                continue
            suspect = rows[name].str.contains(_SUSPECT).fill_null(False)
            if not suspect.any():
                continue
            if lines is None:
                lines = _lines(data, rows.height)
            _confirm_each(lines.filter(suspect), name)


def _decode(text: bytes) -> Any:
    try:
        decoded = text.decode()
    except UnicodeDecodeError as exc:
        raise Broken(f"not valid UTF-8: {exc}") from exc
    return json_of(decoded)


def _only_strings(data: bytes, name: str) -> bool:
    """Whether it can be told by counting that the key, wherever it stands, has a string (or null) for a
    value.
    """
    key = json.dumps(name, ensure_ascii=False).encode()
    if b"\\" in key or b"/" in key or (b"\\" in data and b"\\u" in data):
        return False  # keys can be spelled in several ways
    text = pl.Series([data], dtype=pl.Binary()).cast(pl.String())
    strings = _pattern(name) + r':\s*(?:"|null)'
    return bool((text.str.count_matches(key.decode(), literal=True) == text.str.count_matches(strings)).all())


def _pattern(name: str) -> str:
    """A regular expression for the key as it is usually spelled."""
    return "(?:" + "".join(f"\\x{{{ord(c):X}}}" for c in json.dumps(name, ensure_ascii=False)) + ")"


def _lines(data: bytes, height: int) -> pl.Series:
    """The lines that are not blank; no raw control character other than white space occurs in JSON that could
    be parsed.
    """
    frame = pl.read_csv(
        data, has_header=False, schema={"line": pl.String()}, separator="\x01", quote_char=None, raise_if_empty=False
    )
    lines = frame["line"]
    lines = lines.filter(lines.fill_null("").str.strip_chars() != "")
    if len(lines) != height:
        raise Broken
    return lines


def _confirm_each(lines: pl.Series, name: str) -> None:
    """Raises `Broken` if the value under the key is no proper string in one of the lines."""
    # Where the key stands once in the whole line and nothing is escaped, what follows it is its value.
    key = _pattern(name) + r"\s*:"
    sure = (lines.str.count_matches(key) == 1) & lines.str.contains(key + r'\s*"') & ~lines.str.contains(r"\\[u/]")
    for text in lines.filter(~sure).to_list():
        value = _decode(text.encode())
        if not isinstance(value, dict):
            raise Broken
        from_json(value.get(name), DType("str"))
