"""Rows that are there while a function has not answered for them yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from asyncpersist.columnar.arrangement import Arrangement
from asyncpersist.columnar.consolidate import consolidate
from asyncpersist.columnar.delta import ID, WEIGHT, Delta
from asyncpersist.columnar.hashing import hash_columns
from asyncpersist.columnar.state import Increment
from asyncpersist.operators.remembered import ARGUMENTS

__all__ = ["Waiting"]

Slots = npt.NDArray[np.int64]
Weights = npt.NDArray[np.int64]

_KEY = (ID, ARGUMENTS)
_REST = "__rest"


class Waiting:
    """Whole rows with weights, to be found by `ID` and a 128-bit hash of their arguments. A `State`.

    `columns` are the rows' own, those of the arguments among them.
    """

    def __init__(self, columns: Mapping[str, pl.DataType], *, hash_bits: int = 64) -> None:
        self._columns = [*columns, *_KEY]
        schema = {**columns, **dict.fromkeys(_KEY, pl.UInt128())}
        self._rows = Arrangement(schema, hashed=_KEY, hash_bits=hash_bits)

    def has(self, keys: pl.DataFrame) -> npt.NDArray[np.bool_]:
        """Whether a row waits under each of these keys."""
        found = np.zeros(keys.height, np.bool_)
        if self._rows.live:
            positions, _ = self._rows.alike(keys)
            found[positions] = True
        return found

    def add(self, rows: pl.DataFrame, weights: Weights) -> None:
        """Rows come and go; they may repeat. Raises `NotThere` where more is taken back than was there."""
        change = consolidate(Delta(rows.select(self._columns), weights))
        if change.is_empty():
            return
        hashes = self._rows.hashes(change.rows)
        order = np.argsort(hashes)
        slots = self._rows.claim(change.rows[order], hashes[order])
        self._rows.add(slots, np.ones(len(order), np.int64) if change.weights is None else change.weights[order])
        self._collect()

    def take(self, keys: pl.DataFrame) -> tuple[Slots, pl.DataFrame]:
        """The rows that wait under distinct keys, which then do so no longer: the position of the key, and the row.

        With their `WEIGHT`, ordered by `ID`.
        """
        positions, slots = self._rows.alike(keys)
        rows = self._weighted(slots)
        self._rows.add(slots, -self._rows.weights[slots])
        self._collect()
        by = rows.select(_KEY)
        if len(np.unique(positions)) < len(positions):
            # An order that does not depend on that of arrival.
            by = by.with_columns(pl.Series(_REST, hash_columns(rows, rows.columns)))
        order = by.select(pl.arg_sort_by(by.columns)).to_series().to_numpy()
        return positions[order], rows[order]

    def calls(self, arguments: Sequence[str]) -> pl.DataFrame:
        """What is to be called for, each key once: the key's columns and those of the arguments; ordered by `ID`."""
        live = np.flatnonzero(self._rows.weights > 0)
        columns = list(dict.fromkeys([*_KEY, *arguments]))
        return self._rows.rows.gather(live, columns).unique(_KEY, keep="any").sort(_KEY)

    @property
    def key(self) -> tuple[str, ...]:
        return tuple(self._columns)

    def capture(self) -> Increment | None:
        slots, complete = self._rows.take_touched()
        if not (len(slots) or complete):
            return None
        return Increment(self._weighted(slots), complete)

    def load(self, frame: pl.DataFrame) -> None:
        self._rows.load(frame, frame[WEIGHT].to_numpy())

    def _weighted(self, slots: Slots) -> pl.DataFrame:
        return self._rows.rows.gather(slots).with_columns(pl.Series(WEIGHT, self._rows.weights[slots]))

    def _collect(self) -> None:
        if self._rows.wasteful:
            self._rows.compact(self._rows.removable())
