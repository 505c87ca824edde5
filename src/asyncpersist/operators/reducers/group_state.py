"""The groups of a group-by as a piece of state."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from asyncpersist.columnar.arrangement import Arrangement
from asyncpersist.columnar.delta import WEIGHT
from asyncpersist.columnar.state import Increment
from asyncpersist.operators.reducers.accumulator import Accumulator

__all__ = ["GroupState"]


class GroupState:
    """Keys, the accumulators' columns and `WEIGHT`. Implements `State`.

    `by` are the columns of `groups`, of which only `keys` are saved: the others hold 0 in the one row there can be.
    """

    def __init__(
        self, groups: Arrangement, by: Sequence[str], keys: Sequence[str], accumulators: Sequence[Accumulator]
    ) -> None:
        self._groups = groups
        self._constant = [name for name in by if name not in keys]
        self._keys = tuple(keys)
        self._accumulators = accumulators

    @property
    def key(self) -> tuple[str, ...]:
        return self._keys

    def capture(self) -> Increment | None:
        slots, complete = self._groups.take_touched()
        if not (len(slots) or complete):
            return None
        columns = self._groups.rows.gather(slots).select(self._keys).get_columns()
        for accumulator in self._accumulators:
            columns.extend(accumulator.save(slots))
        columns.append(pl.Series(WEIGHT, self._groups.weights[slots]))
        return Increment(pl.DataFrame(columns), complete)

    def load(self, frame: pl.DataFrame) -> None:
        if not frame.height:
            return
        keys = frame.with_columns(pl.lit(0, dtype=pl.UInt8).alias(name) for name in self._constant)
        slots = self._groups.load(keys, frame[WEIGHT].to_numpy().astype(np.int64))
        for accumulator in self._accumulators:
            accumulator.reserve(len(self._groups))
            accumulator.load(frame, slots)
