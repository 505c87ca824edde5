"""Rows by key, with weights: what operators keep their state in.

Keys lie in a `RowStore` by slot, an `Index` leads from their hashes to the slots, and everything else an operator
knows of a key lies in columns of its own by the same slot. Slots are a matter of memory: files never hold them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from asyncpersist.columnar.hashing import hash_columns
from asyncpersist.columnar.index import Index
from asyncpersist.columnar.rows import RowStore
from asyncpersist.columnar.slot_array import SlotArray

__all__ = ["Arrangement", "NotThere"]

Slots = npt.NDArray[np.int64]
Weights = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

_MIN_GARBAGE = 1024
_MUCH = 0.5
"""The share of live slots beyond which an increment is made complete."""


class NotThere(RuntimeError):
    """More of a `key` was taken back than had been there: its weight would be `weight`, a negative one."""

    def __init__(self, weight: int, key: Mapping[str, Any]) -> None:
        named = ", ".join(f"{name} = {value!r}" for name, value in key.items() if not name.startswith("__"))
        of = f" of {named}" if named else ""
        super().__init__(f"rows were taken back that were not there: weight {weight}{of}")
        self.weight = weight
        self.key = key


class Arrangement:
    """Distinct keys with int64 weights; a key is live while its weight is positive.

    Keys of 0 weight stay in their slots until `compact`. Changes are noted by slot for the next increment: a dead key
    is in it, as a tombstone, if an earlier one had it live.

    Keys are hashed by the columns `hashed` alone, all of them by default: for where few are equal in these.
    """

    def __init__(
        self, schema: Mapping[str, pl.DataType], *, hashed: Sequence[str] | None = None, hash_bits: int = 64
    ) -> None:
        self.rows = RowStore(schema)
        self._columns = list(schema)
        self._hashed = self._columns if hashed is None else hashed
        self._hash_bits = hash_bits
        self._index = Index()
        self._weights = SlotArray(np.int64)
        self._touched = SlotArray(np.bool_)
        self._saved = SlotArray(np.bool_)  # live in the increments given out so far
        self._any_touched = False
        self._live = 0
        self._patience = 0

    def __len__(self) -> int:
        """The number of slots, dead ones included."""
        return len(self.rows)

    @property
    def live(self) -> int:
        """The number of live keys."""
        return self._live

    @property
    def weights(self) -> Weights:
        """By slot; not to be written to."""
        return self._weights.items[: len(self.rows)]

    def hashes(self, keys: pl.DataFrame) -> Hashes:
        """The hashes of the key columns of `keys`."""
        return hash_columns(keys, self._hashed, bits=self._hash_bits)

    def find(self, keys: pl.DataFrame) -> Slots:
        """The slot of each key, -1 where there is none. `keys` has (at least) the key columns; rows may repeat."""
        hashes = self.hashes(keys)
        order = np.argsort(hashes)
        slots = np.empty(keys.height, np.int64)
        slots[order] = self._find(keys.select(self._columns)[order], hashes[order])
        return slots

    def alike(self, keys: pl.DataFrame) -> tuple[Slots, Slots]:
        """All pairs of a position in `keys` and the slot of a live key that is equal in the columns `hashed`.

        `keys` has (at least) these columns; rows may repeat. In no particular order.
        """
        hashes = self.hashes(keys)
        order = np.argsort(hashes)
        positions, slots = self._index.candidates(hashes[order])
        live = self._weights.items[slots] > 0
        positions, slots = order[positions[live]], slots[live]
        same = self.rows.equal(slots, keys.select(self._hashed), positions)
        return (positions, slots) if same.all() else (positions[same], slots[same])

    def claim(self, keys: pl.DataFrame, hashes: Hashes) -> Slots:
        """The slot of each key; new ones, of weight 0, where there is none.

        No key may occur twice in `keys`, and its rows ascend by their `hashes`: so neighbours in a probe are neighbours
        in memory.
        """
        keys = keys.select(self._columns)
        slots = self._find(keys, hashes)
        missing = np.flatnonzero(slots < 0)
        if len(missing):
            first = len(self.rows)
            slots[missing] = np.arange(first, first + len(missing))
            self.rows.append(keys if len(missing) == keys.height else keys[missing])
            self._index.add(hashes[missing], slots[missing])
            for column in (self._weights, self._touched, self._saved):
                column.reserve(len(self.rows))
        return slots

    def add(self, slots: Slots, weights: Weights) -> tuple[Weights, Weights]:
        """Adds weights to distinct slots, and notes these as touched; the weights before and after.

        Raises `NotThere` if one becomes negative.
        """
        before = self._weights.items[slots]
        after = before + weights
        if len(after) and after.min() < 0:
            where = int(np.flatnonzero(after < 0)[0])
            raise NotThere(int(after[where]), self.rows.gather(slots[where : where + 1]).row(0, named=True))
        self._weights.items[slots] = after
        self._live += int(np.count_nonzero(after)) - int(np.count_nonzero(before))
        self.touch(slots)
        return before, after

    def touch(self, slots: Slots) -> None:
        """Notes that what is kept under these slots has changed."""
        self._touched.items[slots] = True
        self._any_touched = True

    def take_touched(self) -> tuple[Slots, bool]:
        """The slots of the next increment, ascending, and whether they are all there are: from now on given out.

        Dead ones are tombstones. Where much was touched, writing all of it at once costs less than merging it later:
        then these are all the live ones.
        """
        if not self._any_touched:
            return np.empty(0, np.int64), False
        slots = np.flatnonzero(self._touched.items[: len(self.rows)])
        self._touched.items[slots] = False
        self._any_touched = False
        self._patience = 0
        if len(slots) > _MUCH * self._live:
            lives = self._weights.items[: len(self.rows)] > 0
            self._saved.items[: len(self.rows)] = lives
            return np.flatnonzero(lives), True
        live = self._weights.items[slots] > 0
        due = live | self._saved.items[slots]
        self._saved.items[slots] = live
        return slots if due.all() else slots[due], False

    def load(self, keys: pl.DataFrame, weights: Weights) -> Slots:
        """Fills in live keys that are not there yet, as given out already; their slots."""
        hashes = self.hashes(keys)
        order = np.argsort(hashes)
        slots = np.empty(keys.height, np.int64)
        slots[order] = self.claim(keys.select(self._columns)[order], hashes[order])
        self._weights.items[slots] = weights
        self._saved.items[slots] = True
        self._live += len(slots)
        return slots

    @property
    def wasteful(self) -> bool:
        """Whether so many slots are dead, more than half of all, that a `compact` pays for itself."""
        return len(self.rows) - self._live > max(_MIN_GARBAGE, self._live, self._patience)

    def removable(self) -> Mask:
        """By slot, what is dead and owes the next increment no tombstone."""
        size = len(self.rows)
        free: Mask = (self._weights.items[:size] == 0) & ~self._saved.items[:size]
        return free

    def compact(self, removed: Mask) -> Slots:
        """Removes slots, of those that are `removable`. What remains moves up; its old slots, ascending, are returned.

        The caller does the same to all it keeps by slot.
        """
        kept = np.flatnonzero(~removed)
        renumbered = np.full(len(removed), -1, np.int64)
        renumbered[kept] = np.arange(len(kept))
        self.rows.keep(kept)
        self._index.compact(renumbered)
        for column in (self._weights, self._touched, self._saved):
            column.keep(kept)
        # What had to stay will still be there next time: it alone is no reason to try again before the next increment.
        self._patience = 2 * (len(kept) - self._live)
        return kept

    def rekey(self, keys: pl.DataFrame) -> None:
        """Gives every slot another key: row i of `keys` that of slot i. They must be as distinct as the old ones."""
        self.rows = RowStore(self.rows.schema)
        self.rows.append(keys.select(self._columns))
        self._index = Index()
        hashes = self.hashes(keys)
        order = np.argsort(hashes)
        self._index.add(hashes[order], order)

    def _find(self, keys: pl.DataFrame, hashes: Hashes) -> Slots:
        found = np.full(keys.height, -1, np.int64)
        positions, slots = self._index.candidates(hashes)
        if len(positions):
            same = self.rows.equal(slots, keys, positions)
            if same.all():
                found[positions] = slots
            else:
                found[positions[same]] = slots[same]
        return found
