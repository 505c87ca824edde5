"""One column of counts per group: what all that count have in common."""

from __future__ import annotations

import numpy as np
import polars as pl

from asyncpersist.columnar.slot_array import SlotArray
from asyncpersist.operators.reducers.accumulator import Accumulator, Ints, Slots

__all__ = ["Counts"]


class Counts(Accumulator):
    """An int64 per group, 0 at first. Who derives from it says how `update` changes `_counts`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._counts = SlotArray(np.int64)

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
