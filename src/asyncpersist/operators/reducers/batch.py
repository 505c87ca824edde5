"""The rows of one epoch on their way into a group-by."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from asyncpersist.columnar.delta import WEIGHT, Delta

__all__ = ["Batch", "canonical"]


class Batch:
    """Rows with weights, to which accumulators may add columns to be aggregated.

    `rows` has the columns asked for, and `WEIGHT` unless all weights are 1 (then `weights` is None). `total` is the
    sum of the weights, signs ignored; `retracts` says whether one is negative.
    """

    def __init__(self, delta: Delta, columns: Sequence[str], *, compared: Collection[str]) -> None:
        """Takes `columns`; those that are `compared`, as keys or values, are made `canonical`."""
        rows = delta.rows.select(columns)
        floats = {name: dtype for name, dtype in rows.schema.items() if name in compared and _has_floats(dtype)}
        if floats:
            rows = rows.with_columns(canonical(pl.col(name), dtype).alias(name) for name, dtype in floats.items())
        self.rows = rows
        self.height = delta.height
        self.weights = delta.weights
        self.total = delta.height
        self.retracts = delta.weights is not None and bool((delta.weights < 0).any())
        if delta.weights is not None:
            absolute = np.abs(delta.weights)
            # In halves, as the sum itself might not fit 64 bits.
            self.total = (int((absolute >> 32).sum()) << 32) + int((absolute & 0xFFFFFFFF).sum())
            self.add(WEIGHT, delta.weights)

    def add(self, name: str, values: npt.NDArray[np.generic] | pl.Series) -> None:
        """Adds a column."""
        column = values.alias(name) if isinstance(values, pl.Series) else pl.Series(name, values)
        self.rows = self.rows.hstack([column]) if self.rows.width else column.to_frame()

    def weighed(self, expression: pl.Expr) -> pl.Expr:
        """The expression times the weights."""
        return expression if self.weights is None else expression * pl.col(WEIGHT)


def canonical(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """The same values with -0.0 as 0.0, also inside lists and tuples: equal values are then written alike."""
    if dtype.is_float():
        # Not `column + 0.0`, which Polars takes for `column`.
        return pl.when(column == 0.0).then(pl.lit(0.0, dtype=dtype)).otherwise(column)
    if isinstance(dtype, pl.List) and _has_floats(dtype):
        return column.list.eval(canonical(pl.element(), dtype.inner))  # type: ignore[arg-type]
    if isinstance(dtype, pl.Struct) and _has_floats(dtype):
        fields = ((field.name, field.dtype) for field in dtype.fields)
        return column.struct.with_fields(
            canonical(pl.field(name), inner).alias(name)  # type: ignore[arg-type]
            for name, inner in fields
            if _has_floats(inner)  # type: ignore[arg-type]
        )
    return column


def _has_floats(dtype: pl.DataType) -> bool:
    if isinstance(dtype, pl.List):
        return _has_floats(dtype.inner)  # type: ignore[arg-type]
    if isinstance(dtype, pl.Struct):
        return any(_has_floats(field.dtype) for field in dtype.fields)  # type: ignore[arg-type]
    return dtype.is_float()
