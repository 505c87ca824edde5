"""New columns out of a row's own: picked, renamed or computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import polars as pl

from asyncpersist.columnar.delta import ID, Delta
from asyncpersist.dtypes import DType
from asyncpersist.operators.operator import Operator

__all__ = ["Select"]


class Select(Operator):
    """Stateless; rows keep weight, order and id.

    `columns` are the output's. `evaluate` maps the input's rows to a frame of exactly these columns and as many rows;
    where the output only picks input columns, `picks` says which and nothing is evaluated.
    """

    def __init__(
        self,
        columns: Mapping[str, DType],
        evaluate: Callable[[pl.DataFrame], pl.DataFrame],
        *,
        picks: Mapping[str, str] | None = None,
        ids: bool = False,
    ) -> None:
        self._evaluate = evaluate
        self._ids = ids
        schema = {name: dtype.polars for name, dtype in columns.items()}
        if ids:
            schema[ID] = pl.UInt128()
        self._empty = Delta(pl.DataFrame(schema=schema), consolidated=True)
        self._names = list(schema)
        self._picked = None if picks is None else [picks[name] for name in columns] + [ID] * ids

    def step(self, inputs: Sequence[Delta]) -> Delta:
        (delta,) = inputs
        if delta.is_empty():
            return self._empty
        if self._picked is not None:
            return self._pick(delta, self._picked)
        rows = self._evaluate(delta.rows)
        return delta.with_rows(rows.with_columns(delta.rows[ID]) if self._ids else rows)

    def _pick(self, delta: Delta, picked: list[str]) -> Delta:
        if len(set(picked)) == len(picked):
            rows = delta.rows[picked]
            if picked != self._names:
                rows.columns = self._names
        else:
            rows = pl.DataFrame(
                [delta.rows.get_column(old).alias(new) for old, new in zip(picked, self._names, strict=True)]
            )
        # Rows that differ only in columns left out would become one and the same.
        kept = delta.consolidated and set(picked) == set(delta.rows.columns)
        return Delta(rows, delta.weights, kept)
