"""Parquet, read by rows. Columns are taken by name; others in the file are ignored and not read.

What a column's values may be is said in `parquet_columns`. None in a column that is not optional is the column's
default, else an error. A column that the file lacks has its default in every row.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import polars as pl

from asyncpersist.dtypes import DType
from asyncpersist.io.formats.format import Broken, Format, RowFile
from asyncpersist.io.formats.parquet_columns import Misfit, accepts, fitted
from asyncpersist.io.formats.values import stored

__all__ = ["Parquet"]

_IN_MEMORY = 64 << 20
"""Bytes of a file that is read as a whole before it is parsed. A larger one is mapped into memory: if it is cut
meanwhile, the system may end the process."""

_SAMPLE = 1024
"""Rows that say how large rows are."""

_FAILURES = (pl.exceptions.PolarsError, pl.exceptions.PanicException)


class Parquet(Format):
    """`defaults` holds the defaults of those columns that have one."""

    by_rows = True

    def __init__(self, columns: Mapping[str, DType], defaults: Mapping[str, Any]) -> None:
        self.columns = dict(columns)
        self._defaults = {
            name: pl.Series([stored(value, self.columns[name])], dtype=self.columns[name].polars)
            for name, value in defaults.items()
        }

    def definition(self) -> dict[str, Any]:
        return {"format": "parquet"}

    def open_rows(self, path: str) -> RowFile:
        file = open(path, "rb", buffering=0)  # noqa: SIM115
        try:
            return _ParquetFile(file, self.columns, self._defaults)
        except BaseException:
            file.close()
            raise

    def parse(self, data: bytes, layout: Any) -> pl.DataFrame:
        raise Broken("a Parquet file cannot be cut by bytes")

    def record(self, text: bytes, layout: Any) -> Sequence[Any]:
        raise Broken("a Parquet file cannot be cut by bytes")


class _ParquetFile(RowFile):
    def __init__(self, file: BinaryIO, columns: Mapping[str, DType], defaults: Mapping[str, pl.Series]) -> None:
        self._file = file
        self._columns = columns
        self._defaults = defaults
        self._source = _source(file)
        try:
            found = pl.scan_parquet(self._source).collect_schema()
            self.height = pl.scan_parquet(self._source).select(pl.len()).collect().item()
        except _FAILURES as exc:
            raise Broken(f"it is no Parquet file that can be read: {exc}") from exc
        self._names = [name for name in columns if name in found]
        _refuse(columns, found, defaults)
        self._sample = self._read(0, _SAMPLE)
        self.row_bytes = max(1, int(self._sample.estimated_size()) // max(1, self._sample.height))

    def rows(self, start: int, count: int) -> pl.DataFrame:
        found = self._sample if self.height <= _SAMPLE else self._read(start, count)
        if self.height <= _SAMPLE:
            found = found.slice(start, count)
        if found.height != min(count, self.height - start):
            raise Broken(f"it has fewer rows than the {self.height} it says")
        return pl.DataFrame([self._column(name, found, start, found.height) for name in self._columns])

    def close(self) -> None:
        self._file.close()

    def _read(self, start: int, count: int) -> pl.DataFrame:
        if not self._names:
            return pl.DataFrame(height=max(0, min(count, self.height - start)))
        try:
            return pl.scan_parquet(self._source).select(self._names).slice(start, count).collect()
        except _FAILURES as exc:
            raise Broken(f"its rows {start + 1} and following cannot be read: {exc}") from exc

    def _column(self, name: str, found: pl.DataFrame, start: int, height: int) -> pl.Series:
        dtype, default = self._columns[name], self._defaults.get(name)
        if name not in found.columns:
            assert default is not None
            return default.alias(name).new_from_index(0, height)
        try:
            return fitted(found[name], dtype, default).alias(name)
        except Misfit as exc:
            raise Broken(f"column {name!r}, row {start + exc.row + 1}: {exc}") from exc


def _refuse(columns: Mapping[str, DType], found: Mapping[str, pl.DataType], defaults: Mapping[str, Any]) -> None:
    """Raises `Broken` for a column that is not there or is of a type that cannot be the schema's."""
    missing = [name for name in columns if name not in found and name not in defaults]
    if missing:
        raise Broken(f"it lacks the columns {missing} of the schema; there are {list(found)}")
    for name, dtype in columns.items():
        if name in found and not accepts(dtype, found[name]):
            raise Broken(f"column {name!r}: expected {dtype}, which its type {found[name]} cannot become without loss")


def _source(file: BinaryIO) -> Any:
    """What Polars reads: the bytes, or of a large file the open file."""
    size = os.fstat(file.fileno()).st_size
    return file.read(size) if size <= _IN_MEMORY else file
