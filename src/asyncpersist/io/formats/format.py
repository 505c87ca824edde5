"""The contract of a file format: how bytes are cut into records and turned into columns.

A format has two ways. The fast one parses many records at once, in columns, and only says *that* something is
wrong. The careful one looks at single records and says what is wrong where; it decides, and the fast way may
never accept what it refuses or read it differently. `examine` finds by halving where the broken records are, so that
most of the good ones still go the fast way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from asyncpersist.dtypes import DType
from asyncpersist.io.formats.slices import slices

__all__ = ["BadRecord", "Broken", "Examined", "Format", "Head", "Records", "RowFile", "frame_of"]

_ONE_BY_ONE = 1000
"""Up to how many records are looked at one by one rather than halved again: that takes as long as a few calls of
`parse`."""

_NEWLINE = 10
_BOM = b"\xef\xbb\xbf"


class Broken(Exception):
    """These bytes hold something that does not fit. For a single record the message says what."""


@dataclass(frozen=True, slots=True)
class Head:
    """What precedes the records of a file: `length` bytes and what they say about the layout of the records."""

    length: int
    layout: Any = None


class BadRecord(msgspec.Struct, frozen=True, gc=False):
    """A record that does not fit: its place among the records, the newlines before it in the bytes, its text.

    There may be a million of them, which the garbage collector need not look at.
    """

    ordinal: int
    line: int
    text: bytes
    error: str


@dataclass(frozen=True, slots=True)
class Examined:
    """The good rows in order, how many records there are with the bad ones, and those."""

    rows: pl.DataFrame
    records: int
    bad: Sequence[BadRecord]


@dataclass(frozen=True, slots=True)
class Records:
    """Records laid end to end, each with its newline: `data[ends[i - 1]:ends[i]]`, and the newlines before
    each in the file's bytes.
    """

    data: bytes
    ends: npt.NDArray[np.int64]
    lines: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ends)

    def start(self, i: int) -> int:
        return int(self.ends[i - 1]) if i else 0

    def between(self, i: int, j: int) -> bytes:
        return self.data[self.start(i) : int(self.ends[j - 1])]

    def without(self, dropped: npt.NDArray[np.bool_]) -> Records:
        """Those that are not dropped."""
        if not dropped.any():
            return self
        lengths = np.diff(self.ends, prepend=0)
        data = np.frombuffer(self.data, np.uint8)[np.repeat(~dropped, lengths)].tobytes()
        return Records(data, np.cumsum(lengths[~dropped], dtype=np.int64), self.lines[~dropped])


class RowFile(ABC):
    """An open file that is read by rows rather than by bytes. Blocks; used by one thread at a time."""

    height: int
    """How many rows there are."""
    row_bytes: int
    """About how many bytes a row takes in memory, at least 1."""

    @abstractmethod
    def rows(self, start: int, count: int) -> pl.DataFrame:
        """Rows `start` to `start + count`, in exactly the format's columns. Raises `Broken`, `OSError`."""

    @abstractmethod
    def close(self) -> None:
        """Idempotent."""


