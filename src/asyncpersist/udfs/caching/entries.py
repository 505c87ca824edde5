"""Results of one function by the keys of their arguments, in columns."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from asyncpersist.columnar.arrangement import Arrangement
from asyncpersist.columnar.delta import WEIGHT
from asyncpersist.columnar.slot_array import SlotArray
from asyncpersist.columnar.slot_values import slot_values
from asyncpersist.columnar.state import Increment
from asyncpersist.udfs.caching.keys import Keys
from asyncpersist.udfs.caching.sizes import value_sizes

__all__ = ["CREATED", "ENTRY_BYTES", "KEY", "USED", "VALUE", "Entries"]

Slots = npt.NDArray[np.int64]
Moments = npt.NDArray[np.int64]

KEY = "__key"
"""The id of the arguments (UInt128)."""

VALUE = "__value"
"""The result, in the function's type."""

CREATED = "__created"
"""When the result came, in milliseconds of wall time since 1970 (Int64)."""

USED = "__used"
"""When an entry was used last, on the clock of its room (Int64)."""

ENTRY_BYTES = 96
"""What an entry takes in memory beside its value, about, with what indexes it."""

_HIGH, _LOW = "high", "low"
_MUCH_WASTE = 1 << 20


class Entries:
    """Entries by slot. Not thread-safe: `CacheTable` has the lock.

    An entry is live from `put` until it is retired. `created` and `used` are by slot; so is `told`: what stored uses
    say of an entry, 0 where they say nothing.
    """

    def __init__(self, dtype: pl.DataType) -> None:
        self.stirred = False
        """Whether entries have come, gone or been used since somebody has looked; to be written to."""
        self._dtype = dtype
        # The halves of a key are hashes: one of them is enough to find it by, and less work than a number of 128 bits.
        self._keys = Arrangement({_HIGH: pl.UInt64(), _LOW: pl.UInt64()}, hashed=[_LOW])
        self._values = slot_values(dtype)
        self._created = SlotArray(np.int64)
        self._used = SlotArray(np.int64)
        self._told = SlotArray(np.int64)
        self._sizes = SlotArray(np.int64)  # 0 of what is not live
        self._bytes = 0
        self._waste = 0  # bytes of values that nobody can ask for any more, at most

    def __len__(self) -> int:
        """The number of live entries."""
        return self._keys.live

    @property
    def bytes(self) -> int:
        """What the live entries take, about."""
        return self._bytes

    @property
    def created(self) -> Moments:
        return self._created.items[: len(self._keys)]

    @property
    def used(self) -> Moments:
        return self._used.items[: len(self._keys)]

    @property
    def told(self) -> Moments:
        """To be written to."""
        return self._told.items[: len(self._keys)]

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        return self._sizes.items[: len(self._keys)]

    @property
    def restored(self) -> Moments:
        """When each entry was used last, as a later run would believe; a new array."""
        return np.maximum(self.created, self.told)

    def live(self) -> npt.NDArray[np.bool_]:
        """By slot, whether an entry is live."""
        return self._keys.weights > 0

    def find(self, keys: Keys) -> Slots:
        """The slot of each key; -1 where no entry is live."""
        if not self._keys.live:
            return np.full(len(keys), -1, np.int64)
        slots = self._keys.find(_frame(keys))
        if self._keys.live < len(self._keys):
            slots[self._keys.weights[slots] == 0] = -1  # where there is none, this looks at the last slot, and no harm
        return slots

    def get(self, slots: Slots) -> pl.Series:
        """The values in `slots`."""
        return self._values.get(slots)

    def keys(self, slots: Slots) -> Keys:
        rows = self._keys.rows.gather(slots)
        return Keys(rows[_HIGH].to_numpy(), rows[_LOW].to_numpy())

    def put(self, keys: Keys, values: pl.Series, sizes: npt.NDArray[np.int64], created: Moments, used: int) -> None:
        """Adds entries under distinct keys, instead of those that are there. `sizes` are those of the whole entries."""
        frame = _frame(keys)
        hashes = self._keys.hashes(frame)
        order = np.argsort(hashes)
        slots = self._keys.claim(frame[order], hashes[order])
        self._reserve()
        self._keys.add(slots, (self._keys.weights[slots] == 0).astype(np.int64))
        self._enter(slots, values[order], sizes[order], created[order])
        self.use(slots, used)

    def use(self, slots: Slots, moment: int) -> None:
        """Entries are used, later than any was before."""
        self._used.items[slots] = moment
        self.stirred = True

    def retire(self, slots: Slots) -> None:
        """Entries, which are live, are so no longer."""
        if not len(slots):
            return
        gone = int(self._sizes.items[slots].sum())
        self._keys.add(slots, np.full(len(slots), -1, np.int64))
        self._values.put(slots, pl.repeat(None, len(slots), dtype=self._dtype, eager=True))
        self._created.items[slots] = 0
        self._sizes.items[slots] = 0
        self._bytes -= gone
        self._waste += gone - ENTRY_BYTES * len(slots)
        self.stirred = True
        self.collect()

    def collect(self) -> None:
        """Frees what is gone, when it is much."""
        if self._keys.wasteful:
            # An entry that stored uses tell of stays until they have been told that it is gone.
            removed = self._keys.removable() & (self.told == 0)
            kept = self._keys.compact(removed)
            for column in (self._created, self._used, self._told, self._sizes):
                column.keep(kept)
            self._values.keep(kept)
            self._waste = 0
        elif self._waste > max(_MUCH_WASTE, self._bytes // 2):
            self._values.keep(np.arange(len(self._keys)))
            self._waste = 0

    def capture(self) -> Increment | None:
        """See `State.capture`: the entries put and retired since the last one."""
        slots, complete = self._keys.take_touched()
        if not (len(slots) or complete):
            return None
        columns = [
            self.keys(slots).ids().alias(KEY),
            self._values.get(slots).alias(VALUE),
            pl.Series(CREATED, self._created.items[slots]),
            pl.Series(WEIGHT, self._keys.weights[slots]),
        ]
        self.collect()
        return Increment(pl.DataFrame(columns), complete)

    def load(self, frame: pl.DataFrame) -> None:
        """See `State.load`. Each entry was last used when it was created."""
        keys = Keys.from_ids(frame[KEY])
        slots = self._keys.load(_frame(keys), frame[WEIGHT].to_numpy())
        self._reserve()
        created = frame[CREATED].to_numpy()
        self._enter(slots, frame[VALUE], value_sizes(frame[VALUE]) + ENTRY_BYTES, created)
        self._used.items[slots] = created

    def _enter(self, slots: Slots, values: pl.Series, sizes: npt.NDArray[np.int64], created: Moments) -> None:
        before = int(self._sizes.items[slots].sum())
        self._values.put(slots, values)
        self._created.items[slots] = created
        self._sizes.items[slots] = sizes
        self._bytes += int(sizes.sum()) - before
        self._waste += max(0, before - ENTRY_BYTES * len(slots))

    def _reserve(self) -> None:
        for column in (self._created, self._used, self._told, self._sizes):
            column.reserve(len(self._keys))
        self._values.reserve(len(self._keys))


def _frame(keys: Keys) -> pl.DataFrame:
    return pl.DataFrame({_HIGH: keys.high, _LOW: keys.low})
