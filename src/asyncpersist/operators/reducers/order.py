"""The extreme values of groups, for values of any type."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

__all__ = ["better", "extreme", "extremes", "is_simple"]


def is_simple(dtype: pl.DataType) -> bool:
    """Whether Polars compares values of the type and aggregates them by min and max."""
    return dtype.is_numeric() or dtype.is_temporal() or dtype in (pl.Boolean, pl.String, pl.Binary)


def extreme(column: pl.Expr, dtype: pl.DataType, *, largest: bool) -> pl.Expr:
    """The extreme of a simple type as an aggregate: Nones are left out, NaN is above all numbers."""
    if not largest:
        return column.min()
    return column.nan_max() if dtype.is_float() else column.max()


def extremes(
    frame: pl.DataFrame, by: Sequence[str], value: str, *, largest: bool, tie: str | None = None
) -> pl.DataFrame:
    """For every group that has a value: `by`, `value` (its extreme) and `tie` (the smallest of that value)."""
    columns = [*by, value] if tie is None else [*by, value, tie]
    present = frame.select(columns).filter(pl.col(value).is_not_null())
    dtype = frame.schema[value]
    if tie is None and is_simple(dtype):
        return present.group_by(by).agg(extreme(pl.col(value), dtype, largest=largest))
    order = [value] if tie is None else [value, tie]
    return present.sort(order, descending=[largest, False][: len(order)]).unique(by, keep="first")


def better(new: pl.DataFrame, old: pl.DataFrame, value: str, *, largest: bool, tie: str | None = None) -> pl.Series:
    """By row, whether the value in `new` goes before the one in `old`: more extreme, or the same with a smaller `tie`.

    None in `old` is no value; in `new` there are none.
    """
    dtype = new.schema[value]
    if is_simple(dtype):
        both = new.select(new=value, new_tie=tie or value).hstack(old.select(old=value, old_tie=tie or value))
        first, second = pl.col("new"), pl.col("old")
        wins = (first > second) if largest else (first < second)
        if tie is not None:
            wins |= (first == second) & (pl.col("new_tie") < pl.col("old_tie"))
        return both.select((second.is_null() | wins).alias("wins")).to_series()
    rows = pl.int_range(new.height, eager=True)
    olds = old.with_columns(rows.alias("__row"), pl.lit(False).alias("__new"))
    news = new.select(old.columns).with_columns(rows.alias("__row"), pl.lit(True).alias("__new"))
    order = [value] if tie is None else [value, tie]
    # The old one is in front of an equal new one: `sort` is told to be stable.
    ranked = pl.concat([olds, news]).sort(
        order, descending=[largest, False][: len(order)], nulls_last=True, maintain_order=True
    )
    return ranked.unique("__row", keep="first").sort("__row")["__new"]
