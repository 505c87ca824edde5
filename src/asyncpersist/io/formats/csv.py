"""CSV with a header, in UTF-8 or another encoding. Columns are taken by name; others in the file are ignored.

An empty field is None in an optional column, else the column's default, else an empty string in a `str`
column and an error in any other. In `str` columns two quotes with nothing between are an empty string and no
empty field; in columns of numbers a field of white space is empty. A column the header lacks has its default in
every row. Blank lines are skipped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import polars as pl

from asyncpersist.dtypes import DType
from asyncpersist.io.byte_counts import has_lone_return
from asyncpersist.io.formats.csv_records import CsvParserSettings, RecordSyntax
from asyncpersist.io.formats.encoding import Encoding
from asyncpersist.io.formats.exact_csv import read_csv
from asyncpersist.io.formats.format import Broken, Format, Head, Records
from asyncpersist.io.formats.text_columns import from_texts
from asyncpersist.io.formats.values import from_text, stored

__all__ = ["Csv"]

_TYPED = {"int": pl.Int64(), "float": pl.Float64()}

_DELIMITERS = ",;\t|"
"""Those that a file may well have in the place of the one it should have."""


class Csv(Format):
    """`defaults` holds the defaults of those columns that have one. A file's layout is the names in its
    header. Raises what `Encoding` raises.
    """

    def __init__(
        self,
        columns: Mapping[str, DType],
        defaults: Mapping[str, Any],
        settings: CsvParserSettings,
        encoding: str = "utf-8",
    ) -> None:
        self.columns = dict(columns)
        self._defaults = {name: stored(value, self.columns[name]) for name, value in defaults.items()}
        self._settings = settings
        self._syntax = RecordSyntax(settings)
        self._encoding = Encoding(encoding, structure=settings.characters())
        self._other_delimiters = [other for other in _DELIMITERS if other not in settings.characters() + settings.quote]

    def definition(self) -> dict[str, Any]:
        definition = {"format": "csv", "csv_settings": asdict(self._settings)}
        return definition if self._encoding.is_utf_8 else {**definition, "encoding": self._encoding.name}

    def head(self, start: bytes, *, complete: bool) -> Head | None:
        bom = super().head(start, complete=complete) if self._encoding.is_utf_8 else Head(0)
        if bom is None:
            return None
        length = bom.length
        while True:
            text = start[length:]
            end = self._first(text)
            if not end:
                self._refuse_returns(text)
                if not complete:
                    return None
                end = len(text)
            line = text[:end]
            length += end
            if not line:
                return Head(length)
            if len(self._syntax.records(line)):
                return Head(length, self._header(line))

    def _first(self, text: bytes) -> int:
        """The length of the first whole record (or blank or comment line), 0 if there is none."""
        at = 0
        while (at := text.find(b"\n", at) + 1) > 0:
            if end := self._syntax.cut(text[:at]):
                return end
        return 0

    def _refuse_returns(self, line: bytes) -> None:
        """Raises `Broken` if it is several lines."""
        if self._syntax.has_return(line):
            raise Broken(
                "there is a carriage return within the header. If lines end with it alone, convert the file first, "
                "e.g. with `tr '\\r' '\\n'`; if a column's name holds it, quote the name"
            )

    def _header(self, line: bytes) -> tuple[str, ...]:
        self._refuse_returns(line)
        names = self._names(self._syntax, line)
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise Broken(f"the header names {twice} more than once")
        missing = [name for name in self.columns if name not in names and name not in self._defaults]
        if missing:
            hint = self._delimiter_hint(line, missing) if len(names) == 1 else ""
            raise Broken(f"the header lacks the columns {missing} of the schema; there are {names}{hint}")
        return tuple(names)

    def _names(self, syntax: RecordSyntax, line: bytes) -> list[str]:
        try:
            return [self._encoding.decode(field or b"") for field in syntax.fields(line)]
        except Broken as exc:
            raise Broken(f"the header: {exc}") from exc

    def _delimiter_hint(self, header: bytes, missing: Sequence[str]) -> str:
        for delimiter in self._other_delimiters:
            with contextlib.suppress(Broken):
                other = RecordSyntax(replace(self._settings, delimiter=delimiter))
                if set(missing) <= set(self._names(other, header)):
                    return f". They are there with csv_settings=CsvParserSettings(delimiter={delimiter!r})"
        return ""

    def _length_hint(self, text: bytes, length: int) -> str:
        others = [other for other in self._other_delimiters if text.count(other.encode()) == length - 1]
        return f"; with the delimiter {others[0]!r} it would be {length}" if others else ""

    def cut(self, data: bytes) -> int:
        return self._syntax.cut(data)

    def records(self, data: bytes) -> Records:
        return self._syntax.records(data)

    def parse(self, data: bytes, layout: tuple[str, ...]) -> pl.DataFrame:
        data = self._encoding.to_utf_8(data)
        if not self._syntax.has_only_records(data) or not self._syntax.is_regular(data):
            raise Broken
        if has_lone_return(data):
            raise Broken  # Polars drops one that is all of a field
        kinds = [_TYPED.get(self.columns[n].kind, pl.String()) if n in self.columns else pl.String() for n in layout]
        # The last one, too: where it is None a record may be too short.
        used = [i for i, name in enumerate(layout) if name in self.columns or i == len(layout) - 1]
        frame = read_csv(
            data,
            {f"column_{i + 1}": kind for i, kind in enumerate(kinds)},
            separator=self._settings.delimiter,
            quote=self._settings.quote if self._settings.enable_quoting else None,
            columns=used,
        )
        by_name = {layout[i]: frame.to_series(k) for k, i in enumerate(used)}
        last = by_name[layout[-1]]
        if len(layout) == 1 and last.null_count():
            raise Broken
        # Polars takes fields that are missing for None, and ignores too many where it does not read all columns.
        short, long = last.null_count() > 0, len(used) < len(layout)
        if (short or long) and not self._syntax.have_fields(data, frame.height, len(layout), each=short and long):
            raise Broken
        columns = [self._column(name, dtype, by_name.get(name), frame.height) for name, dtype in self.columns.items()]
        return pl.DataFrame(columns)

    def _column(self, name: str, dtype: DType, column: pl.Series | None, height: int) -> pl.Series:
        if column is None:
            return pl.Series(name, [self._defaults[name]], dtype=dtype.polars).new_from_index(0, height)
        column = column.alias(name)
        if dtype.kind in _TYPED:
            known = column
        else:
            if dtype.kind != "str":
                empty = column == ""
                if empty.any():
                    column = column.set(empty, None)
            known = from_texts(column, dtype)
        if dtype.optional or not known.null_count():
            return known
        if name in self._defaults:
            return known.fill_null(pl.Series([self._defaults[name]], dtype=dtype.polars)[0])
        if dtype.kind == "str":
            return known.fill_null("")
        raise Broken

    def record(self, text: bytes, layout: tuple[str, ...]) -> Sequence[Any]:
        fields = self._syntax.fields(text)
        if len(fields) != len(layout):
            hint = self._length_hint(text, len(layout)) if len(fields) == 1 else ""
            raise Broken(f"expected {len(layout)} fields as in the header, got {len(fields)}{hint}")
        texts = [None if field is None else self._encoding.decode(field) for field in fields]
        by_name = dict(zip(layout, texts, strict=True))
        return [
            self._value(by_name[name], name, dtype) if name in by_name else self._defaults[name]
            for name, dtype in self.columns.items()
        ]

    def _value(self, text: str | None, name: str, dtype: DType) -> Any:
        empty = not text if dtype.kind not in _TYPED else not (text or "").strip(" \t")
        if text is None or (empty and dtype.kind != "str"):
            if dtype.optional:
                return None
            if name in self._defaults:
                return self._defaults[name]
            if dtype.kind == "str":
                return ""
            raise Broken(f"column {name!r}: expected {dtype}, got an empty field")
        try:
            return from_text(text, dtype)
        except Broken as exc:
            raise Broken(f"column {name!r}: {exc}") from exc
