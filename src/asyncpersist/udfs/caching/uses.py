"""When entries were used last, as a state of its own, so that a run that only finds results writes none again.

It says something only of entries that a later run would otherwise take for much older than they are. A run believes
that an entry was last used when it was created, or when this state says. Both are put in order, what is believed and
what is true; an entry is written where its place among the true ones is later by more than an eighth of all entries of
the room. So:

- While all are used in turn nothing is written, and what is used all the time is written once: until an eighth of the
  others have been used after that.
- A later run drops first what was used least recently, as if it had not been another run, save that entries may have
  changed places with those up to an eighth away; in a room of fewer than eight nothing has.
- As long as a room is not half full nothing is written, as nothing will have to be dropped soon. What was found in such
  a run counts as not used once the next one has filled the room.

One use is 24 bytes before compression.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from asyncpersist.columnar.delta import WEIGHT
from asyncpersist.columnar.state import Increment
from asyncpersist.udfs.caching.entries import KEY, USED, Entries
from asyncpersist.udfs.caching.keys import Keys

__all__ = ["Uses", "displaced"]

Moments = npt.NDArray[np.int64]
Slots = npt.NDArray[np.int64]

_SHARE = 8
_SAMPLE = 1 << 13


class Uses:
    """What is stored of the uses of some entries. Not thread-safe, as these."""

    def __init__(self, entries: Entries) -> None:
        self._entries = entries
        self._strays: pl.Series | None = None  # what is stored of keys that have no entry

    def capture(self, room: Sequence[Entries]) -> Increment | None:
        """See `State.capture`. `room`: all entries among which the next to be dropped is chosen; empty if none is
        going to be dropped soon: then only what is gone is told.
        """
        entries = self._entries
        if not entries.stirred and self._strays is None:
            return None
        gone = np.flatnonzero((entries.told > 0) & ~entries.live())
        entries.told[gone] = 0
        moved = self._displaced(room) if room else gone[:0]
        entries.told[moved] = entries.used[moved]
        # What is not looked at now will be, once the room is full enough.
        entries.stirred = not room
        strays, self._strays = self._strays, None
        if not (len(gone) or len(moved) or strays is not None):
            return None
        tombstones = entries.keys(gone).ids()
        if strays is not None:
            tombstones = pl.concat([tombstones, strays.alias(tombstones.name)])
        rows = {
            KEY: pl.concat([tombstones, entries.keys(moved).ids()]),
            USED: np.concatenate([np.zeros(len(tombstones), np.int64), entries.used[moved]]),
            WEIGHT: np.repeat(np.array([0, 1]), [len(tombstones), len(moved)]),
        }
        return Increment(pl.DataFrame(rows))

    def load(self, frame: pl.DataFrame) -> None:
        """See `State.load`; after the entries."""
        slots = self._entries.find(Keys.from_ids(frame[KEY]))
        there = slots >= 0
        used = frame[USED].to_numpy()[there]
        slots = slots[there]
        self._entries.told[slots] = used
        self._entries.used[slots] = np.maximum(self._entries.used[slots], used)  # a view
        if len(slots) < frame.height:
            self._strays = frame[KEY].filter(pl.Series(~there))

    def _displaced(self, room: Sequence[Entries]) -> Slots:
        """The slots of the entries that a later run would take for much older than they are."""
        restored = self._entries.restored
        candidates = np.flatnonzero(self._entries.live() & (self._entries.used > restored))
        if not len(candidates):
            return candidates
        step = -(-sum(map(len, room)) // _SAMPLE)
        samples = [(entries, np.flatnonzero(entries.live())[::step]) for entries in room]
        late = displaced(
            restored[candidates],
            self._entries.used[candidates],
            np.concatenate([entries.restored[slots] for entries, slots in samples]),
            np.concatenate([entries.used[slots] for entries, slots in samples]),
        )
        return candidates[late]


def displaced(restored: Moments, used: Moments, room_restored: Moments, room_used: Moments) -> npt.NDArray[np.bool_]:
    """Of entries that would be taken for used at `restored` and were `used`, which have to be written.

    If those are taken for used when they were, no other one is earlier than its place in the room by more than an
    eighth of all. The room is told from all of its entries or from a sample of them.
    """
    most = len(room_used) // _SHARE
    ordered = np.sort(room_used)
    places = np.searchsorted(ordered, room_used)
    believed = room_restored.copy()
    # One that is written passes others, which may then have to be written too.
    while True:
        by_belief = np.sort(believed)
        late = places - np.searchsorted(by_belief, believed) > most
        if not late.any():
            break
        believed[late] = room_used[late]
    late = np.searchsorted(ordered, used) - np.searchsorted(by_belief, restored) > most
    return late & (used > restored)
