"""Results of one function, for all who call it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from asyncpersist.columnar.state import Increment, State
from asyncpersist.udfs.caching.entries import CREATED, ENTRY_BYTES, KEY, USED, VALUE, Entries
from asyncpersist.udfs.caching.flight import Flight
from asyncpersist.udfs.caching.keys import Keys, distinct
from asyncpersist.udfs.caching.sizes import value_sizes
from asyncpersist.udfs.caching.uses import Uses
from asyncpersist.udfs.calling.runner import Positions

if TYPE_CHECKING:
    from asyncpersist.udfs.caching.room import CacheRoom

__all__ = ["CREATED", "KEY", "USED", "VALUE", "Asked", "CacheTable", "Elsewhere"]

_SWEEPS = 8
"""In the time for which results count, so often is looked for those that no longer do."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Calls that somebody else makes: `positions` in `flight`, which answer the `kinds` of rows."""

    flight: Flight
    positions: Positions
    kinds: Positions


@dataclass(frozen=True, slots=True)
class Asked:
    """What a table has for rows of arguments, and what is to be called.

    `values` are those of the rows `found`, in their order. The rows `missing` are of some kinds, equal ones of the
    same: `first` is a row of each, `kind` the kind of each missing row; None: each is a kind of its own. The kinds
    `called` are for whoever asked to call, as `flight`, unless that is None; None: all kinds. The others are called
    `elsewhere`. `puts`: as of `CacheTable.take_in`.
    """

    found: Positions
    values: pl.Series
    missing: Positions
    first: Positions
    kind: Positions | None
    flight: Flight | None
    called: Positions | None
    elsewhere: tuple[Elsewhere, ...]
    puts: int


