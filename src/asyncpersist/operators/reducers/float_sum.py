"""Sums of floats, exact, with NaN and infinities that can be retracted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from asyncpersist.columnar.exact_sum import MAX_WEIGHT, ExactSums, split
from asyncpersist.columnar.slot_array import SlotArray
from asyncpersist.operators.reducers.accumulator import Accumulator, Ints, Slots
from asyncpersist.operators.reducers.batch import Batch

__all__ = ["FloatSum"]

_SPECIAL = ("nan", "inf", "-inf")
_WIDE = 2**32


class FloatSum(Accumulator):
    """The double nearest to the exact sum of `column` times weights, without the Nones.

    Saved as one list per group: the number of the lowest limb; how many NaN, inf and -inf; the limbs from the lowest.
    """

    def __init__(self, column: str) -> None:
        self.name = f"__sum:{column}"
        self._column = column
        self._exact = ExactSums()
        self._special = [SlotArray(np.int64) for _ in _SPECIAL]
        self._any_special = False
        self._values = SlotArray(np.float64)
        self._parts: list[int] = []
        self._batch_special = False

    def prepare(self, batch: Batch) -> Sequence[pl.Expr]:
        column = batch.rows[self._column]
        values = (column.fill_null(0.0) if column.null_count() else column).to_numpy()
        finite = np.isfinite(values)
        self._batch_special = not finite.all()
        expressions: list[pl.Expr] = []
        if self._batch_special:
            for name, mask in zip(_SPECIAL, (np.isnan(values), values == np.inf, values == -np.inf), strict=True):
                batch.add(self._special_name(name), mask.astype(np.int64))
                expressions.append(batch.weighed(pl.col(self._special_name(name))).sum())
            values = np.where(finite, values, 0.0)
        parts = split(values)
        self._parts = list(parts)
        wide = batch.total > MAX_WEIGHT
        for limb, part in parts.items():
            weighed = part if batch.weights is None or wide else part * batch.weights
            batch.add(self._part_name(limb), weighed)
            summed = pl.col(self._part_name(limb))
            expressions.append(batch.weighed(summed.cast(pl.Int128)).sum() if wide else summed.sum())
        return expressions

    def update(self, groups: pl.DataFrame, slots: Slots) -> None:
        parts: dict[int, Ints] = {}
        for limb in self._parts:
            part = groups[self._part_name(limb)]
            if part.dtype == pl.Int128:
                for offset, piece in enumerate(_in_limbs(part)):
                    parts[limb + offset] = parts.get(limb + offset, 0) + piece
            else:
                parts[limb] = part.to_numpy()
        self._values.items[slots] = self._exact.add(slots, parts)
        if self._batch_special:
            self._any_special = True
            for name, counts in zip(_SPECIAL, self._special, strict=True):
                counts.items[slots] += groups[self._special_name(name)].to_numpy()

    def get(self, slots: Slots) -> npt.NDArray[np.float64]:
        """The sums of groups."""
        values = self._values.items[slots]
        if self._any_special:
            nan, positive, negative = (counts.items[slots] > 0 for counts in self._special)
            values[positive] = np.inf
            values[negative] = -np.inf
            values[nan | (positive & negative)] = np.nan
        return values

    def reserve(self, size: int) -> None:
        self._exact.reserve(size)
        self._values.reserve(size)
        for counts in self._special:
            counts.reserve(size)

    def keep(self, slots: Slots) -> None:
        self._exact.keep(slots)
        self._values.keep(slots)
        for counts in self._special:
            counts.keep(slots)

    def save(self, slots: Slots) -> list[pl.Series]:
        lowest, limbs = self._exact.limbs(slots)
        head = np.full(len(slots), lowest)
        lists = np.stack([head, *(counts.items[slots] for counts in self._special), *limbs], axis=1)
        return [pl.Series(self.name, lists, dtype=pl.Array(pl.Int64, lists.shape[1])).arr.to_list()]

    def load(self, frame: pl.DataFrame, slots: Slots) -> None:
        lists = frame[self.name]
        lengths = lists.list.len().to_numpy()
        lowest = lists.list.first().to_numpy()
        shapes = np.unique(np.stack([lengths, lowest], axis=1), axis=0) if len(slots) else ()
        for length, low in shapes:
            rows = np.flatnonzero((lengths == length) & (lowest == low))
            items = lists[pl.Series(rows)].explode().to_numpy().reshape(len(rows), length)
            for offset, counts in enumerate(self._special):
                counts.items[slots[rows]] = items[:, 1 + offset]
            self._any_special = self._any_special or bool(items[:, 1:4].any())
            parts = {int(low) + i: items[:, 4 + i] for i in range(int(length) - 4)}
            self._values.items[slots[rows]] = self._exact.add(slots[rows], parts)

    def _part_name(self, limb: int) -> str:
        return f"{self.name}:{limb}"

    def _special_name(self, name: str) -> str:
        return f"{self.name}:{name}"


def _in_limbs(part: pl.Series) -> list[Ints]:
    """128-bit numbers as four limbs."""
    base = pl.lit(_WIDE, dtype=pl.Int128)
    frame = part.alias("rest").to_frame()
    pieces = []
    for _ in range(3):
        pieces.append(frame.select((pl.col("rest") % base).cast(pl.Int64)).to_series().to_numpy())
        frame = frame.select(pl.col("rest") // base)
    pieces.append(frame["rest"].cast(pl.Int64).to_numpy())
    return pieces
