"""By what arguments are known in a cache: 128-bit ids, in two halves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from asyncpersist.columnar.hashing import id_halves, join_halves, split_halves
from asyncpersist.udfs.calling.runner import Positions

__all__ = ["Distinct", "Keys", "distinct"]

Halves = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Keys:
    """The ids of rows of arguments. Equal arguments have equal ones: -0.0 counts as 0.0, and NaN equals NaN."""

    high: Halves
    low: Halves

    @staticmethod
    def of(arguments: pl.DataFrame) -> Keys:
        """As `hashing.id_of` over all columns, in their order."""
        return Keys(*id_halves(arguments, arguments.columns))

    @staticmethod
    def from_ids(ids: pl.Series) -> Keys:
        """Those that were `ids()`."""
        return Keys(*split_halves(ids))

    def __len__(self) -> int:
        return len(self.low)

    def take(self, positions: Positions) -> Keys:
        return Keys(self.high[positions], self.low[positions])

    def ids(self) -> pl.Series:
        """As UInt128."""
        return join_halves(self.high, self.low)


@dataclass(frozen=True, slots=True)
class Distinct:
    """Which rows are equal. `first`: the first row of each kind, ascending; `kind`: of each row, its place in `first`.

    None, both: every row is one of its own.
    """

    first: Positions | None = None
    kind: Positions | None = None


def distinct(keys: Keys) -> Distinct:
    """Which rows have equal keys."""
    low = keys.low
    order = np.argsort(low)
    equal = low[order[1:]] == low[order[:-1]]
    if not equal.any():
        return Distinct()
    # Stable, so that the first row of each kind comes first.
    order = np.lexsort((keys.high, low))
    equal = (low[order[1:]] == low[order[:-1]]) & (keys.high[order[1:]] == keys.high[order[:-1]])
    starts = np.concatenate([[True], ~equal])
    first = order[starts]
    by_row = np.argsort(first)
    number = np.empty(len(first), np.int64)
    number[by_row] = np.arange(len(first))
    kind = np.empty(len(low), np.int64)
    kind[order] = number[np.cumsum(starts) - 1]
    return Distinct(first[by_row], kind)
