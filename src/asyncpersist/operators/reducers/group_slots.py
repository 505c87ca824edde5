"""From the groups in increments to their slots, and from slots to those they were moved to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from asyncpersist.columnar.arrangement import Arrangement
from asyncpersist.operators.reducers.accumulator import Slots

__all__ = ["renumbered", "slots_of"]


def slots_of(groups: Arrangement, frame: pl.DataFrame, *, keys: Sequence[str], saved: Sequence[str]) -> Slots:
    """The slot of each row's group, -1 where there is none.

    `frame` has those of the `keys` of `groups` that are `saved`; the others hold 0 in the one group there can be.
    """
    missing = [key for key in keys if key not in saved]
    return groups.find(frame.with_columns(pl.lit(0, dtype=pl.UInt8).alias(key) for key in missing))


def renumbered(kept: Slots, size: int) -> Slots:
    """By old slot, of which there were `size`, the new one: that of `kept[i]` is i; -1 where there is none any more."""
    slots = np.full(size, -1, np.int64)
    slots[kept] = np.arange(len(kept))
    return slots
