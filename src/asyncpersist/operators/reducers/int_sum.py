"""Sums of integers and durations: exact, and an error where 64 bits do not hold one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from asyncpersist.columnar.slot_array import SlotArray
from asyncpersist.errors import RowError
from asyncpersist.operators.reducers.accumulator import Accumulator, Ints, Slots
from asyncpersist.operators.reducers.batch import Batch

__all__ = ["IntSum", "describe_group"]

_MIN, _MAX = -(2**63), 2**63 - 1
_SAFE = 2**62


class IntSum(Accumulator):
    """The sum of `column` times weights, without the Nones."""

    def __init__(self, column: str, keys: Sequence[str]) -> None:
        self.name = f"__sum:{column}"
        self._column = column
        self._keys = tuple(keys)
        self._sums = SlotArray(np.int64)

    def prepare(self, batch: Batch) -> Sequence[pl.Expr]:
        values = batch.rows[self._column].to_physical()
        least, most = values.min(), values.max()
        if not isinstance(least, int) or not isinstance(most, int):
            return [pl.lit(0, dtype=pl.Int64).alias(self.name)]
        # Polars wraps silently: sums that might not fit are taken in 128 bits.
        wide = max(-least, most) * batch.total >= _SAFE
        column = pl.col(self._column).to_physical().cast(pl.Int128 if wide else pl.Int64)
        return [batch.weighed(column).sum().alias(self.name)]

    def update(self, groups: pl.DataFrame, slots: Slots) -> None:
        before = self._sums.items[slots]
        partial = groups[self.name]
        if partial.dtype == pl.Int128:
            exact = pl.Series(before).cast(pl.Int128) + partial
            after = exact.cast(pl.Int64, strict=False)
            wrong = after.is_null().to_numpy()
            sums = after.fill_null(0).to_numpy()
        else:
            added = partial.to_numpy()
            sums = before + added
            wrong = ((before ^ sums) & (added ^ sums)) < 0
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            total = int(before[row]) + int(partial[row])
            raise RowError(
                f"the sum of column {self._column!r} in group {describe_group(groups, self._keys, row)} is {total}: "
                f"an int has 64 bits, from {_MIN} to {_MAX}, and avg needs the sum, too. Take smaller numbers, or cast "
                "the column to float."
            )
        self._sums.items[slots] = sums

    def get(self, slots: Slots) -> Ints:
        """The sums of groups."""
        return self._sums.items[slots]

    def reserve(self, size: int) -> None:
        self._sums.reserve(size)

    def keep(self, slots: Slots) -> None:
        self._sums.keep(slots)

    def save(self, slots: Slots) -> list[pl.Series]:
        return [pl.Series(self.name, self._sums.items[slots])]

    def load(self, frame: pl.DataFrame, slots: Slots) -> None:
        self._sums.items[slots] = frame[self.name].to_numpy()


def describe_group(groups: pl.DataFrame, keys: Sequence[str], row: int) -> str:
    """The key of a group for an error message."""
    if not keys:
        return "of the whole table"
    return "(" + ", ".join(f"{key}={groups[key][row]!r}" for key in keys) + ")"
