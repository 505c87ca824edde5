"""The contract of what a group-by keeps per group."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from asyncpersist.operators.reducers.batch import Batch

__all__ = ["Accumulator", "Ints", "Reader", "Slots"]

Slots = npt.NDArray[np.int64]
Ints = npt.NDArray[np.int64]

Reader = Callable[[Slots], pl.Series]
"""The values of an output column for groups, as they are now."""


class Accumulator(ABC):
    """Columns by group slot, shared by all reductions that need them.

    Per epoch: `prepare` on the batch, one aggregation of all that the accumulators asked for, `update` with the groups.
    `name` is unique within a group-by and begins with two underscores, as do all columns it adds.
    """

    name: str

    def prepare(self, batch: Batch) -> Sequence[pl.Expr]:
        """What is to be aggregated per group of the batch; columns it needs for that are added to the batch."""
        return ()

    @abstractmethod
    def update(self, groups: pl.DataFrame, slots: Slots) -> None:
        """Takes in the aggregates: row i of `groups`, which also has the key columns, is of the group in `slots[i]`.

        Raises `RowError`.
        """

    @abstractmethod
    def reserve(self, size: int) -> None:
        """Makes room for the slots below `size`."""

    @abstractmethod
    def keep(self, slots: Slots) -> None:
        """Keeps only what is in `slots` (ascending), which moves up to 0, 1, ..."""

    @abstractmethod
    def save(self, slots: Slots) -> list[pl.Series]:
        """Its columns of an increment, with the same names and types every time."""

    @abstractmethod
    def load(self, frame: pl.DataFrame, slots: Slots) -> None:
        """Takes over row i of a frame of saved columns for `slots[i]`."""
