"""The rows whose futures have all been answered, with plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from asyncpersist.columnar.delta import ID, Delta
from asyncpersist.dtypes import DType
from asyncpersist.operators.operator import Operator

__all__ = ["AwaitFutures"]


class AwaitFutures(Operator):
    """Stateless; a row of the input's `columns` is kept once none of its futures is pending.

    A future, of which there is at least one, becomes its value.
    """

    def __init__(self, columns: Mapping[str, DType], *, ids: bool = False) -> None:
        futures = [name for name, dtype in columns.items() if dtype.kind == "future"]
        self._done = pl.all_horizontal(pl.col(name).struct.field("done") for name in futures)
        self._values = [pl.col(name).struct.field("value").alias(name) for name in futures]
        self._names = [*columns, *([ID] if ids else [])]
        schema = {name: dtype.awaited.polars for name, dtype in columns.items()}
        self._empty = Delta(pl.DataFrame(schema=schema | ({ID: pl.UInt128()} if ids else {})), consolidated=True)

    def step(self, inputs: Sequence[Delta]) -> Delta:
        (delta,) = inputs
        if delta.is_empty():
            return self._empty
        done = delta.rows.select(self._done).to_series()
        rows = delta.rows.filter(done).with_columns(self._values).select(self._names)
        weights = delta.weights if delta.weights is None else delta.weights[done.to_numpy()]
        return Delta(rows, weights, delta.consolidated and rows.width == delta.rows.width)
