"""How many rows of a group have a value."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from asyncpersist.columnar.delta import WEIGHT
from asyncpersist.operators.reducers.accumulator import Slots
from asyncpersist.operators.reducers.batch import Batch
from asyncpersist.operators.reducers.counts import Counts

__all__ = ["PresentCount"]


class PresentCount(Counts):
    """The weight of the rows whose `column` is not None."""

    def __init__(self, column: str) -> None:
        super().__init__(f"__present:{column}")
        self._column = column

    def prepare(self, batch: Batch) -> Sequence[pl.Expr]:
        column = pl.col(self._column)
        if batch.weights is None:
            return [column.count().cast(pl.Int64).alias(self.name)]
        return [pl.col(WEIGHT).filter(column.is_not_null()).sum().alias(self.name)]

    def update(self, groups: pl.DataFrame, slots: Slots) -> None:
        self._counts.items[slots] += groups[self.name].to_numpy()