class CacheTable:
    """Results of the function of one `digest`, by the ids of their arguments, shared with others of its `room`.

    As a `State` it holds `KEY`, `VALUE` and `CREATED`. With it goes another one, `uses`, which has to be loaded after
    it: `KEY` and `USED`, see the module `uses`. Both may be captured at any time.

    Whoever wants results `ask`s, and calls the function for what has to be called; others that ask meanwhile are told
    of these calls and make none. Answers are taken in from calls under way whenever the table is looked at or captured,
    so that to answer never waits for a lock. All methods may be called from any thread but the loop's, as they wait for
    each other.
    """

    def __init__(self, room: CacheRoom, digest: str, dtype: pl.DataType, *, keep_for: float | None = None) -> None:
        self.digest = digest
        self.uses: State = _StoredUses(self)
        self.entries = Entries(dtype)
        """To be used under the room's lock."""
        self.room = room
        self.written = 0
        """The largest of `Asked.puts` of which somebody has said that all of it is durable."""
        self.last_use = 0
        """When a result was put or found last, in milliseconds of wall time; 0: never. Takes no lock."""
        self._puts = 0
        self._stored_uses = Uses(self.entries)
        self._keep_for = keep_for
        self._next_sweep = 0
        self._flights: list[tuple[Flight, Keys]] = []

    def __len__(self) -> int:
        """The number of results. Takes no lock."""
        return len(self.entries)

    @property
    def bytes(self) -> int:
        """What they take, about. Takes no lock."""
        return self.entries.bytes

    @property
    def key(self) -> tuple[str, ...]:
        return (KEY,)

    def keep_at_least(self, seconds: float | None) -> None:
        """Results may count for so long, None: for ever. Under the room's lock."""
        if self._keep_for is not None:
            self._keep_for = None if seconds is None else max(self._keep_for, seconds)

    def ask(self, keys: Keys, *, ttl: float | None = None) -> Asked:
        """What there is under these keys, put within the last `ttl` seconds; what is found counts as used.

        The rest is for the caller to call, unless it is called elsewhere: whoever gets a flight must begin it. It is
        told what is answered, and that is taken in by itself.
        """
        with self.room.lock:
            self._take_in()
            found, values, missing = self._find(keys, ttl)
            if not len(missing):
                return Asked(found, values, missing, missing, None, None, None, (), self._puts)
            lacking = keys if len(missing) == len(keys) else keys.take(missing)
            kinds = distinct(lacking)
            first = missing if kinds.first is None else missing[kinds.first]
            wanted = lacking if kinds.first is None else lacking.take(kinds.first)
            elsewhere = self._elsewhere(wanted, ttl) if self._flights else ()
            flight, called = None, None
            if elsewhere:
                others = np.concatenate([some.kinds for some in elsewhere])
                called = np.setdiff1d(np.arange(len(wanted)), others, assume_unique=True)
                wanted = wanted.take(called)
            if len(wanted):
                flight = Flight(len(wanted), self.room.now)
                self._flights.append((flight, wanted))
            return Asked(found, values, missing, first, kinds.kind, flight, called, elsewhere, self._puts)

    def look_up(self, keys: Keys, *, ttl: float | None = None) -> tuple[Positions, pl.Series]:
        """The rows of the keys there is something under, put within the last `ttl` seconds, and their values."""
        with self.room.lock:
            self._take_in()
            found, values, _ = self._find(keys, ttl)
            return found, values

    def put(self, keys: Keys, values: pl.Series) -> None:
        """Puts results under distinct keys."""
        with self.room.lock:
            self._put(keys, values, np.full(len(keys), self.room.now()))
            self._sweep()
            self.room.trim()

    def take_in(self) -> int:
        """Takes in what was answered; the number of results that were ever put, by which `written` goes on."""
        with self.room.lock:
            self._take_in()
            return self._puts

    def capture(self) -> Increment | None:
        with self.room.lock:
            self._take_in()
            self.room.trim()
            return self.entries.capture()

    def load(self, frame: pl.DataFrame) -> None:
        with self.room.lock:
            if frame.height:
                self.entries.load(frame)
                self._used_before(int(self.entries.used.max()))

    def capture_uses(self) -> Increment | None:
        """As `uses.capture`."""
        with self.room.lock:
            return self._stored_uses.capture(self.room.contents() if self.room.half_full else ())

    def load_uses(self, frame: pl.DataFrame) -> None:
        """As `uses.load`."""
        with self.room.lock:
            if frame.height:
                self._stored_uses.load(frame)
                self._used_before(int(frame[USED].to_numpy().max()))

    def _find(self, keys: Keys, ttl: float | None) -> tuple[Positions, pl.Series, Positions]:
        """The rows found, their values, and the other rows."""
        slots = self.entries.find(keys)
        hit = slots >= 0
        if ttl is not None:
            hit[hit] = self.entries.created[slots[hit]] > self.room.now() - ttl * 1000
        found, missing = np.flatnonzero(hit), np.flatnonzero(~hit)
        slots = slots if not len(missing) else slots[found]
        if len(slots):
            self.last_use = self.room.use()
            self.entries.use(slots, self.last_use)
        return found, self.entries.get(slots), missing

    def _elsewhere(self, keys: Keys, ttl: float | None) -> tuple[Elsewhere, ...]:
        """What of distinct keys is called by others, or was by calls that are still under way."""
        theirs = [known for _, known in self._flights]
        sizes = np.array([len(known) for known in theirs])
        under_way = pl.DataFrame(
            {
                "high": np.concatenate([known.high for known in theirs]),
                "low": np.concatenate([known.low for known in theirs]),
                "flight": np.repeat(np.arange(len(sizes)), sizes),
                "position": np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes),
            }
        )
        wanted = pl.DataFrame({"high": keys.high, "low": keys.low, "kind": np.arange(len(keys))})
        shared = wanted.join(under_way, on=["high", "low"]).sort("flight").unique("kind", keep="last")
        found = []
        for rows in shared.partition_by("flight"):
            flight, _ = self._flights[rows["flight"][0]]
            positions, kinds = rows["position"].to_numpy(), rows["kind"].to_numpy()
            if ttl is not None:
                counts = ~flight.stale(positions, self.room.now() - ttl * 1000)
                positions, kinds = positions[counts], kinds[counts]
            if len(kinds):
                found.append(Elsewhere(flight, positions, kinds))
        return tuple(found)

    def _take_in(self) -> None:
        going_on = []
        taken = False
        for flight, keys in self._flights:
            # Looked at first: what is answered between the two is taken in, and the end is seen the next time.
            ended = flight.ended
            if (fresh := flight.fresh()) is not None:
                self._put(keys.take(fresh.positions), fresh.values, fresh.when)
                taken = True
            if not ended:
                going_on.append((flight, keys))
        self._flights = going_on
        self._sweep()
        if taken:
            self.room.trim()

    def _put(self, keys: Keys, values: pl.Series, created: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
        self._puts += len(keys)
        sizes = value_sizes(values) + ENTRY_BYTES
        limit = self.room.max_bytes
        if limit is not None and len(sizes) and sizes.max() > limit:
            # What will never fit must not drive out all others.
            fits = sizes <= limit
            keys, values, sizes, created = (
                keys.take(np.flatnonzero(fits)),
                values.filter(fits),
                sizes[fits],
                created[fits],
            )
        if len(keys):
            self.last_use = self.room.use()
            self.entries.put(keys, values, sizes, created, self.last_use)

    def _used_before(self, moment: int) -> None:
        self.last_use = max(self.last_use, moment)
        self.room.used_before(moment)

    def _sweep(self) -> None:
        """Once in a while, drops what no longer counts."""
        now = self.room.now()
        if self._keep_for is None or now < self._next_sweep:
            return
        milliseconds = self._keep_for * 1000
        self._next_sweep = now + max(1, int(milliseconds / _SWEEPS))
        self.entries.retire(np.flatnonzero(self.entries.live() & (self.entries.created <= now - milliseconds)))


class _StoredUses:
    """The second state of a table."""

    def __init__(self, table: CacheTable) -> None:
        self._table = table

    @property
    def key(self) -> tuple[str, ...]:
        return (KEY,)

    def capture(self) -> Increment | None:
        return self._table.capture_uses()

    def load(self, frame: pl.DataFrame) -> None:
        self._table.load_uses(frame)
