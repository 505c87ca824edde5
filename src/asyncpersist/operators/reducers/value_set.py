"""The different values of each group with their weights: for what must know of each whether it is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from asyncpersist.columnar.arrangement import Arrangement, NotThere
from asyncpersist.columnar.delta import WEIGHT
from asyncpersist.columnar.members import Members
from asyncpersist.columnar.state import Increment
from asyncpersist.operators.reducers.accumulator import Slots
from asyncpersist.operators.reducers.batch import Batch
from asyncpersist.operators.reducers.group_slots import renumbered, slots_of

__all__ = ["GROUP", "VALUE", "ValueChange", "ValueSet"]

GROUP = "__group"
"""In frames of values, the slot of the group."""

VALUE = "__value"
"""In frames of values and in increments, the value."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ValueChange:
    """What an epoch changed: distinct rows `GROUP, VALUE`, each with a weight that is another one now."""

    rows: pl.DataFrame
    appeared: Mask
    vanished: Mask


class ValueSet:
    """For the rows of a group-by's input, how often each group has each value of `column`.

    In memory a group is its slot in `groups`; increments have its key. Implements `State`.
    """

    def __init__(
        self,
        column: str,
        dtype: pl.DataType,
        *,
        keys: Mapping[str, pl.DataType],
        stored_keys: Sequence[str],
        groups: Arrangement,
        hash_bits: int,
    ) -> None:
        self.name = f"values:{column}"
        self._column = column
        self._keys = list(keys)
        self._saved_keys = tuple(stored_keys)
        self._groups = groups
        schema: dict[str, pl.DataType] = {GROUP: pl.Int64(), VALUE: dtype}
        self._values = Arrangement(schema, hash_bits=hash_bits)
        self._members: Members | None = None
        self._loaded: list[pl.DataFrame] = []
        self.change = ValueChange(pl.DataFrame(schema=schema), np.zeros(0, np.bool_), np.zeros(0, np.bool_))

    @property
    def key(self) -> tuple[str, ...]:
        return (*self._saved_keys, VALUE)

    def apply(self, batch: Batch) -> None:
        """Takes in a batch whose groups have slots already; `change` then tells what it did."""
        weight = pl.len().cast(pl.Int64) if batch.weights is None else pl.col(WEIGHT).sum()
        by = [*(pl.col(key) for key in self._keys), pl.col(self._column).alias(VALUE)]
        net = batch.rows.group_by(by).agg(weight.alias(WEIGHT))
        if batch.weights is not None:
            net = net.filter(pl.col(WEIGHT) != 0)
        rows = net.select(pl.Series(GROUP, self._groups.find(net)), VALUE)
        hashes = self._values.hashes(rows)
        order = np.argsort(hashes)
        rows, weights = rows[order], net[WEIGHT].to_numpy()[order]
        slots = self._values.claim(rows, hashes[order])
        try:
            before, after = self._values.add(slots, weights)
        except NotThere as exc:
            raise NotThere(exc.weight, {self._column: exc.key[VALUE]}) from exc
        self.change = ValueChange(rows, (before == 0) & (after > 0), (before > 0) & (after == 0))

    def of_groups(self, slots: Slots) -> pl.DataFrame:
        """All values of the groups in `slots` (distinct): `GROUP, VALUE`, `WEIGHT`."""
        if self._members is None:
            self._members = Members()
        fresh = np.arange(len(self._members), len(self._values), dtype=np.int64)
        self._members.extend(self._values.rows.gather(fresh, [GROUP])[GROUP].to_numpy())
        places = self._members.of(slots)
        weights = self._values.weights[places]
        live = weights > 0
        return self._values.rows.gather(places[live]).with_columns(pl.Series(WEIGHT, weights[live]))

    def capture(self) -> Increment | None:
        slots, complete = self._values.take_touched()
        if not (len(slots) or complete):
            return None
        rows = self._values.rows.gather(slots)
        keys = self._groups.rows.gather(rows[GROUP].to_numpy()).select(self._saved_keys)
        weights = pl.Series(WEIGHT, self._values.weights[slots])
        return Increment(pl.DataFrame([*keys.get_columns(), *rows.drop(GROUP).get_columns(), weights]), complete)

    def load(self, frame: pl.DataFrame) -> None:
        # The slots of the groups may not be known yet.
        self._loaded.append(frame)

    def settle(self) -> None:
        """Takes over what was loaded, once the groups are."""
        loaded, self._loaded = self._loaded, []
        for frame in loaded:
            slots = slots_of(self._groups, frame, keys=self._keys, saved=self._saved_keys)
            rows = frame.select(pl.Series(GROUP, slots), VALUE)
            self._values.load(rows, frame[WEIGHT].to_numpy())

    def collect(self) -> None:
        """Frees the slots of dead values when there are many."""
        if self._values.wasteful:
            self._values.compact(self._values.removable())
            self._members = None

    def renumber(self, kept: Slots, size: int) -> None:
        """Groups lie in other slots now: that of `kept[i]` in i.

        No group is missing whose values are needed: one that has died since the last increment, which had its values,
        is itself still due a tombstone, as all states of an operator are captured together.
        """
        moves = renumbered(kept, size)
        self._values.compact(self._values.removable())
        rows = self._values.rows.gather(np.arange(len(self._values), dtype=np.int64))
        owners = moves[rows[GROUP].to_numpy()]
        assert not len(owners) or owners.min() >= 0
        self._values.rekey(rows.with_columns(pl.Series(GROUP, owners)))
        self._members = None
