"""From what was under keys and what is there now to the change that says so."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from asyncpersist.columnar.delta import Delta

__all__ = ["differing", "replacement"]

Mask = npt.NDArray[np.bool_]


def differing(lived: Mask, lives: Mask, old: Sequence[pl.Series], new: Sequence[pl.Series]) -> Mask:
    """By row, whether it came, went, or has another value in one of the columns: None equals None, NaN equals NaN."""
    changed = ~(lived & lives)
    for before, now in zip(old, new, strict=True):
        if changed.all():
            break
        changed |= before.ne_missing(now).to_numpy()
    return changed & (lived | lives)


def replacement(
    same: Sequence[pl.Series],
    old: Sequence[pl.Series] | None,
    new: Sequence[pl.Series],
    *,
    gone: Mask,
    come: Mask,
) -> Delta:
    """Retractions of the rows `gone`, then insertions of those that have `come`.

    A row has the columns `same`, which lead, and then those of `old` or of `new`; None for `old` if nothing is gone. No
    row may be both gone and come unchanged.
    """
    inserted = _table([*same, *new], come)
    if old is None:
        return Delta(inserted, consolidated=True)
    retracted = _table([*same, *old], gone)
    weights = np.ones(retracted.height + inserted.height, np.int64)
    weights[: retracted.height] = -1
    return Delta(pl.concat([retracted, inserted]), weights, consolidated=True)


def _table(columns: Sequence[pl.Series], rows: Mask) -> pl.DataFrame:
    table = pl.DataFrame(columns)
    return table if rows.all() else table.filter(pl.Series(rows))
