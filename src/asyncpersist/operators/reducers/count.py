"""How many rows of a group have a value."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from asyncpersist.columnar.delta import WEIGHT
from asyncpersist.columnar.slot_array import SlotArray
from asyncpersist.operators.reducers.accumulator import Accumulator, Ints, Slots
from asyncpersist.operators.reducers.batch import Batch

__all__ = ["PresentCount"]


class PresentCount(Accumulator):
    """The weight of the rows whose `column` is not None."""

    def __init__(self, column: str) -> None:
        self.name = f"__present:{column}"
        self._column = column
        self._counts = SlotArray(np.int64)

    def prepare(self, batch: Batch) -> Sequence[pl.Expr]:
        column = pl.col(self._column)
        if batch.weights is None:
            return [column.count().cast(pl.Int64).alias(self.name)]
        return [pl.col(WEIGHT).filter(column.is_not_null()).sum().alias(self.name)]

    def update(self, groups: pl.DataFrame, slots: Slots) -> None:
        self._counts.items[slots] += groups[self.name].to_numpy()

    def get(self, slots: Slots) -> Ints:
        """The counts of groups."""
        return self._counts.items[slots]

    def reserve(self, size: int) -> None:
        self._counts.reserve(size)

    def keep(self, slots: Slots) -> None:
        self._counts.keep(slots)

    def save(self, slots: Slots) -> list[pl.Series]:
        return [pl.Series(self.name, self._counts.items[slots])]

    def load(self, frame: pl.DataFrame, slots: Slots) -> None:
        self._counts.items[slots] = frame[self.name].to_numpy()
