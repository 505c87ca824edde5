"""How many bytes values take, about."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["value_sizes"]

Sizes = npt.NDArray[np.int64]

_LENGTH = 8
"""What the length of a text or list takes."""


def value_sizes(values: pl.Series) -> Sizes:
    """By value, the bytes it takes as a column holds it, without what is kept of each row; a new array.

    A value of no fixed size that is None takes what an empty one does.
    """
    dtype = values.dtype
    if dtype == pl.String:
        return _LENGTH + _numbers(values.str.len_bytes())
    if dtype == pl.Binary:
        return _LENGTH + _numbers(values.bin.size())
    if isinstance(dtype, pl.Struct):
        sizes = np.zeros(len(values), np.int64)
        for field in values.struct.unnest().get_columns():
            sizes += value_sizes(field)
        return sizes
    if isinstance(dtype, pl.List):
        return _LENGTH + _list_sizes(values)
    return np.full(len(values), 16 if dtype in (pl.UInt128, pl.Int128) else 8, np.int64)


def _list_sizes(values: pl.Series) -> Sizes:
    lengths = _numbers(values.list.len())
    filled = lengths > 0
    sizes = np.zeros(len(lengths), np.int64)
    if filled.any():
        items = value_sizes(values.filter(pl.Series(filled)).explode())
        starts = np.cumsum(lengths[filled]) - lengths[filled]
        sizes[filled] = np.add.reduceat(items, starts)
    return sizes


def _numbers(lengths: pl.Series) -> Sizes:
    return lengths.fill_null(0).cast(pl.Int64).to_numpy().copy()
