"""What functions that share a cache have in common: its limits, and what is dropped when there is too much."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from asyncpersist.clock import Clock
from asyncpersist.udfs.caches import CacheStrategy, DiskCache, InMemoryCache
from asyncpersist.udfs.caching.entries import Entries
from asyncpersist.udfs.caching.table import CacheTable

__all__ = ["CacheRoom"]

_SLACK = 10
"""When there is too much, a tenth is freed beyond that: what is oldest is looked for once in a while."""
_FEW = 1000
"""So few entries are looked through each time."""


class CacheRoom:
    """The tables of functions that share a cache, and their limits: of bytes, of entries, or none.

    What is beyond a limit is dropped, what was used least recently first, whichever table it is of. Before that go the
    `foreign` ones: caches of functions that are not in this run, whose bytes count as well; each goes as a whole, and
    is then one of the `dropped`.

    All that tables do is done under the `lock` of their room; where it is not said that something takes or needs no
    lock, it is for whoever has it. Uses are counted by a clock of their own: milliseconds of wall time, but always
    later than all uses before, in earlier runs too.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        max_bytes: int | None = None,
        max_entries: int | None = None,
    ) -> None:
        self.lock = threading.Lock()
        self.max_bytes = max_bytes
        self._clock = clock
        self._max_entries = max_entries
        self._foreign: dict[str, int] = {}
        self._dropped: list[str] = []
        self._tables: dict[str, CacheTable] = {}
        self._used = 0

    @staticmethod
    def of(strategies: Sequence[CacheStrategy], clock: Clock) -> CacheRoom:
        """The room of functions with these strategies, under the smallest limit of each kind that they give."""
        sizes = [strategy.size_limit for strategy in strategies if isinstance(strategy, DiskCache)]
        counts = [strategy.max_size for strategy in strategies if isinstance(strategy, InMemoryCache)]
        return CacheRoom(
            clock,
            max_bytes=min(sizes, default=None),
            max_entries=min((count for count in counts if count is not None), default=None),
        )

    def share_with(self, foreign: Mapping[str, int]) -> None:
        """Says which foreign ones there are: names and bytes, the one used least recently first. Takes the lock."""
        with self.lock:
            self._foreign = dict(foreign)
            self.trim()

    def table(self, digest: str, dtype: pl.DataType, *, keep_for: float | None = None) -> CacheTable:
        """The table of the function of this digest, whose results are of this type. Takes the lock.

        `keep_for`: the seconds after which no result counts any more; None: never. If it is given differently for one
        table, the longest counts.
        """
        with self.lock:
            table = self._tables.get(digest)
            if table is None:
                table = self._tables[digest] = CacheTable(self, digest, dtype, keep_for=keep_for)
            else:
                table.keep_at_least(keep_for)
            return table

    @property
    def tables(self) -> Mapping[str, CacheTable]:
        """By the digests of their functions. Needs no lock."""
        return self._tables

    @property
    def bytes(self) -> int:
        """What all of it takes, about, foreign ones included. Needs no lock."""
        return sum(table.bytes for table in tuple(self._tables.values())) + sum(tuple(self._foreign.values()))

    @property
    def dropped(self) -> Sequence[str]:
        """The foreign ones that had to go, in this order. Needs no lock."""
        return tuple(self._dropped)

    def now(self) -> int:
        """Milliseconds of wall time. Needs no lock."""
        return max(1, int(self._clock.wall() * 1000))

    def use(self) -> int:
        """The moment of a use that is later than all before."""
        self._used = max(self._used + 1, self.now())
        return self._used

    def used_before(self, moment: int) -> None:
        """All uses to come are later than this."""
        self._used = max(self._used, moment)

    def contents(self) -> list[Entries]:
        """The entries of all tables."""
        return [table.entries for table in self._tables.values()]

    @property
    def half_full(self) -> bool:
        """Whether what there is takes more than half of a limit."""
        entries = sum(map(len, self.contents()))
        return (self.max_bytes is not None and 2 * self.bytes > self.max_bytes) or (
            self._max_entries is not None and 2 * entries > self._max_entries
        )

    def trim(self) -> None:
        """Drops what is too much. Entries of any table may change their slots."""
        if self.max_bytes is not None:
            while self._foreign and self.bytes > self.max_bytes:
                name = next(iter(self._foreign))
                del self._foreign[name]
                self._dropped.append(name)
            if (excess := self.bytes - self.max_bytes) > 0:
                self._drop(by_bytes=excess + self.max_bytes // _SLACK)
        if self._max_entries is not None and (excess := sum(map(len, self.contents())) - self._max_entries) > 0:
            self._drop(by_entries=excess + (self._max_entries // _SLACK if self._max_entries > _FEW else 0))

    def _drop(self, *, by_bytes: int = 0, by_entries: int = 0) -> None:
        """Retires the entries used least recently, until there are as many bytes or entries less."""
        contents = self.contents()
        lives = [np.flatnonzero(entries.live()) for entries in contents]
        used = np.concatenate([entries.used[live] for entries, live in zip(contents, lives, strict=True)])
        sizes = np.concatenate([entries.sizes[live] for entries, live in zip(contents, lives, strict=True)])
        oldest = _oldest(used, sizes, by_bytes, by_entries)
        first = 0
        for entries, live in zip(contents, lives, strict=True):
            here = oldest[(oldest >= first) & (oldest < first + len(live))]
            entries.retire(live[here - first])
            first += len(live)


def _oldest(
    used: np.ndarray[tuple[int], np.dtype[np.int64]],
    sizes: np.ndarray[tuple[int], np.dtype[np.int64]],
    by_bytes: int,
    by_entries: int,
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The places of the entries used least recently: as few as have so many bytes, and at least so many."""
    part = max(1, by_entries, len(used) // 8)
    while part < len(used):
        places = np.argpartition(used, part)[:part]
        if sizes[places].sum() >= by_bytes:
            break
        part *= 2
    else:
        places = np.arange(len(used))
    places = places[np.argsort(used[places], kind="stable")]
    enough = int(np.searchsorted(np.cumsum(sizes[places]), by_bytes)) + 1 if by_bytes else 0
    return places[: max(enough, by_entries)]
