"""How the files of a log become fewer, and its rows those that still count."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from asyncpersist.columnar import codec
from asyncpersist.columnar.codec import EPOCH
from asyncpersist.columnar.delta import ORDER, WEIGHT

__all__ = ["Counting", "LogMerge", "Merged", "MissingColumns", "left_of", "merge_log", "retracted_rows"]

_SMALL = 256 << 10
"""Bytes of a file below which it becomes one with its neighbours where logs are put end to end."""
_TOGETHER = 2 << 20
"""Bytes of files that become one in this way."""
_HELD = 128 << 20
"""Bytes in memory at which what was merged so far is encoded."""
_WORTH = 0.75
"""The share of rows that may remain for a merge by rows to pay for itself."""
_SAMPLE = 1 << 17


class MissingColumns(ValueError):
    """A part of a log that lacks a column of what is to be kept."""


@dataclass(frozen=True, slots=True)
class Counting:
    """Which rows of a log still count.

    With `kept` "net", rows that are equal but for `EPOCH` count as one with the sum of their weights, and not at all if
    that is 0; with "latest", of the rows under `key` the one of the largest `ORDER`. `columns` of the log are kept
    besides `EPOCH` and `WEIGHT`, others are dropped.
    """

    columns: tuple[str, ...]
    kept: Literal["net", "latest"]
    key: tuple[str, ...] = ()

    @property
    def by(self) -> tuple[str, ...]:
        """The columns by which rows meet of which one counts."""
        return self.key if self.kept == "latest" else self.columns

    def fit(self, data: bytes) -> bool:
        """Whether all of a log file has the columns that are kept. Raises `ValueError`."""
        return all(set(self.columns) <= set(codec.columns(file)) for file in codec.files(data))

    def normal(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows of a file that fits with the columns that are kept, in one order."""
        return rows.select(*self.columns, WEIGHT, EPOCH)

    def reduce(self, rows: pl.DataFrame, *, whole: bool) -> pl.DataFrame:
        """Of normal rows those that count, in no particular order, all under their largest epoch.

        `whole`: nothing older remains, so that a latest row of negative weight hides nothing.
        """
        if not rows.height:
            return rows
        columns = rows.columns
        epoch = pl.lit(rows[EPOCH].max(), dtype=pl.Int64).alias(EPOCH)
        if self.kept == "latest":
            rows = rows.sort(ORDER, maintain_order=True).unique(subset=self.key, keep="last")
            rows = rows.filter(pl.col(WEIGHT) > 0) if whole else rows
        else:
            total = pl.col(WEIGHT).sum()
            rows = rows.group_by(self.columns).agg(total) if self.columns else rows.select(total)
            rows = rows.filter(pl.col(WEIGHT) != 0)
        return rows.with_columns(epoch).select(columns)


@dataclass(frozen=True, slots=True)
class Merged:
    """A log file. `saved`: how many rows fewer there are than there were; `retracted`: the same of those with a
    negative weight. `compacted`: rows of different epochs may have become one."""

    data: bytes
    saved: int = 0
    retracted: int = 0
    compacted: bool = False


