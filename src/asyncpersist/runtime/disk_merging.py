"""A log that is too large for memory, compacted to the rows that still count: over the disk, bucket by bucket."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from asyncpersist.columnar import codec
from asyncpersist.columnar.delta import Delta
from asyncpersist.columnar.log_merging import Counting, MissingColumns, retracted_rows
from asyncpersist.runtime.overflow import Overflow

__all__ = ["DiskMerge", "Made"]

_GATHERED = 64 << 20
"""Bytes of rows in memory that are written to disk, or encoded, at once."""


@dataclass(frozen=True, slots=True)
class Made:
    """A log file, how many rows it holds, and how many of those have a negative weight."""

    data: bytes
    rows: int
    retracted: int


class DiskMerge:
    """Takes the files of a log in their order and gives others, each of about `base` bytes, for all of them.

    Blocks, though never for long: both `add` and `made` go on by a step at a time. Used by one thread at a time. The
    memory is that of a bucket of `overflow`, or of an object. `whole`: the first file is the oldest of the log.
    """

    def __init__(
        self, overflow: Overflow, counting: Counting, *, whole: bool, base: int, compression: codec.Compression
    ) -> None:
        self._overflow = overflow
        self._counting = counting
        self._whole = whole
        self._base = base
        self._compression = compression
        self._gathered: list[pl.DataFrame] = []
        self._size = self._epoch = 0
        self.rows = 0
        """How many were given."""
        self.retracted = 0
        """How many of them have a negative weight."""

    def add(self, data: bytes) -> Iterator[None]:
        """Takes the next file. Raises `ValueError`, `OSError`."""
        if not self._counting.fit(data):
            raise MissingColumns("a part of a log lacks a column of what is to be kept")
        for part in codec.parts(data):
            if part.height:
                rows = self._counting.normal(part)
                self.rows += rows.height
                self.retracted += retracted_rows(rows)
                self._epoch = max(self._epoch, int(rows.select(pl.col(codec.EPOCH).max()).item()))
                if self._gather(rows):
                    self._spill()
            yield

    def made(self) -> Iterator[Made | None]:
        """The files, once all are added; None is a step between two. Raises `OSError`."""
        if self._gathered:
            self._spill()
        files: list[bytes] = []
        rows = retracted = 0
        for bucket in self._overflow.meeting():
            counts = self._counting.reduce(bucket, whole=self._whole)
            rows += counts.height
            retracted += retracted_rows(counts)
            if self._gather(counts):
                files.append(self._encoded())
            if sum(map(len, files)) >= self._base:
                yield Made(codec.join(files), rows, retracted)
                files, rows, retracted = [], 0, 0
            else:
                yield None
        if self._gathered:
            files.append(self._encoded())
        if rows:
            yield Made(codec.join(files), rows, retracted)

    def _gather(self, rows: pl.DataFrame) -> bool:
        self._gathered.append(rows)
        self._size += int(rows.estimated_size())
        return self._size >= _GATHERED

    def _taken(self) -> pl.DataFrame:
        rows = pl.concat(self._gathered, rechunk=False)
        self._gathered, self._size = [], 0
        return rows

    def _spill(self) -> None:
        self._overflow.add(Delta.from_weighted(self._taken()))

    def _encoded(self) -> bytes:
        """What was gathered, under one epoch."""
        rows = self._taken()
        rows = rows.with_columns(pl.lit(self._epoch, dtype=pl.Int64).alias(codec.EPOCH))
        return codec.encode(rows, key=None, compression=self._compression)
