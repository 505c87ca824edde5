"""The contract of a file format: how bytes are cut into records and turned into columns.

A format has two ways. The fast one parses many records at once, in columns, and only says *that* something is
wrong. The careful one looks at single records and says what is wrong where; it decides, and the fast way may
never accept what it refuses or read it differently. `examine` finds the broken records by halving, so that
the good ones still go the fast way.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from asyncpersist.dtypes import DType

__all__ = ["BadRecord", "Broken", "Examined", "Format", "Head", "Records", "RowFile", "frame_of"]

_ONE_BY_ONE = 16
"""Up to how many records are looked at one by one rather than halved again."""

_NEWLINE = 10
_BOM = b"\xef\xbb\xbf"


class Broken(Exception):
    """These bytes hold something that does not fit. For a single record the message says what."""


@dataclass(frozen=True, slots=True)
class Head:
    """What precedes the records of a file: `length` bytes and what they say about the layout of the records."""

    length: int
    layout: Any = None


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that does not fit: its place among the records, the newlines before it in the bytes, its text."""

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

    def is_blank(self, text: bytes) -> bool:
        """Whether a line holds no record."""
        return False

    def records(self, data: bytes) -> Records:
        """The records in these bytes: here, the lines that are not blank."""
        ends = np.flatnonzero(np.frombuffer(data, np.uint8) == _NEWLINE).astype(np.int64) + 1
        lines = np.arange(len(ends), dtype=np.int64)
        edges = [0, *ends.tolist()]
        blank = [self.is_blank(data[a:b]) for a, b in itertools.pairwise(edges)]
        if not any(blank):
            return Records(data, ends, lines)
        kept = ~np.array(blank)
        pieces = [data[edges[i] : edges[i + 1]] for i in np.flatnonzero(kept).tolist()]
        lengths = np.diff(ends, prepend=0)[kept]
        return Records(b"".join(pieces), np.cumsum(lengths, dtype=np.int64), lines[kept])

    def examine(self, data: bytes, layout: Any) -> Examined:
        """Every record judged; slow only near those that are broken."""
        records = self.records(data)
        frames: list[pl.DataFrame] = []
        bad: list[BadRecord] = []
        todo = [(0, len(records))] if len(records) else []
        while todo:
            i, j = todo.pop()
            try:
                text = records.between(i, j)
                rows = self.parse(text, layout)
                if rows.height != j - i:
                    raise Broken
                if self.is_doubtful(rows):
                    self.confirm(text, rows)
                frames.append(rows)
            except Broken:
                if j - i > _ONE_BY_ONE:
                    middle = (i + j) // 2
                    todo += [(middle, j), (i, middle)]
                else:
                    frames.append(self._one_by_one(records, i, j, layout, bad))
        rows = pl.concat(frames) if frames else pl.DataFrame(schema=_schema(self.columns))
        return Examined(rows, len(records), bad)

    def _one_by_one(self, records: Records, i: int, j: int, layout: Any, bad: list[BadRecord]) -> pl.DataFrame:
        good = []
        for k in range(i, j):
            text = records.between(k, k + 1)
            try:
                good.append(self.record(text, layout))
            except Broken as exc:
                bad.append(BadRecord(k, int(records.lines[k]), text.rstrip(b"\r\n"), str(exc)))
        return frame_of(self.columns, good)


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
