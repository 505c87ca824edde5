"""The row read last under each primary key, of those that are still there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from asyncpersist.columnar.arrangement import Arrangement
from asyncpersist.columnar.delta import ID, ORDER, WEIGHT, Delta
from asyncpersist.columnar.hashing import id_of
from asyncpersist.columnar.members import Members
from asyncpersist.columnar.slot_array import SlotArray
from asyncpersist.columnar.state import Increment, State
from asyncpersist.dtypes import DType
from asyncpersist.operators.operator import PRESENT_ROWS, Operator
from asyncpersist.operators.reducers.batch import canonical
from asyncpersist.operators.replacement import differing, replacement
from asyncpersist.operators.upsert import saved_as

__all__ = ["LastRead"]

Slots = npt.NDArray[np.int64]

_PLACE = "__place"
_TIMES = "__times"


class LastRead(Operator):
    """Of the rows under a `key` that are there the one of the largest `ORDER`.

    The input has `columns` and `ORDER`; under one key no two different rows may have the same. All rows that are there
    are kept: when the last one is taken back, the one before it comes back. What is taken back under an `ORDER` that is
    not there is the last row of the same values. Output columns: `columns`, and with `ids` also `ID`, which follows
    from the key. -0.0 becomes 0.0.

    An epoch's output retracts exactly what was emitted; retractions come first. `hash_bits` is for tests.
    """

    def __init__(
        self, columns: Mapping[str, DType], key: Sequence[str], *, ids: bool = False, hash_bits: int = 64
    ) -> None:
        schema = {name: dtype.polars for name, dtype in columns.items()}
        self._canonical = [canonical(pl.col(name), dtype).alias(name) for name, dtype in schema.items()]
        self._key = list(key)
        keys = {name: schema[name] for name in self._key}
        self._others = [name for name in schema if name not in self._key]
        self._rows = Arrangement({**keys, ORDER: pl.Int64(), **schema}, hashed=[ORDER], hash_bits=hash_bits)
        self._orders = SlotArray(np.int64)  # by row
        self._owners = SlotArray(np.int64)  # by row, its group
        self._groups = Arrangement(keys, hash_bits=hash_bits)
        self._last = SlotArray(np.int64)  # by group, the row that counts; anything while there is none
        self._members: Members | None = None
        self._ids = ids
        self._output = schema | ({ID: pl.UInt128()} if ids else {})

    def states(self) -> Mapping[str, State]:
        return {"rows": self}

    def step(self, inputs: Sequence[Delta]) -> Delta:
        (delta,) = inputs
        rows = self._net(delta)
        if not rows.height:
            return Delta(pl.DataFrame(schema=self._output), consolidated=True)
        groups = rows.group_by(self._key).agg(pl.col(WEIGHT).sum())
        groups, slots = self._claim(groups)
        lived = self._groups.weights[slots] > 0
        before = np.where(lived, self._last.items[slots], 0)
        self._take(rows)
        _, after = self._groups.add(slots, groups[WEIGHT].to_numpy())
        lives = after > 0
        now = np.where(lives, self._last.items[slots], 0)

        new = self._rows.rows.gather(now).select(self._others).get_columns()
        same = [*groups.select(self._key).get_columns(), *([id_of(groups, self._key)] if self._ids else [])]
        if lived.any():
            old = self._rows.rows.gather(before).select(self._others).get_columns()
            change = differing(lived, lives, old, new)
            output = replacement(same, old, new, gone=lived & change, come=lives & change)
        else:
            output = replacement(same, None, new, gone=lived, come=lives)
        self._collect()
        return Delta(output.rows[list(self._output)], output.weights, consolidated=True)

    def present(self) -> Iterator[Delta]:
        live = np.flatnonzero(self._groups.weights > 0)
        for start in range(0, len(live), PRESENT_ROWS):
            rows = self._rows.rows.gather(self._last.items[live[start : start + PRESENT_ROWS]])
            ids = [id_of(rows, self._key)] if self._ids else []
            yield Delta(rows.with_columns(ids)[list(self._output)], consolidated=True)

    @property
    def key(self) -> tuple[str, ...]:
        return (*self._key, ORDER)

    def capture(self) -> Increment | None:
        slots, complete = self._rows.take_touched()
        if not (len(slots) or complete):
            return None
        rows = self._rows.rows.gather(slots).rename({name: saved_as(name) for name in self._others})
        return Increment(rows.with_columns(pl.Series(WEIGHT, self._rows.weights[slots])), complete)

    def load(self, frame: pl.DataFrame) -> None:
        frame = frame.rename({saved_as(name): name for name in self._others})
        if not frame.height:
            return
        groups, slots = self._claim(frame.group_by(self._key).agg(pl.col(WEIGHT).sum()))
        self._groups.add(slots, groups[WEIGHT].to_numpy())
        slots = self._rows.load(frame, frame[WEIGHT].to_numpy())
        self._enter(frame, slots)
        self._choose(slots, slots[:0])

    def _net(self, delta: Delta) -> pl.DataFrame:
        """The change without rows that occur twice, with `WEIGHT`."""
        rows = delta.with_rows(delta.rows.select(*self._canonical, ORDER)).weighted()
        order = rows[ORDER].to_numpy()
        if delta.weights is None or (order[1:] > order[:-1]).all():
            return rows
        rows = rows.group_by([name for name in rows.columns if name != WEIGHT]).agg(pl.col(WEIGHT).sum())
        return rows.filter(pl.col(WEIGHT) != 0)

    def _claim(self, groups: pl.DataFrame) -> tuple[pl.DataFrame, Slots]:
        """The groups by hash, and their slots."""
        hashes = self._groups.hashes(groups)
        order = np.argsort(hashes)
        groups = groups[order]
        slots = self._groups.claim(groups, hashes[order])
        self._last.reserve(len(self._groups))
        return groups, slots

    def _take(self, rows: pl.DataFrame) -> None:
        """Adds rows, whose groups have slots, and finds out which ones count now."""
        rows, strays = self._without_strays(rows)
        hashes = self._rows.hashes(rows)
        order = np.argsort(hashes)
        rows = rows[order]
        slots = self._rows.claim(rows, hashes[order])
        self._enter(rows, slots)
        before, _ = self._rows.add(slots, rows[WEIGHT].to_numpy())
        if strays.height:
            others, times = self._instead(strays)
            earlier, _ = self._rows.add(others, -times)
            # What was touched twice was at first as it was before the first time.
            slots, first = np.unique(np.concatenate([slots, others]), return_index=True)
            before = np.concatenate([before, earlier])[first]
        live = self._rows.weights[slots] > 0
        self._choose(slots[live & (before == 0)], slots[~live & (before > 0)])

    def _enter(self, rows: pl.DataFrame, slots: Slots) -> None:
        """Notes to which groups rows belong."""
        for column in (self._orders, self._owners):
            column.reserve(len(self._rows))
        owners = self._groups.find(rows)
        if self._members is not None:
            known = slots < len(self._members)
            if (self._owners.items[slots[known]] != owners[known]).any():
                self._members = None
        self._owners.items[slots] = owners
        self._orders.items[slots] = rows[ORDER].to_numpy()

    def _without_strays(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The rows, and apart from them those taken back more often than they are there."""
        negative = rows[WEIGHT] < 0
        if not negative.any():
            return rows, rows.clear()
        gone = rows.filter(negative)
        slots = self._rows.find(gone)
        there = np.where(slots >= 0, self._rows.weights[slots], 0) if len(self._rows) else np.zeros(len(slots))
        stray = pl.Series(there + gone[WEIGHT].to_numpy() < 0)
        if not stray.any():
            return rows, rows.clear()
        return pl.concat([rows.filter(~negative), gone.filter(~stray)]), gone.filter(stray)

    def _instead(self, strays: pl.DataFrame) -> tuple[Slots, Slots]:
        """The rows that are taken back for `strays`, the last ones of the same values, and how often."""
        values = [*self._key, *self._others]
        strays = strays.group_by(values).agg(-pl.col(WEIGHT).sum().alias(_TIMES))
        groups = self._groups.find(strays)
        places = self._members_of(np.unique(groups))
        places = np.repeat(places, self._rows.weights[places])
        places = places[np.argsort(-self._orders.items[places], kind="stable")]
        rows = self._rows.rows.gather(places).select(values).with_columns(pl.Series(_PLACE, places))
        matched = (
            pl.concat([strays, rows], how="diagonal")
            .group_by(values, maintain_order=True)
            .agg(pl.col(_PLACE).drop_nulls(), pl.col(_TIMES).sum())
            .filter(pl.col(_TIMES) > 0)
        )
        lacking = matched.filter(pl.col(_PLACE).list.len() < pl.col(_TIMES)).select(self._key)
        if lacking.height:
            raise RuntimeError(
                f"internal error: rows were retracted that were not there, under {self._key} = {lacking.rows()[:3]}. "
                "Please report it."
            )
        taken = matched.select(pl.col(_PLACE).list.head(pl.col(_TIMES)).explode())[_PLACE].to_numpy()
        return np.unique(taken, return_counts=True)

    def _members_of(self, groups: Slots) -> Slots:
        """The rows that are there of distinct groups."""
        if self._members is None:
            self._members = Members()
        self._members.extend(self._owners.items[len(self._members) : len(self._rows)])
        places = self._members.of(groups)
        return places[self._rows.weights[places] > 0]

    def _choose(self, appeared: Slots, vanished: Slots) -> None:
        """Finds the rows that count in the groups of these."""
        owners = self._owners.items[vanished]
        orphans = np.unique(owners[self._last.items[owners] == vanished])
        groups, rows = self._latest(appeared)
        current = self._last.items[groups]
        # What is noted for a group without rows may be a row of another one by now, or none.
        stands = (self._rows.weights[np.minimum(current, len(self._rows) - 1)] > 0) & (
            self._owners.items[current] == groups
        )
        wins = ~stands | (self._orders.items[rows] > self._orders.items[current])
        self._last.items[groups[wins]] = rows[wins]
        if len(orphans):
            groups, rows = self._latest(self._members_of(orphans))
            self._last.items[groups] = rows

    def _latest(self, rows: Slots) -> tuple[Slots, Slots]:
        """The groups of `rows`, and of each the row of the largest order."""
        rows = rows[np.argsort(-self._orders.items[rows], kind="stable")]
        groups, first = np.unique(self._owners.items[rows], return_index=True)
        return groups, rows[first]

    def _collect(self) -> None:
        """Frees the slots of what is gone, when there are many."""
        if self._rows.wasteful:
            removed = self._rows.removable()
            renumbered = np.cumsum(~removed) - 1
            kept = self._rows.compact(removed)
            self._orders.keep(kept)
            self._owners.keep(kept)
            last = self._last.items[: len(self._groups)]
            self._last.items[: len(last)] = renumbered[np.minimum(last, len(removed) - 1)]
            self._members = None
        if self._groups.wasteful:
            removed = self._groups.removable()
            renumbered = np.where(removed, -1, np.cumsum(~removed) - 1)
            self._last.keep(self._groups.compact(removed))
            owners = self._owners.items[: len(self._rows)]
            self._owners.items[: len(owners)] = np.where(owners >= 0, renumbered[owners], -1)
            self._members = None
