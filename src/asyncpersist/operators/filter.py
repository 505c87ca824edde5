"""The rows for which a condition holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from asyncpersist.columnar.delta import ID, Delta
from asyncpersist.operators.operator import Operator

__all__ = ["Filter"]


class Filter(Operator):
    """Stateless; a row is kept where `condition` is True, neither False nor None.

    `condition` maps the input's rows to a frame of one bool column.
    """

    def __init__(self, condition: Callable[[pl.DataFrame], pl.DataFrame], *, ids: bool = False) -> None:
        self._condition = condition
        self._ids = ids

    def step(self, inputs: Sequence[Delta]) -> Delta:
        (delta,) = inputs
        rows, consolidated = delta.rows, delta.consolidated
        if not self._ids and ID in rows.columns:
            rows, consolidated = rows.drop(ID), False
        if delta.is_empty():
            return Delta(rows, None, True)
        mask = self._condition(delta.rows).to_series()
        if mask.null_count():
            mask = mask.fill_null(False)
        if mask.all():
            return Delta(rows, delta.weights, consolidated)
        weights = None if delta.weights is None else delta.weights[mask.to_numpy()]
        return Delta(rows.filter(mask), weights, consolidated)