class LogMerge:
    """Makes one file of several of a log, given in their order. Blocks; used by one thread at a time.

    With `counting` None, or where looking at the rows of the first two files saves less than a quarter of them, files
    are put end to end; small neighbours become one file, under their epochs. `whole`: the first file is the oldest of
    the log. `always`: rows are looked at in any case, and `MissingColumns` raised where that cannot be. Takes the
    memory of the files, or of the rows that count and one file.
    """

    def __init__(
        self,
        counting: Counting | None,
        *,
        whole: bool = False,
        always: bool = False,
        compression: codec.Compression = "zstd",
    ) -> None:
        self._counting = counting
        self._whole = whole
        self._always = always
        self._compression = compression
        self._undecided = counting is not None and not always
        self._files: list[bytes] = []
        """To be put end to end: as they were given, or what was held until then."""
        self._held: list[pl.DataFrame] = []
        self._held_bytes = self._reduced_bytes = 0
        self._reduced = True
        self._given = self._saved = self._retracted = self._added = 0
        self._compacted = False

    def add(self, data: bytes) -> Iterator[None]:
        """Takes the next file, by a step at a time. Raises `ValueError`."""
        if self._counting is not None and not self._counting.fit(data):
            if self._always:
                raise MissingColumns("a part of a log lacks a column of what is to be kept")
            self._give_up()
        if (counting := self._counting) is None:
            self._files.append(data)
            return
        self._added += 1
        if self._undecided:
            self._files.append(data)
        for rows in codec.parts(data):
            self._hold(counting.normal(rows))
            yield
        if self._undecided and self._added == 2:
            self._reduce()
            if self._saved < (1 - _WORTH) * self._given:
                self._give_up()
            else:
                self._undecided, self._files = False, []

    def finish(self) -> Merged:
        """The file. Raises `ValueError`."""
        if self._counting is not None and not self._undecided:
            self._reduce()
            self._spill(last=True)
            data = self._files[0] if len(self._files) == 1 else codec.join(self._files)
        else:
            data = _end_to_end(self._files, self._compression)
        return Merged(data, self._saved, self._retracted, self._compacted)

    def _hold(self, rows: pl.DataFrame) -> None:
        self._held.append(rows)
        self._reduced = False
        self._given += rows.height
        self._held_bytes += int(rows.estimated_size())
        if self._held_bytes > 2 * self._reduced_bytes + _TOGETHER:
            self._reduce()
            if self._held_bytes > _HELD and not (self._undecided or self._always):
                self._spill()

    def _reduce(self) -> None:
        assert self._counting is not None
        if not self._reduced:
            rows = pl.concat(self._held, rechunk=False)
            # What is encoded already may hold rows that a later one hides.
            reduced = self._counting.reduce(rows, whole=self._whole and (self._undecided or not self._files))
            self._saved += rows.height - reduced.height
            self._retracted += retracted_rows(rows) - retracted_rows(reduced)
            self._compacted = True
            self._held, self._held_bytes = [reduced], int(reduced.estimated_size())
            self._reduced_bytes, self._reduced = self._held_bytes, True

    def _spill(self, *, last: bool = False) -> None:
        if self._held and (self._held[0].height or (last and not self._files)):
            self._files.append(codec.encode(self._held[0], key=None, compression=self._compression))
        self._held, self._held_bytes, self._reduced_bytes = [], 0, 0

    def _give_up(self) -> None:
        """From here on, files are put end to end."""
        if self._undecided:
            self._saved = self._retracted = 0
            self._compacted = self._undecided = False
        else:
            self._reduce()
            self._spill()
        self._counting, self._held, self._reduced = None, [], True


def merge_log(
    data: Sequence[bytes],
    counting: Counting | None,
    *,
    whole: bool = False,
    always: bool = False,
    compression: codec.Compression = "zstd",
) -> Merged:
    """What a `LogMerge` makes of files. Raises `ValueError`."""
    merge = LogMerge(counting, whole=whole, always=always, compression=compression)
    for file in data:
        for _ in merge.add(file):
            pass
    return merge.finish()


def retracted_rows(rows: pl.DataFrame) -> int:
    """How many rows have a negative weight."""
    return int(rows.select((pl.col(WEIGHT) < 0).sum()).item()) if WEIGHT in rows.columns else 0


def left_of(first: bytes, second: bytes, rows: int, counting: Counting) -> float:
    """An estimate of the share of a log's `rows` that count, from two of its files. Raises `ValueError`.

    How many possible rows there are follows from how many of one sample are in another one, as with fish in a lake.
    """
    by = list(counting.by)
    one, other = (_sample(file, counting).select(by).unique() for file in (first, second))
    both = one.height + other.height - pl.concat([one, other]).n_unique()
    if not both:
        return 1.0
    possible = one.height * other.height / both
    return -possible * math.expm1(-rows / possible) / rows


def _sample(data: bytes, counting: Counting) -> pl.DataFrame:
    frames: list[pl.DataFrame] = []
    for rows in codec.parts(data):
        frames.append(counting.normal(rows).gather_every(max(1, rows.height // _SAMPLE)))
        if sum(frame.height for frame in frames) >= _SAMPLE:
            break
    return pl.concat(frames)


def _end_to_end(data: Sequence[bytes], compression: codec.Compression) -> bytes:
    """One file of several; small neighbours with the same columns become one."""
    pieces = [piece for file in data for piece in codec.files(file)]
    if not pieces:
        raise ValueError("nothing to merge")
    made = [_one(group, compression) for group in _groups(pieces)]
    return bytes(made[0]) if len(made) == 1 else codec.join(made)


def _groups(pieces: Sequence[memoryview]) -> Iterator[list[memoryview]]:
    group: list[memoryview] = []
    for piece in pieces:
        fits = piece.nbytes < _SMALL and sum(other.nbytes for other in group) < _TOGETHER
        if group and not (fits and group[0].nbytes < _SMALL and codec.columns(group[0]) == codec.columns(piece)):
            yield group
            group = []
        group.append(piece)
    yield group


def _one(group: Sequence[memoryview], compression: codec.Compression) -> memoryview | bytes:
    if len(group) == 1:
        return group[0]
    rows = pl.concat([frame for piece in group for frame in codec.parts(piece)], rechunk=False)
    return codec.encode(rows, key=None, compression=compression)
