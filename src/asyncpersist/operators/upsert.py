"""Upsert: a row replaces the one before it under its primary key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from asyncpersist.columnar.arrangement import Arrangement
from asyncpersist.columnar.delta import ID, ORDER, WEIGHT, Delta
from asyncpersist.columnar.hashing import id_of
from asyncpersist.columnar.slot_values import slot_values
from asyncpersist.columnar.state import Increment, State
from asyncpersist.dtypes import DType
from asyncpersist.operators.operator import PRESENT_ROWS, Operator
from asyncpersist.operators.reducers.batch import canonical
from asyncpersist.operators.replacement import differing, replacement

__all__ = ["Upsert", "saved_as"]

Slots = npt.NDArray[np.int64]

_POSITION = "__position"


class Upsert(Operator):
    """Of the rows under a `key` the one that came last, unless it was one of negative weight: then there is none.

    The input has `columns` and `ORDER`, by which rows come one after the other, whatever their place in the delta. Of a
    row of negative weight only the key counts; where nothing is under it, it means nothing. Output columns: `columns`,
    and with `ids` also `ID`, which follows from the key. -0.0 becomes 0.0. What replaces an equal row is no change.

    An epoch's output retracts exactly what was emitted; retractions come first. `hash_bits` is for tests.
    """

    def __init__(
        self, columns: Mapping[str, DType], key: Sequence[str], *, ids: bool = False, hash_bits: int = 64
    ) -> None:
        schema = {name: dtype.polars for name, dtype in columns.items()}
        self._canonical = [canonical(pl.col(name), dtype).alias(name) for name, dtype in schema.items()]
        self._key = list(key)
        self._others = [name for name in schema if name not in self._key]
        self._rows = Arrangement({name: schema[name] for name in self._key}, hash_bits=hash_bits)
        self._values = {name: slot_values(schema[name]) for name in self._others}
        self._ids = ids
        self._output = schema | ({ID: pl.UInt128()} if ids else {})

    def states(self) -> Mapping[str, State]:
        return {"rows": self}

    def step(self, inputs: Sequence[Delta]) -> Delta:
        (delta,) = inputs
        if delta.is_empty():
            return Delta(pl.DataFrame(schema=self._output), consolidated=True)
        rows = delta.rows.select(self._canonical)
        last = self._last(rows, delta.rows[ORDER].to_numpy())
        hashes = self._rows.hashes(rows[last])
        order = np.argsort(hashes)
        last = last[order]
        rows = rows[last]
        slots = self._rows.claim(rows, hashes[order])
        for values in self._values.values():
            values.reserve(len(self._rows))

        lives = np.ones(len(slots), np.bool_) if delta.weights is None else delta.weights[last] > 0
        lived = self._rows.weights[slots] > 0
        old = self._read(slots) if lived.any() else None
        new = rows.select(self._others).get_columns()
        change = lives if old is None else differing(lived, lives, old, new)
        self._rows.add(slots[change], lives[change].astype(np.int64) - lived[change])
        put = np.flatnonzero(lives & change)
        for name, values in self._values.items():
            values.put(slots[put], rows[name][put])

        same = [*rows.select(self._key).get_columns(), *([id_of(rows, self._key)] if self._ids else [])]
        output = replacement(same, old, new, gone=lived & change, come=lives & change)
        if self._rows.wasteful:
            kept = self._rows.compact(self._rows.removable())
            for values in self._values.values():
                values.keep(kept)
        return Delta(output.rows[list(self._output)], output.weights, consolidated=True)

    def present(self) -> Iterator[Delta]:
        live = np.flatnonzero(self._rows.weights > 0)
        for start in range(0, len(live), PRESENT_ROWS):
            slots = live[start : start + PRESENT_ROWS]
            keys = self._rows.rows.gather(slots)
            ids = [id_of(keys, self._key)] if self._ids else []
            rows = pl.DataFrame([*keys.get_columns(), *self._read(slots), *ids])
            yield Delta(rows[list(self._output)], consolidated=True)

    @property
    def key(self) -> tuple[str, ...]:
        return tuple(self._key)

    def capture(self) -> Increment | None:
        slots, complete = self._rows.take_touched()
        if not (len(slots) or complete):
            return None
        values = [column.alias(saved_as(column.name)) for column in self._read(slots)]
        columns = [*self._rows.rows.gather(slots).get_columns(), *values]
        return Increment(pl.DataFrame([*columns, pl.Series(WEIGHT, self._rows.weights[slots])]), complete)

    def load(self, frame: pl.DataFrame) -> None:
        slots = self._rows.load(frame, frame[WEIGHT].to_numpy())
        for name, values in self._values.items():
            values.reserve(len(self._rows))
            values.put(slots, frame[saved_as(name)])

    def _last(self, rows: pl.DataFrame, order: Slots) -> Slots:
        """The positions of the rows that are the last under their key."""
        rows = rows.select(self._key).with_columns(pl.Series(_POSITION, np.arange(rows.height)))
        if len(order) > 1 and (order[1:] < order[:-1]).any():
            rows = rows[np.argsort(order, kind="stable")]
        return rows.unique(self._key, keep="last")[_POSITION].to_numpy()

    def _read(self, slots: Slots) -> list[pl.Series]:
        return [values.get(slots).alias(name) for name, values in self._values.items()]


def saved_as(column: str) -> str:
    """The name in increments of a column that is not of the key, by which it can be told from those that are."""
    return f"__value:{column}"
