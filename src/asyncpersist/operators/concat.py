"""The rows of several tables in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256

import polars as pl

from asyncpersist.columnar.delta import ID, Delta, concat
from asyncpersist.dtypes import DType
from asyncpersist.operators.operator import Operator

__all__ = ["Concat"]


class Concat(Operator):
    """Stateless; every input has the `columns` in any order, an int where a float is wanted.

    With `reindex` an id is changed by its input's place, so that the same id of two inputs becomes two.
    """

    def __init__(self, columns: Mapping[str, DType], *, ids: bool = False, reindex: bool = False) -> None:
        self._schema = {name: dtype.polars for name, dtype in columns.items()}
        if ids:
            self._schema[ID] = pl.UInt128()
        self._reindex = ids and reindex

    def step(self, inputs: Sequence[Delta]) -> Delta:
        parts = [self._part(place, delta) for place, delta in enumerate(inputs) if not delta.is_empty()]
        if not parts:
            return Delta(pl.DataFrame(schema=self._schema), None, True)
        return concat(parts)

    def _part(self, place: int, delta: Delta) -> Delta:
        rows = delta.rows[list(self._schema)]
        changed = [pl.col(name).cast(dtype) for name, dtype in self._schema.items() if rows.schema[name] != dtype]
        if self._reindex:
            mark = int.from_bytes(sha256(f"concat_reindex {place}".encode()).digest()[:16])
            changed.append(pl.col(ID) ^ pl.lit(mark, dtype=pl.UInt128))
        if changed:
            rows = rows.with_columns(changed)
        return Delta(rows, delta.weights, delta.consolidated and rows.width == delta.rows.width)
