"""All values of a group as a list."""

from __future__ import annotations

import numpy as np
import polars as pl

from asyncpersist.columnar.delta import ID, WEIGHT
from asyncpersist.operators.reducers.accumulator import Slots
from asyncpersist.operators.reducers.value_log import ValueLog
from asyncpersist.operators.reducers.value_set import GROUP, VALUE

__all__ = ["lists_of"]


def lists_of(values: ValueLog, dtype: pl.DataType, slots: Slots, *, by_id: bool, skip_nones: bool) -> pl.Series:
    """For each group in `slots` (distinct), all its values, by row id or in sort order (None first).

    Reads every value of these groups; keeps nothing.
    """
    rows = values.of_groups(slots)
    if skip_nones:
        rows = rows.filter(pl.col(VALUE).is_not_null())
    weights = rows[WEIGHT].to_numpy()
    if len(weights) and weights.max() > 1:
        rows = rows[np.repeat(np.arange(rows.height), weights)]
    rows = rows.sort([ID, VALUE] if by_id else [VALUE])
    lists = rows.group_by(GROUP, maintain_order=True).agg(pl.col(VALUE).alias("list"))
    asked = pl.DataFrame({GROUP: slots}).join(lists, on=GROUP, how="left", maintain_order="left")
    empty = pl.lit(pl.Series([[]], dtype=pl.List(dtype)))
    return asked.select(pl.col("list").fill_null(empty)).to_series()
