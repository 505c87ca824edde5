"""The change of a table in one epoch: a Z-set, in columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["ID", "ORDER", "PART", "WEIGHT", "Delta", "concat"]

ID = "__id"
"""The reserved column of row ids (UInt128), present only where a plan asks for ids."""

PART = "__part"
"""The reserved column of a source's deltas (Int64) that says which version of a partition a row belongs to."""

ORDER = "__order"
"""The reserved column of the deltas of a source with a primary key (Int64): grows with the order of reading."""

WEIGHT = "__weight"
"""The reserved name under which weights travel inside a frame."""


@dataclass(frozen=True, slots=True)
class Delta:
    """Rows with signed weights.

    `rows` holds the table's columns, and `ID` where the plan asks for ids; between a source and its log also `PART` and
    `ORDER` where the source has them. `weights` has one non-zero int64 per row;
    None means +1 for every row. `consolidated` promises that no row occurs twice. Never changed in place.
    """

    rows: pl.DataFrame
    weights: npt.NDArray[np.int64] | None = None
    consolidated: bool = False

    @property
    def height(self) -> int:
        return self.rows.height

    def is_empty(self) -> bool:
        return self.rows.height == 0

    def with_rows(self, rows: pl.DataFrame) -> Delta:
        """The same weights over new columns of the same height; no longer known to be consolidated."""
        return Delta(rows, self.weights)

    def weighted(self) -> pl.DataFrame:
        """The rows with their weights as the column `WEIGHT`."""
        if self.weights is None:
            # Polars fills large columns without holding up other threads.
            return self.rows.with_columns(pl.lit(1, dtype=pl.Int64).alias(WEIGHT))
        return self.rows.with_columns(pl.Series(WEIGHT, self.weights, dtype=pl.Int64))

    @staticmethod
    def from_weighted(frame: pl.DataFrame, *, consolidated: bool = False) -> Delta:
        """The inverse of `weighted`; rows of weight 0 must have been dropped."""
        return Delta(frame.drop(WEIGHT), frame[WEIGHT].to_numpy(), consolidated)


def concat(deltas: Sequence[Delta]) -> Delta:
    """One delta of several, at least one, with the same columns."""
    if len(deltas) == 1:
        return deltas[0]
    rows = pl.concat([delta.rows for delta in deltas], rechunk=False)
    if all(delta.weights is None for delta in deltas):
        return Delta(rows)
    parts = [np.ones(d.height, np.int64) if d.weights is None else d.weights for d in deltas]
    return Delta(rows, np.concatenate(parts))
