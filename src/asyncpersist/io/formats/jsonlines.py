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
from asyncpersist.io.formats.exact_csv import read_csv
from asyncpersist.io.formats.format import Broken, Format, frame_of
from asyncpersist.io.formats.slices import slices
from asyncpersist.io.formats.text_columns import from_texts
from asyncpersist.io.formats.values import from_json, json_of, stored

__all__ = ["JsonLines"]

_FAST = {"int", "float", "bool", "str", "naive_datetime", "utc_datetime"}
_FAST_ITEMS = {"int", "float", "bool", "str"}
_AS_TEXT = {"str", "naive_datetime", "utc_datetime"}

# Polars writes values that are no strings as text into a string column, and half of a surrogate pair as NUL.
_SUSPECT = r"^[-0-9\[{]|^true$|^false$|\x00"


_FIRST = [b"", b"{", b" ", b"\t", b"\r", b"\n"]
"""What lines that fit begin with."""


class JsonLines(Format):
    """`defaults` holds the defaults of those columns that have one."""

    one_per_line = True
    blanks = b" \t\r\n"

    def __init__(self, columns: Mapping[str, DType], defaults: Mapping[str, Any]) -> None:
        self.columns = dict(columns)
        self._defaults = {name: stored(value, self.columns[name]) for name, value in defaults.items()}
        self._schema = {n: pl.String() if t.kind in _AS_TEXT else t.polars for n, t in self.columns.items()}
        self.in_columns = all(_is_fast(t) for t in self.columns.values())
        self._strings = [n for n, t in self.columns.items() if t.kind == "str"]

    def definition(self) -> dict[str, Any]:
        return {"format": "jsonlines"}

    def parse(self, data: bytes, layout: Any) -> pl.DataFrame:
        if not self.in_columns:
            return self._record_by_record(data)
        if data[:1] not in _FIRST:
            raise Broken  # and Polars might take it for compression
        try:
            rows = pl.read_ndjson(data, schema=self._schema)
        except (pl.exceptions.PolarsError, OSError) as exc:
            raise Broken from exc
        changed = []
        for name, dtype in self.columns.items():
            column = rows[name]
            if dtype.kind == "list" and not self._is_certain(column, dtype):
                return self._record_by_record(data)
            if column.null_count() and not (dtype.optional and name not in self._defaults):
                if dtype.optional or name not in self._defaults:
                    raise Broken  # only the text tells whether a key is missing
                changed.append(self._filled(column, dtype))
            elif dtype.kind.endswith("datetime"):
                changed.append(from_texts(column, dtype))
        return rows.with_columns(changed) if changed else rows

    def _filled(self, column: pl.Series, dtype: DType) -> pl.Series:
        known = from_texts(column, dtype) if dtype.kind.endswith("datetime") else column
        default = pl.Series([self._defaults[column.name]], dtype=dtype.polars)
        return known.fill_null(default[0])

    def _is_certain(self, column: pl.Series, dtype: DType) -> bool:
        """Whether a column of lists holds nothing that Polars may have misread, and no None that must not be."""
        if column.null_count() and not (dtype.optional and column.name not in self._defaults):
            return False
        items = column.drop_nulls().list.explode(empty_as_null=False)
        if items.null_count() and not dtype.args[0].optional:
            return False
        return dtype.args[0].kind != "str" or not items.str.contains(_SUSPECT).any()

    def _record_by_record(self, data: bytes) -> pl.DataFrame:
        records = self.records(data)
        frames = [frame_of(self.columns, [])]
        for i, j in slices(records.ends):
            frames.append(frame_of(self.columns, [self.record(records.between(k, k + 1), None) for k in range(i, j)]))
        return pl.concat(frames, rechunk=True)

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
        return self.in_columns and any(rows[name].str.contains(_SUSPECT).any() for name in self._strings)

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


def _is_fast(dtype: DType) -> bool:
    """Whether Polars reads the type as it is to be read, or it can be told where it does not."""
    return dtype.kind in _FAST or (dtype.kind == "list" and dtype.args[0].kind in _FAST_ITEMS)


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
    lines = read_csv(data, {"line": pl.String()}, separator="\x01", quote=None)["line"]
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
