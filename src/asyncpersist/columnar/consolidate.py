"""Consolidation: equal rows of a delta become one, with the sum of their weights."""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from asyncpersist.columnar.delta import ID, WEIGHT, Delta

__all__ = ["consolidate", "consolidate_if_few", "consolidate_if_smaller", "promises_fewer"]

_SAMPLE = 4096
_EVEN_SAMPLE = 8192
_WORTH = 0.5
"""The share of rows that may remain for a consolidation to pay for itself."""
_FEW = 0.1
"""The same where it is to pay for itself by what need not be encoded."""


def consolidate(delta: Delta) -> Delta:
    """The same change with no row twice and no weight zero; in no particular order.

    Rows are equal if all their columns are (`ID` too): None equals None, NaN equals NaN, 0.0 equals -0.0.
    """
    if delta.consolidated:
        return delta
    if delta.height < 2:
        return Delta(delta.rows, delta.weights, consolidated=True)
    columns = delta.rows.columns
    if not columns:
        total = delta.height if delta.weights is None else int(delta.weights.sum())
        height = int(total != 0)
        return Delta(delta.rows.head(height), np.full(height, total, np.int64), consolidated=True)
    if delta.weights is None:
        merged = delta.rows.group_by(columns).agg(pl.len().cast(pl.Int64).alias(WEIGHT))
        if merged.height == delta.height:
            return Delta(delta.rows, consolidated=True)
    else:
        merged = delta.weighted().group_by(columns).agg(pl.col(WEIGHT).sum())
        merged = merged.filter(pl.col(WEIGHT) != 0)
    return Delta.from_weighted(merged, consolidated=True)


def consolidate_if_smaller(delta: Delta) -> Delta:
    """Consolidates if the first rows promise that at most half of them remain; otherwise the delta as it is.

    Rows with ids are taken to be different.
    """
    if delta.consolidated or delta.height < 2 or ID in delta.rows.columns:
        return delta
    if delta.rows.width and not promises_fewer(delta.rows.head(_SAMPLE), total=delta.height):
        return delta
    return consolidate(delta)


def consolidate_if_few(delta: Delta) -> Delta:
    """Consolidates where rows taken evenly from all over promise that few remain; otherwise the delta as it is."""
    sample = delta.rows.gather_every(max(1, delta.height // _EVEN_SAMPLE))
    few = bool(sample.width) and promises_fewer(sample, total=delta.height, share=_FEW)
    return consolidate(delta) if few else delta


def promises_fewer(sample: pl.DataFrame, *, total: int, share: float = _WORTH) -> bool:
    """Whether some of `total` rows promise that at most this share of all remain if equal ones become one."""
    return _expected_share(sample.height, sample.n_unique(), total) <= share


def _expected_share(sample: int, distinct: int, height: int) -> float:
    """The share of `height` rows that is left if `sample` of them had `distinct` different ones.

    Rows are taken as drawn evenly from a number of possible ones: of `n` draws out of `d`,
    d * (1 - exp(-n / d)) differ.
    """
    if sample == height:
        return distinct / height
    if distinct == sample:
        return 1.0

    def differing(possible: float, draws: int) -> float:
        return -possible * math.expm1(-draws / possible)

    low, high = float(distinct), float(sample) * sample
    for _ in range(50):
        middle = math.sqrt(low * high)
        if differing(middle, sample) < distinct:
            low = middle
        else:
            high = middle
    return differing(high, height) / height
