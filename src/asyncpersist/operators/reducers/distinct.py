"""How many different values a group has, and the one it must have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from asyncpersist.columnar.slot_values import slot_values
from asyncpersist.errors import RowError
from asyncpersist.operators.reducers.accumulator import Accumulator, Slots
from asyncpersist.operators.reducers.counts import Counts
from asyncpersist.operators.reducers.int_sum import describe_group
from asyncpersist.operators.reducers.value_set import GROUP, VALUE, ValueSet

__all__ = ["DistinctCount", "Unique"]


class DistinctCount(Counts):
    """The number of different values per group, None among them."""

    def __init__(self, column: str, values: ValueSet) -> None:
        super().__init__(f"__distinct:{column}")
        self._followed = values

    def update(self, groups: pl.DataFrame, slots: Slots) -> None:
        change = self._followed.change
        owners = change.rows[GROUP].to_numpy()
        np.add.at(self._counts.items, owners, change.appeared.astype(np.int64) - change.vanished)


class Unique(Accumulator):
    """The only value per group. `counts` is updated before it."""

    def __init__(
        self,
        column: str,
        dtype: pl.DataType,
        *,
        keys: Sequence[str],
        values: ValueSet,
        counts: DistinctCount,
    ) -> None:
        self.name = f"__unique:{column}"
        self._column = column
        self._keys = tuple(keys)
        self._followed = values
        self._counts = counts
        self._values = slot_values(dtype)

    def update(self, groups: pl.DataFrame, slots: Slots) -> None:
        many = np.flatnonzero(self._counts.get(slots) > 1)
        if len(many):
            row = int(many[0])
            found = self._followed.of_groups(slots[row : row + 1])[VALUE].head(3).to_list()
            raise RowError(
                f"column {self._column!r} has several values in group {describe_group(groups, self._keys, row)}: "
                f"{', '.join(map(repr, found))}. unique takes one; use any, min or tuple."
            )
        change = self._followed.change
        appeared = change.rows.filter(pl.Series(change.appeared))
        self._values.put(appeared[GROUP].to_numpy(), appeared[VALUE])

    def get(self, slots: Slots) -> pl.Series:
        """The values of groups."""
        return self._values.get(slots)

    def reserve(self, size: int) -> None:
        self._values.reserve(size)

    def keep(self, slots: Slots) -> None:
        self._values.keep(slots)

    def save(self, slots: Slots) -> list[pl.Series]:
        return [self._values.get(slots).alias(self.name)]

    def load(self, frame: pl.DataFrame, slots: Slots) -> None:
        self._values.put(slots, frame[self.name])
