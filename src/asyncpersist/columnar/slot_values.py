"""One value of any type, or None, per slot."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from asyncpersist.columnar.rows import RowStore
from asyncpersist.columnar.slot_array import SlotArray

__all__ = ["SlotValues", "slot_values"]

Slots = npt.NDArray[np.int64]

_MIN_GARBAGE = 1024


class SlotValues(Protocol):
    """A column by slot; slots never written hold None."""

    def reserve(self, size: int) -> None:
        """Makes room for the slots below `size`."""
        ...

    def get(self, slots: Slots) -> pl.Series:
        """The values in `slots`, in that order."""
        ...

    def put(self, slots: Slots, values: pl.Series) -> None:
        """Puts `values[i]` into `slots[i]`, which are distinct."""
        ...

    def keep(self, slots: Slots) -> None:
        """Keeps only what is in `slots` (ascending), which moves up to 0, 1, ..."""
        ...


def slot_values(dtype: pl.DataType) -> SlotValues:
    """A column of a Polars type: a NumPy array where there is one for it, else indices into a store of values."""
    if dtype in (pl.Int64, pl.Float64, pl.Boolean) or isinstance(dtype, (pl.Datetime, pl.Duration)):
        return _Dense(dtype)
    return _Indexed(dtype)


class _Dense:
    def __init__(self, dtype: pl.DataType) -> None:
        self._dtype = dtype
        kind: Any = {pl.Float64(): np.float64, pl.Boolean(): np.bool_}.get(dtype, np.int64)
        self._items: SlotArray[Any] = SlotArray(kind)
        self._present = SlotArray(np.bool_)

    def reserve(self, size: int) -> None:
        self._items.reserve(size)
        self._present.reserve(size)

    def get(self, slots: Slots) -> pl.Series:
        values = pl.Series("value", self._items.items[slots]).cast(self._dtype)
        present = self._present.items[slots]
        if present.all():
            return values
        return pl.select(pl.when(pl.Series(present)).then(values)).to_series().alias("value")

    def put(self, slots: Slots, values: pl.Series) -> None:
        if values.null_count():
            self._present.items[slots] = values.is_not_null().to_numpy()
            values = values.fill_null(strategy="zero") if values.dtype != pl.Boolean else values.fill_null(False)
        else:
            self._present.items[slots] = True
        self._items.items[slots] = values.to_physical().to_numpy()

    def keep(self, slots: Slots) -> None:
        self._items.keep(slots)
        self._present.keep(slots)


class _Indexed:
    """Row 0 of the store is None; values are only ever added, until garbage is as much as what counts."""

    def __init__(self, dtype: pl.DataType) -> None:
        self._none = pl.DataFrame({"value": pl.Series([None], dtype=dtype)})
        self._store = RowStore(self._none.schema)
        self._store.append(self._none)
        self._places = SlotArray(np.int64)

    def reserve(self, size: int) -> None:
        self._places.reserve(size)

    def get(self, slots: Slots) -> pl.Series:
        return self._store.gather(self._places.items[slots])["value"]

    def put(self, slots: Slots, values: pl.Series) -> None:
        present = values.is_not_null()
        taken = slots if present.all() else slots[present.to_numpy()]
        first = len(self._store)
        self._places.items[slots] = 0
        self._places.items[taken] = np.arange(first, first + len(taken))
        self._store.append(values.filter(present).alias("value").to_frame())
        if len(self._store) > 2 * len(self._places.items) + _MIN_GARBAGE:
            self._collect()

    def keep(self, slots: Slots) -> None:
        self._places.keep(slots)
        self._collect()

    def _collect(self) -> None:
        holders = np.flatnonzero(self._places.items)
        values = self._store.gather(self._places.items[holders])
        self._store = RowStore(self._none.schema)
        self._store.append(pl.concat([self._none, values]))
        self._places.items[holders] = np.arange(1, 1 + len(holders))
