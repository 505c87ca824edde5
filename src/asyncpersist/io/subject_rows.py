"""Rows as a subject gives them, as columns: what it left out filled in, what does not fit named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from asyncpersist.columnar.python_values import Misfit, column_of, fitted
from asyncpersist.dtypes import DType
from asyncpersist.errors import MalformedInput

__all__ = ["OFFSET", "Piece", "Removed", "RowShape"]

OFFSET: Any = None
"""The key under which a row carries the subject's offset after it: no column's name. A pair of the two would be one
more object for the garbage collector to follow, by the million.
"""

_CELLS = 2048
_FEWEST_ROWS = 64


class Removed(dict[str, Any]):
    """A row to be taken back."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows in their order, in the columns of the schema. `weights`: None means 1 for every row.

    `size` is their weight in bytes against the bounds on memory; `offset` that of the subject after them.
    """

    rows: pl.DataFrame
    weights: npt.NDArray[np.int64] | None
    size: int
    offset: Any


class RowShape:
    """The columns of a subject's schema. `where` says in messages whose they are; used from any thread."""

    def __init__(
        self, columns: Mapping[str, DType], defaults: Mapping[str, Any], primary_key: Sequence[str], *, where: str
    ) -> None:
        self.where = where
        self.columns = dict(columns)
        self._filling: dict[str, Any] = {name: None for name, dtype in columns.items() if dtype.optional}
        self._filling |= {name: value for name, value in defaults.items() if name in columns}
        self._key = frozenset(primary_key)
        self._blank = {name: None for name in columns if name not in self._key} if primary_key else {}
        self.piece_rows = max(_FEWEST_ROWS, _CELLS // max(1, len(columns)))
        """How many rows are turned into columns at once: so few that it takes a fraction of a millisecond."""

    def removed(self, row: dict[str, Any]) -> Removed:
        """A row to be taken back; of one with a primary key only the key matters."""
        return Removed({**self._blank, **row})

    def piece(self, rows: Sequence[dict[str, Any]], *, offsets: bool = False) -> Piece:
        """Rows as columns, at least one; those that are `Removed` get the weight -1. `offsets`: each has an `OFFSET`.

        Raises `MalformedInput`, naming the column and the value.
        """
        offset = rows[-1][OFFSET] if offsets else None
        weights: npt.NDArray[np.int64] | None = None
        if Removed in set(map(type, rows)):
            weights = np.array([-1 if type(row) is Removed else 1 for row in rows], np.int64)
        whole: Sequence[dict[str, Any]] = rows
        if set(map(len, rows)) != {len(self.columns) + offsets}:
            whole = [self._filled(row) for row in rows]
        try:
            frame = self._frame(whole, weights)
        except KeyError:
            frame = self._frame([self._filled(row) for row in rows], weights)
        return _weighed(frame, weights, offset)

    def pieces(self, rows: Any, offset: Any) -> list[Piece]:
        """What `next_batch` takes, as columns. Raises `MalformedInput`, and `TypeError` for what it does not take."""
        if isinstance(rows, (list, tuple)):
            if strange := [row for row in rows if not isinstance(row, dict)]:
                raise TypeError(f"{self.where}: next_batch takes a list of dicts; {_short(strange[0])} is none")
            size = self.piece_rows
            pieces = [self.piece(rows[start : start + size]) for start in range(0, len(rows), size)]
            return [replace(piece, offset=offset) for piece in pieces]
        if isinstance(rows, pl.LazyFrame) or not (
            isinstance(rows, pl.DataFrame) or hasattr(rows, "__arrow_c_stream__")
        ):
            raise TypeError(
                f"{self.where}: next_batch takes a list of dicts, a Polars DataFrame or an Arrow table, "
                f"not {_short(rows)}"
            )
        frame = rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(rows)
        return [_weighed(self._fitted(frame), None, offset)] if frame.height else []

    def _frame(self, rows: Sequence[dict[str, Any]], weights: npt.NDArray[np.int64] | None) -> pl.DataFrame:
        series = []
        for name, dtype in self.columns.items():
            values = list(map(itemgetter(name), rows))
            spared = weights is not None and name in self._blank and not dtype.optional
            try:
                column = column_of(name, dtype.as_optional() if spared else dtype, values)
                if spared and (lacking := np.flatnonzero(column.is_null().to_numpy() & (weights == 1))).size:
                    raise Misfit(int(lacking[0]), f"expected {dtype}, got None")
            except Misfit as exc:
                raise self._malformed(name, exc, rows[exc.index]) from exc
            series.append(column)
        return pl.DataFrame(series)

    def _fitted(self, frame: pl.DataFrame) -> pl.DataFrame:
        if strange := [name for name in frame.columns if name not in self.columns]:
            raise MalformedInput(self._strange(strange[0]))
        series = []
        for name, dtype in self.columns.items():
            if name not in frame.columns:
                if name not in self._filling:
                    raise MalformedInput(self._lacking(name))
                one = column_of(name, dtype, [self._filling[name]])
                series.append(one.new_from_index(0, frame.height))
                continue
            try:
                series.append(fitted(frame[name], dtype))
            except Misfit as exc:
                raise self._malformed(name, exc, frame.row(exc.index, named=True)) from exc
        return pl.DataFrame(series)

    def _filled(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row with what it left out. Raises `MalformedInput` if that has no default, and for what is no column."""
        found = {**self._filling, **row}
        found.pop(OFFSET, None)
        if found.keys() != self.columns.keys():
            for name in found:
                if name not in self.columns:
                    raise MalformedInput(f"{self._strange(name)} The row: {_shown(row)}")
            name = next(name for name in self.columns if name not in found)
            raise MalformedInput(f"{self._lacking(name)} The row: {_shown(row)}")
        return found

    def _strange(self, name: object) -> str:
        return f"{self.where}: a row has {name!r}, which is no column. There are: {', '.join(self.columns)}."

    def _lacking(self, name: str) -> str:
        return f"{self.where}: a row lacks the column {name!r}, which has no default. Pass it, or give it one."

    def _malformed(self, name: str, exc: Misfit, row: dict[str, Any]) -> MalformedInput:
        ordered = {column: row[column] for column in self.columns if column in row}
        return MalformedInput(f"{self.where}: column {name!r}: {exc}. The row: {_shown(ordered)}")


def _weighed(rows: pl.DataFrame, weights: npt.NDArray[np.int64] | None, offset: Any) -> Piece:
    return Piece(rows, weights, int(rows.estimated_size()) + 16 * rows.height, offset)


def _shown(row: dict[str, Any]) -> str:
    return _short({name: value for name, value in row.items() if name is not OFFSET})


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:197] + "..."
