"""What functions returned for rows that are there."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from asyncpersist.columnar.arrangement import Arrangement, NotThere
from asyncpersist.columnar.delta import ID, WEIGHT
from asyncpersist.columnar.hashing import id_of
from asyncpersist.columnar.slot_values import slot_values
from asyncpersist.columnar.state import Increment
from asyncpersist.operators.inheriting import ARGUMENTS, heirs

__all__ = ["ARGUMENTS", "VALUE", "Remembered"]

Slots = npt.NDArray[np.int64]
Weights = npt.NDArray[np.int64]

VALUE = "__value"

_SCHEMA = {ID: pl.UInt128(), ARGUMENTS: pl.UInt128()}


class Remembered:
    """By row id and a 128-bit hash of the arguments: how often that is there, and what was returned. A `State`.

    Arguments themselves are not kept. `dtype` is the Polars type of what is returned.
    """

    def __init__(self, dtype: pl.DataType, *, hash_bits: int = 64) -> None:
        self._rows = Arrangement(_SCHEMA, hash_bits=hash_bits)
        self._values = slot_values(dtype)
        # In this epoch.
        self._gone: list[Slots] = []
        self._inherited: list[Slots] = []

    @staticmethod
    def keys(ids: pl.Series, arguments: pl.DataFrame) -> pl.DataFrame:
        """What rows are known by; `arguments` holds nothing but these."""
        # Without arguments one id is as good as any.
        hashes = id_of(arguments, arguments.columns) if arguments.width else pl.zeros(len(ids), pl.UInt128, eager=True)
        return pl.DataFrame([ids.alias(ID), hashes.alias(ARGUMENTS)])

    def find(self, keys: pl.DataFrame) -> Slots:
        """The slot of each key, -1 where nothing is known of it."""
        slots = self._rows.find(keys)
        known = slots >= 0
        known[known] = self._rows.weights[slots[known]] > 0
        return np.where(known, slots, -1)

    def counts(self, slots: Slots) -> Weights:
        """How often that is there."""
        return self._rows.weights[slots]

    def get(self, slots: Slots) -> pl.Series:
        """What was returned."""
        return self._values.get(slots)

    def add(self, keys: pl.DataFrame, weights: Weights, values: pl.Series, valued: npt.NDArray[np.bool_]) -> None:
        """Adds weights to distinct keys; `values` are those of keys that are new, which are `valued`.

        Raises `NotThere` where more is taken back than was there.
        """
        hashes = self._rows.hashes(keys)
        order = np.argsort(hashes)
        slots = np.empty(len(order), np.int64)
        slots[order] = self._rows.claim(keys[order], hashes[order])
        self._values.reserve(len(self._rows))
        if valued.any():
            self._values.put(slots[valued], values)
        changed = slots[weights != 0]
        _, after = self._rows.add(changed, weights[weights != 0])
        if (gone := changed[after == 0]).size:
            self._gone.append(gone)

    def heritage(self, comes: pl.DataFrame, leaves: Slots) -> tuple[Slots, Slots]:
        """Of keys that come, the places of those that inherit what was returned for one that has gone, and its slot.

        Gone is what went in this epoch, and the slots `leaves`. Each is inherited once.
        """
        none = np.empty(0, np.int64)
        dead = [slots[self._rows.weights[slots] == 0] for slots in self._gone]
        left = np.setdiff1d(np.concatenate([*dead, leaves]), np.concatenate([none, *self._inherited]))
        if not (len(left) and comes.height):
            return none, none
        places, used = heirs(comes, self._rows.rows.gather(left))
        self._inherited.append(left[used])
        return places, left[used]

    @property
    def unsettled(self) -> bool:
        """Whether `end_epoch` has something to do."""
        return bool(self._gone)

    def end_epoch(self) -> None:
        """What has gone is forgotten."""
        self._gone, self._inherited = [], []
        if self._rows.wasteful:
            self._values.keep(self._rows.compact(self._rows.removable()))

    @property
    def key(self) -> tuple[str, ...]:
        return (ID, ARGUMENTS)

    def capture(self) -> Increment | None:
        slots, complete = self._rows.take_touched()
        if not (len(slots) or complete):
            return None
        columns = self._rows.rows.gather(slots).get_columns()
        value = self._values.get(slots).alias(VALUE)
        return Increment(pl.DataFrame([*columns, value, pl.Series(WEIGHT, self._rows.weights[slots])]), complete)

    def load(self, frame: pl.DataFrame) -> None:
        slots = self._rows.load(frame, frame[WEIGHT].to_numpy())
        self._values.reserve(len(self._rows))
        self._values.put(slots, frame[VALUE])

    @staticmethod
    def unknown(keys: pl.DataFrame) -> NotThere:
        """The error for the first of some keys that should be known and are not."""
        return NotThere(-1, keys.row(0, named=True))
