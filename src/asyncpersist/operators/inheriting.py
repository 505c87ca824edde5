"""Rows that take the place of others with equal arguments."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["paired"]

Places = npt.NDArray[np.int64]

_ARGUMENTS = "arguments"
_ORDINAL = "ordinal"


def paired(arguments: pl.Series, comes: Places, leaves: Places) -> tuple[Places, Places]:
    """Of keys that come those whose arguments a key has that leaves, and these, one for each, in their orders.

    `arguments` are the hashes of all keys; the others are places in it. A line of a file that moves up, a file that is
    renamed, gives rows other ids; they are what they were all the same.
    """
    if not (len(comes) and len(leaves)):
        return comes[:0], leaves[:0]
    come, leave = (
        pl.DataFrame({_ARGUMENTS: arguments.gather(places), name: places}).with_columns(
            pl.int_range(pl.len()).over(_ARGUMENTS).alias(_ORDINAL)
        )
        for name, places in (("come", comes), ("leave", leaves))
    )
    pairs = come.join(leave, on=[_ARGUMENTS, _ORDINAL], maintain_order="left")
    return pairs["come"].to_numpy(), pairs["leave"].to_numpy()
