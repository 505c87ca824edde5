"""The smallest or largest value of each group, with the id of its row where that is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from asyncpersist.columnar.arrangement import Arrangement
from asyncpersist.columnar.delta import ID
from asyncpersist.columnar.slot_values import slot_values
from asyncpersist.operators.reducers.accumulator import Accumulator, Slots
from asyncpersist.operators.reducers.batch import Batch
from asyncpersist.operators.reducers.order import better, extreme, extremes, is_simple
from asyncpersist.operators.reducers.value_set import GROUP, VALUE, ValueChange, ValueSet

__all__ = ["Extreme"]


class Extreme(Accumulator):
    """The extreme of `column` per group, None while there is no value; of equal ones that with the smallest id.

    With `values` it follows these, and looks at all values of a group only when its extreme has vanished. Without, the
    input must be append-only.
    """

    def __init__(
        self,
        column: str,
        dtype: pl.DataType,
        *,
        largest: bool,
        with_id: bool,
        keys: Sequence[str],
        groups: Arrangement,
        values: ValueSet | None,
    ) -> None:
        self.name = f"__{'arg' if with_id else ''}{'max' if largest else 'min'}:{column}"
        self._column = column
        self._dtype = dtype
        self._largest = largest
        self._tie = ID if with_id else None
        self._keys = list(keys)
        self._groups = groups
        self._followed = values
        self._values = slot_values(dtype)
        self._ids = slot_values(pl.UInt128()) if with_id else None
        self._batch: pl.DataFrame | None = None

    def prepare(self, batch: Batch) -> Sequence[pl.Expr]:
        if self._followed is not None:
            return ()
        if self._tie is None and is_simple(self._dtype):
            return [extreme(pl.col(self._column), self._dtype, largest=self._largest).alias(self.name)]
        tie = [] if self._tie is None else [self._tie]
        self._batch = batch.rows.select(*self._keys, pl.col(self._column).alias(VALUE), *tie)
        return ()

    def update(self, groups: pl.DataFrame, slots: Slots) -> None:
        if self._followed is not None:
            self._follow(self._followed.change)
            return
        if self._batch is None:
            rows = pl.DataFrame({GROUP: slots, VALUE: groups[self.name]})
            rows = rows.filter(pl.col(VALUE).is_not_null())
        else:
            best = extremes(self._batch, self._keys, VALUE, largest=self._largest, tie=self._tie)
            rows = best.with_columns(pl.Series(GROUP, self._groups.find(best)))
            self._batch = None
        self._improve(rows)

    def get(self, slots: Slots) -> pl.Series:
        """The extremes of groups."""
        return self._values.get(slots)

    def get_ids(self, slots: Slots) -> pl.Series:
        """The ids of the rows with the extremes."""
        assert self._ids is not None
        return self._ids.get(slots)

    def reserve(self, size: int) -> None:
        self._values.reserve(size)
        if self._ids is not None:
            self._ids.reserve(size)

    def keep(self, slots: Slots) -> None:
        self._values.keep(slots)
        if self._ids is not None:
            self._ids.keep(slots)

    def save(self, slots: Slots) -> list[pl.Series]:
        saved = [self._values.get(slots).alias(self.name)]
        if self._ids is not None:
            saved.append(self._ids.get(slots).alias(f"{self.name}:id"))
        return saved

    def load(self, frame: pl.DataFrame, slots: Slots) -> None:
        self._values.put(slots, frame[self.name])
        if self._ids is not None:
            self._ids.put(slots, frame[f"{self.name}:id"])

    def _improve(self, rows: pl.DataFrame) -> None:
        """Takes over those of `rows`, one per group, that go before what is there."""
        if not rows.height:
            return
        slots = rows[GROUP].to_numpy()
        wins = better(rows, self._current(slots), VALUE, largest=self._largest, tie=self._tie)
        if wins.any():
            self._put(rows if wins.all() else rows.filter(wins))

    def _follow(self, change: ValueChange) -> None:
        appeared = change.rows.filter(pl.Series(change.appeared))
        self._improve(extremes(appeared, [GROUP], VALUE, largest=self._largest, tie=self._tie))
        vanished = change.rows.filter(pl.Series(change.vanished))
        if not vanished.height:
            return
        # What vanished was in its group before, so it is the extreme still unless something better has just come.
        slots = vanished[GROUP].to_numpy()
        current = self._current(slots)
        lost = vanished[VALUE].eq_missing(current[VALUE]) & vanished[VALUE].is_not_null()
        if self._tie is not None:
            lost &= vanished[ID].eq_missing(current[ID])
        orphans = np.unique(slots[lost.to_numpy()])
        if not len(orphans):
            return
        assert self._followed is not None
        self._values.put(orphans, pl.Series([None], dtype=self._dtype).new_from_index(0, len(orphans)))
        if self._ids is not None:
            self._ids.put(orphans, pl.Series([None], dtype=pl.UInt128).new_from_index(0, len(orphans)))
        live = self._followed.of_groups(orphans)
        self._put(extremes(live, [GROUP], VALUE, largest=self._largest, tie=self._tie))

    def _current(self, slots: Slots) -> pl.DataFrame:
        columns = {VALUE: self._values.get(slots)}
        if self._ids is not None:
            columns[ID] = self._ids.get(slots)
        return pl.DataFrame(columns)

    def _put(self, rows: pl.DataFrame) -> None:
        slots = rows[GROUP].to_numpy()
        self._values.put(slots, rows[VALUE])
        if self._ids is not None:
            self._ids.put(slots, rows[ID])
