"""The smallest or largest value of each group, with the id of its row where that is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from asyncpersist.columnar.arrangement import Arrangement
from asyncpersist.columnar.delta import ID, WEIGHT
from asyncpersist.columnar.slot_values import slot_values
from asyncpersist.operators.reducers.accumulator import Accumulator, Slots
from asyncpersist.operators.reducers.batch import Batch
from asyncpersist.operators.reducers.order import better, extreme, extremes, is_simple
from asyncpersist.operators.reducers.value_log import ValueLog
from asyncpersist.operators.reducers.value_set import GROUP, VALUE

__all__ = ["Extreme"]


class Extreme(Accumulator):
    """The extreme of `column` per group, None while there is no value; of equal ones that with the smallest id.

    It looks at all `values` of a group only when its extreme may have vanished. Without them, the input must be
    append-only.
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
        values: ValueLog | None,
    ) -> None:
        self.name = f"__{'arg' if with_id else ''}{'max' if largest else 'min'}:{column}"
        self._column = column
        self._dtype = dtype
        self._largest = largest
        self._tie = ID if with_id else None
        self._keys = list(keys)
        self._groups = groups
        self._log = values
        self._values = slot_values(dtype)
        self._ids = slot_values(pl.UInt128()) if with_id else None
        self._gone = f"{self.name}:gone"
        self._retracts = False
        self._batch: pl.DataFrame | None = None

    def prepare(self, batch: Batch) -> Sequence[pl.Expr]:
        self._retracts = batch.retracts
        if self._tie is None and is_simple(self._dtype):
            columns = {self.name: pl.col(self._column)}
            if self._retracts:
                columns[self._gone] = pl.col(self._column).filter(pl.col(WEIGHT) < 0)
            return [extreme(c, self._dtype, largest=self._largest).alias(name) for name, c in columns.items()]
        more = [*([self._tie] if self._tie else []), *([WEIGHT] if self._retracts else [])]
        self._batch = batch.rows.select(*self._keys, pl.col(self._column).alias(VALUE), *more)
        return ()

    def update(self, groups: pl.DataFrame, slots: Slots) -> None:
        if self._batch is None:
            come = _present(slots, groups[self.name])
            gone = _present(slots, groups[self._gone]) if self._retracts else come.clear()
        else:
            come = self._extremes(self._batch)
            gone = self._extremes(self._batch.filter(pl.col(WEIGHT) < 0)) if self._retracts else come.clear()
        self._batch = None
        self._improve(come)
        if gone.height:
            self._lose(gone)

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

    def _lose(self, gone: pl.DataFrame) -> None:
        """Looks for another extreme where that of the rows `gone`, one per group, is the one that is noted.

        These have been taken in like all rows of the batch, so none of them goes before what is noted.
        """
        slots = gone[GROUP].to_numpy()
        current = self._current(slots)
        stays = better(current, gone[current.columns], VALUE, largest=self._largest, tie=self._tie)
        orphans = slots[~stays.fill_null(False).to_numpy()]
        if not len(orphans):
            return
        assert self._log is not None
        self._values.put(orphans, pl.Series([None], dtype=self._dtype).new_from_index(0, len(orphans)))
        if self._ids is not None:
            self._ids.put(orphans, pl.Series([None], dtype=pl.UInt128).new_from_index(0, len(orphans)))
        live = self._log.of_groups(orphans)
        self._put(extremes(live, [GROUP], VALUE, largest=self._largest, tie=self._tie))

    def _extremes(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Of rows of the batch, the extreme of each group by its slot."""
        best = extremes(rows, self._keys, VALUE, largest=self._largest, tie=self._tie)
        return best.with_columns(pl.Series(GROUP, self._groups.find(best)))

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


def _present(slots: Slots, values: pl.Series) -> pl.DataFrame:
    """The values that are not None, by group."""
    return pl.DataFrame([pl.Series(GROUP, slots), values.alias(VALUE)]).filter(pl.col(VALUE).is_not_null())
