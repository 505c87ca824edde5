"""All values of each group as they came: what retractions and reducers of whole groups need, looked at only then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from asyncpersist.columnar.arrangement import Arrangement, NotThere
from asyncpersist.columnar.consolidate import promises_fewer
from asyncpersist.columnar.delta import ID, WEIGHT
from asyncpersist.columnar.members import Members
from asyncpersist.columnar.rows import RowStore, own_copy
from asyncpersist.columnar.state import Increment
from asyncpersist.operators.reducers.accumulator import Slots
from asyncpersist.operators.reducers.batch import Batch
from asyncpersist.operators.reducers.group_slots import renumbered, slots_of
from asyncpersist.operators.reducers.value_set import GROUP, VALUE

__all__ = ["ValueLog"]

ENTRY = "__entry"
"""In increments, the number of an entry; none is given twice."""

TIMES = "__times"
"""In entries, the weights of the values; None for a list of ones."""

_MIN_ROWS = 1 << 16
_SAMPLE = 8192
_MOST_PENDING = 32
_SHORT = 4
"""Values per entry below which entries of one group are put together."""


class ValueLog:
    """For the rows of a group-by's input, their values of `column` (and their ids) with weights, per group.

    An entry is what one epoch brought for one group, as lists. Entries are only added; where many would remain as few,
    all are replaced by as few as there can be. So an increment needs no look at what was there: it is the entries since
    the last one, or all of them once they were replaced. In memory a group is its slot in `groups`; increments have its
    key. Implements `State`.
    """

    def __init__(
        self,
        column: str,
        dtype: pl.DataType,
        *,
        with_id: bool,
        keys: Mapping[str, pl.DataType],
        stored_keys: Sequence[str],
        groups: Arrangement,
    ) -> None:
        self.name = f"value_log:{column}{':id' if with_id else ''}"
        self.with_id = with_id
        self._column = column
        self._keys = list(keys)
        self._saved_keys = tuple(stored_keys)
        self._groups = groups
        self._schema: dict[str, pl.DataType] = {GROUP: pl.Int64(), VALUE: pl.List(dtype), TIMES: pl.List(pl.Int64())}
        if with_id:
            self._schema[ID] = pl.List(pl.UInt128())
        self._lists = [VALUE, TIMES, *([ID] if with_id else [])]
        self._owned = dtype.is_numeric() or dtype.is_temporal() or dtype == pl.Boolean
        self._by = [GROUP, VALUE, *([ID] if with_id else [])]
        self._loaded: list[pl.DataFrame] = []
        self._pending: list[pl.DataFrame] = []  # the latest entries, not in the store yet
        self._store = RowStore(self._schema, ratio=2)
        self._members: Members | None = None
        self._fresh: list[pl.DataFrame] = []  # what the next increment has to say, unless it is to be complete
        self._complete = True
        self._given = False
        self._next_entry = 0
        self._rows = self._live = self._total = self._checked = 0

    @property
    def key(self) -> tuple[str, ...]:
        return (*self._saved_keys, ENTRY)

    def prepare(self, batch: Batch) -> Sequence[pl.Expr]:
        """What is to be aggregated per group of the batch; lists of one group must be in the same order."""
        lists = {VALUE: pl.col(self._column)}
        if batch.weights is not None:
            lists[TIMES] = pl.col(WEIGHT)
        if self.with_id:
            lists[ID] = pl.col(ID)
        return [expression.alias(f"__{self.name}{name}") for name, expression in lists.items()]

    def append(self, groups: pl.DataFrame, slots: Slots, batch: Batch) -> None:
        """Takes in the aggregates of a batch: row i of `groups` is of the group in `slots[i]`."""
        columns = [pl.Series(GROUP, slots)]
        for name in self._lists:
            if name == TIMES and batch.weights is None:
                columns.append(self._ones(groups.height))
            else:
                columns.append(groups[f"__{self.name}{name}"].alias(name))
        entries = pl.DataFrame(columns)
        self._pending.append(entries if self._owned else own_copy(entries))
        if not self._complete:
            self._fresh.append(self._pending[-1])
        self._rows += batch.height
        self._total += batch.total
        self._live += batch.height if batch.weights is None else int(batch.weights.sum())
        if len(self._pending) >= _MOST_PENDING:
            self._store_pending()
        if self._rows > 2 * self._checked + _MIN_ROWS:
            self._shrink()
            self._checked = self._rows

    def of_groups(self, slots: Slots) -> pl.DataFrame:
        """All values of the groups in `slots` (distinct): `GROUP, VALUE` (and `ID`), `WEIGHT`."""
        self._store_pending()
        if self._members is None:
            self._members = Members()
        size = len(self._members)
        if size < len(self._store):
            fresh = np.arange(size, len(self._store), dtype=np.int64)
            self._members.extend(self._store.gather(fresh, [GROUP])[GROUP].to_numpy())
        return self._summed(self._store.pick(self._members.of(slots)))

    def capture(self) -> Increment | None:
        complete = self._complete
        entries = self._entries() if complete else pl.concat([self._none, *self._fresh])
        if self._is_scattered(entries):
            entries = self._as_lists(self._flat(entries))
        if not (entries.height or (complete and self._given)):
            return None
        self._complete, self._given, self._fresh = False, True, []
        keys = self._groups.rows.gather(entries[GROUP].to_numpy()).select(self._saved_keys)
        first, self._next_entry = self._next_entry, self._next_entry + entries.height
        numbers = pl.int_range(first, self._next_entry, eager=True).alias(ENTRY)
        ones = pl.Series(WEIGHT, np.ones(entries.height, np.int64))
        return Increment(pl.DataFrame([*keys, numbers, *entries.drop(GROUP), ones]), complete)

    def load(self, frame: pl.DataFrame) -> None:
        # The slots of the groups may not be known yet.
        self._loaded.append(frame)

    def settle(self) -> None:
        """Takes over what was loaded, once the groups are."""
        loaded, self._loaded = self._loaded, []
        for frame in loaded:
            slots = slots_of(self._groups, frame, keys=self._keys, saved=self._saved_keys)
            entries = frame.select(pl.Series(GROUP, slots), *self._lists)
            # Of a group that is no more, all values were taken back.
            self._replace(entries.filter(pl.col(GROUP) >= 0))
            self._complete, self._given = False, True
            self._next_entry = int(frame[ENTRY].to_numpy().max(initial=-1)) + 1

    def renumber(self, kept: Slots, size: int) -> None:
        """Groups lie in other slots now: that of `kept[i]` in i.

        What is missing is dead, and was when the last increment was taken, so all its entries since cancel out.
        """
        moves = renumbered(kept, size)

        def moved(frame: pl.DataFrame) -> pl.DataFrame:
            slots = pl.Series(GROUP, moves[frame[GROUP].to_numpy()])
            return frame.with_columns(slots).filter(pl.col(GROUP) >= 0)

        self._fresh = [moved(frame) for frame in self._fresh]
        self._replace(moved(self._entries()))

    def _ones(self, height: int) -> pl.Series:
        return pl.Series(TIMES, [None], dtype=pl.List(pl.Int64)).new_from_index(0, height)

    @property
    def _none(self) -> pl.DataFrame:
        return pl.DataFrame(schema=self._schema)

    def _store_pending(self) -> None:
        if self._pending:
            pending, self._pending = self._pending, []
            self._store.append(pl.concat(pending, rechunk=False))

    def _entries(self) -> pl.DataFrame:
        """All of them."""
        return pl.concat([*self._store.chunks, self._none, *self._pending], rechunk=False)

    def _replace(self, entries: pl.DataFrame) -> None:
        """Makes `entries` all there are."""
        self._pending, self._members = [], None
        self._store = RowStore(self._schema, ratio=2)
        self._store.append(entries)
        weights = self._flat(entries)[WEIGHT]
        self._rows, self._live, self._total = len(weights), int(weights.sum()), int(weights.abs().sum())
        self._checked = self._rows

    def _shrink(self) -> None:
        """Replaces the entries where that makes them at most about half of what they are."""
        entries = self._entries()
        places = np.arange(0, entries.height, max(1, entries.height // _SAMPLE), dtype=np.int64)
        sample = entries[places].select(GROUP, *(pl.col(name).list.first() for name in self._by[1:]))
        if self._total > 2 * self._live or promises_fewer(sample, total=self._rows):
            self._replace(self._as_lists(self._summed(entries)))
            self._complete, self._fresh = True, []
        elif self._is_scattered(entries):
            self._replace(self._as_lists(self._flat(entries)))

    def _is_scattered(self, entries: pl.DataFrame) -> bool:
        """Whether entries are short, and there are several for a group."""
        seen = np.zeros(len(self._groups), np.bool_)
        seen[entries[GROUP].to_numpy()] = True
        if entries.height <= 2 * np.count_nonzero(seen):
            return False
        return int(entries[VALUE].list.len().sum()) < _SHORT * entries.height

    def _flat(self, entries: pl.DataFrame) -> pl.DataFrame:
        """A row for each value: `GROUP, VALUE` (and `ID`), `WEIGHT`."""
        ones = entries[TIMES].is_null()
        parts = []
        if ones.any():
            some = entries if ones.all() else entries.filter(ones)
            one = pl.lit(1, dtype=pl.Int64).alias(WEIGHT)
            parts.append(some.select(self._by).explode(self._by[1:]).with_columns(one))
        if not ones.all() or not entries.height:
            some = entries.filter(~ones) if parts else entries
            lists = [*self._by[1:], TIMES]
            parts.append(some.select(GROUP, *lists).explode(lists).rename({TIMES: WEIGHT}))
        return pl.concat(parts, rechunk=False)

    def _summed(self, entries: pl.DataFrame) -> pl.DataFrame:
        """The values that are there, distinct: `GROUP, VALUE` (and `ID`), `WEIGHT`."""
        rows = self._flat(entries).group_by(self._by).agg(pl.col(WEIGHT).sum())
        lacking = rows.filter(pl.col(WEIGHT) < 0)
        if lacking.height:
            raise NotThere(lacking[WEIGHT][0], {self._column: lacking[VALUE][0]})
        return rows.filter(pl.col(WEIGHT) != 0)

    def _as_lists(self, rows: pl.DataFrame) -> pl.DataFrame:
        """One entry per group."""
        if (rows[WEIGHT] == 1).all():
            entries = rows.group_by(GROUP).agg(self._by[1:])
            return entries.with_columns(self._ones(entries.height)).select(list(self._schema))
        return rows.group_by(GROUP).agg(*self._by[1:], pl.col(WEIGHT).alias(TIMES)).select(list(self._schema))
