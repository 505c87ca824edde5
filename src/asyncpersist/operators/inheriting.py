"""Rows that take the place of others with equal arguments."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from asyncpersist.columnar.delta import ID

__all__ = ["ARGUMENTS", "heirs"]

Places = npt.NDArray[np.int64]

ARGUMENTS = "__arguments"
_HEIR = "__heir"
_LEFT = "__left"
_ORDINAL = "__ordinal"


def heirs(comes: pl.DataFrame, gone: pl.DataFrame) -> tuple[Places, Places]:
    """Of keys that come, the places of those that inherit from one that has gone, and the places of these.

    Keys are `ID` and `ARGUMENTS`, distinct on either side. A key inherits from itself, or from one with equal
    arguments, in the order of ids: a line of a file that moves up, or a file that is renamed, gives rows other ids, and
    they are what they were all the same.
    """
    if not (comes.height and gone.height):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    come = comes.select(ID, ARGUMENTS).with_columns(pl.int_range(pl.len()).alias(_HEIR)).sort(ID)
    left = gone.select(ID, ARGUMENTS).with_columns(pl.int_range(pl.len()).alias(_LEFT)).sort(ID)
    same = come.join(left, on=[ID, ARGUMENTS])
    come = come.join(same, on=_HEIR, how="anti", maintain_order="left")
    left = left.join(same, on=_LEFT, how="anti", maintain_order="left")
    ordinal = pl.int_range(pl.len()).over(ARGUMENTS).alias(_ORDINAL)
    alike = come.with_columns(ordinal).join(left.with_columns(ordinal), on=[ARGUMENTS, _ORDINAL])
    pairs = pl.concat([same.select(_HEIR, _LEFT), alike.select(_HEIR, _LEFT)])
    return pairs[_HEIR].to_numpy(), pairs[_LEFT].to_numpy()