class Format(ABC):
    """One format with its settings, for one schema. Holds no state; used from any thread.

    `data` is always whole records, the last one ended by a newline, of files with the same layout.
    """

    columns: Mapping[str, DType]
    whole_files: bool = False
    """Whether a file is one record, whatever is in it."""
    one_per_line: bool = False
    """Whether every line is a record of its own, so that equal lines are equal rows."""
    in_columns: bool = True
    """Whether `parse` is much faster than `record` for every record."""
    blanks: bytes = b""
    """The bytes of which a line consists that holds no record; if there are none, every line is a record."""

    by_rows: bool = False
    """Whether files are opened with `open_rows` and never cut by bytes; any change of one is a change of all of it."""

    def open_rows(self, path: str) -> RowFile:
        """The open file. Raises `Broken` if it cannot be read in this format and schema, `OSError`."""
        raise NotImplementedError

    @abstractmethod
    def definition(self) -> dict[str, Any]:
        """What of the format goes into a source's identity: plain JSON values."""

    def head(self, start: bytes, *, complete: bool) -> Head | None:
        """What a file begins with; None if more bytes are needed (never if `start` is all of it, `complete`).

        Raises `Broken` if the file cannot be read in this format and schema.
        """
        if len(start) < len(_BOM) and _BOM.startswith(start) and not complete:
            return None
        return Head(len(_BOM) if start.startswith(_BOM) else 0)

    def cut(self, data: bytes) -> int:
        """How many of these bytes, which start with a record, are whole records."""
        return data.rfind(b"\n") + 1

    @abstractmethod
    def parse(self, data: bytes, layout: Any) -> pl.DataFrame:
        """All the rows, the fast way, except for what `is_doubtful` is for. Raises `Broken`."""

    def is_doubtful(self, rows: pl.DataFrame) -> bool:
        """Whether rows that `parse` gave may be misread, judged by the rows alone (any that include each
        different one).
        """
        return False

    def confirm(self, data: bytes, rows: pl.DataFrame) -> None:  # noqa: B027
        """Raises `Broken` if `parse` misread these bytes as these rows."""

    @abstractmethod
    def record(self, text: bytes, layout: Any) -> Sequence[Any]:
        """The values of one record, in the order of the columns. Raises `Broken`, saying why."""

    def records(self, data: bytes) -> Records:
        """The records in these bytes: here, the lines that are not blank."""
        buffer = np.frombuffer(data, np.uint8)
        ends = np.flatnonzero(buffer == _NEWLINE).astype(np.int64) + 1
        lines = Records(data, ends, np.arange(len(ends), dtype=np.int64))
        blank = np.zeros(len(ends), bool)
        if self.blanks:
            starts = np.concatenate([np.zeros(1, np.int64), ends])[: len(ends)]
            for i in map(int, np.flatnonzero(np.isin(buffer[starts], np.frombuffer(self.blanks, np.uint8)))):
                blank[i] = not lines.between(i, i + 1).strip(self.blanks)
        return lines.without(blank)

    def examine(self, data: bytes, layout: Any) -> Examined:
        """Every record judged; slow only near those that are broken."""
        records = self.records(data)
        frames = [pl.DataFrame(schema=_schema(self.columns))]
        bad: list[BadRecord] = []
        todo = [(0, len(records))] if len(records) else []
        while todo:
            i, j = todo.pop()
            rows = self._in_columns(records, i, j, layout) if self.in_columns else None
            if rows is not None:
                frames.append(rows)
            elif self.in_columns and j - i > _ONE_BY_ONE:
                middle = (i + j) // 2
                todo += [(middle, j), (i, middle)]
            else:
                frames += self._one_by_one(records, i, j, layout, bad)
        return Examined(pl.concat(frames, rechunk=True), len(records), bad)

    def _in_columns(self, records: Records, i: int, j: int, layout: Any) -> pl.DataFrame | None:
        """None if one of the records is broken."""
        text = records.between(i, j)
        try:
            rows = self.parse(text, layout)
            if rows.height != j - i:
                return None
            if self.is_doubtful(rows):
                self.confirm(text, rows)
        except Broken:
            return None
        return rows

    def _one_by_one(
        self, records: Records, i: int, j: int, layout: Any, bad: list[BadRecord]
    ) -> Iterator[pl.DataFrame]:
        for a, b in slices(records.ends[i:j] - records.start(i)):
            good = []
            for k in range(i + a, i + b):
                text = records.between(k, k + 1)
                try:
                    good.append(self.record(text, layout))
                except Broken as exc:
                    bad.append(BadRecord(k, int(records.lines[k]), text.rstrip(b"\r\n"), str(exc)))
            yield frame_of(self.columns, good)


def frame_of(columns: Mapping[str, DType], rows: Sequence[Sequence[Any]]) -> pl.DataFrame:
    """Rows of Python values as columns."""
    if not rows:
        return pl.DataFrame(schema=_schema(columns))
    values = zip(*rows, strict=True)
    return pl.DataFrame(
        [
            pl.Series(name, list(column), dtype=dtype.polars, strict=True)
            for (name, dtype), column in zip(columns.items(), values, strict=True)
        ]
    )


def _schema(columns: Mapping[str, DType]) -> dict[str, pl.DataType]:
    return {name: dtype.polars for name, dtype in columns.items()}
