"""Numbers under which calls are made, so that answers find their way back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from asyncpersist.columnar.arrangement import Arrangement
from asyncpersist.columnar.index import Index
from asyncpersist.columnar.slot_array import SlotArray
from asyncpersist.udfs.calling.runner import Positions

__all__ = ["Tickets"]

_MIN_GARBAGE = 1024


class Tickets:
    """Calls under way by the id columns `by` (UInt128), each with a number that is given once and never again."""

    def __init__(self, by: Sequence[str]) -> None:
        self._calls = Arrangement(dict.fromkeys(by, pl.UInt128()))
        self._numbers = SlotArray(np.int64)
        self._slots = Index()  # by numbers; some of them are of calls that are over
        self._next = 0

    def __len__(self) -> int:
        """How many calls are under way."""
        return self._calls.live

    def give(self, calls: pl.DataFrame) -> Positions:
        """Numbers for distinct calls that have none, ascending."""
        hashes = self._calls.hashes(calls)
        order = np.argsort(hashes)
        slots = np.empty(len(order), np.int64)
        slots[order] = self._calls.claim(calls[order], hashes[order])
        numbers = np.arange(self._next, self._next + len(slots), dtype=np.int64)
        self._next += len(slots)
        self._calls.add(slots, np.ones(len(slots), np.int64))
        self._numbers.reserve(len(self._calls))
        self._numbers.items[slots] = numbers
        self._slots.add(numbers.astype(np.uint64), slots)
        return numbers

    def of(self, calls: pl.DataFrame) -> Positions:
        """The numbers of those of some calls that are under way."""
        slots = self._calls.find(calls)
        slots = slots[slots >= 0]
        return self._numbers.items[slots[self._calls.weights[slots] > 0]]

    def look_up(self, numbers: Positions) -> tuple[Positions, pl.DataFrame]:
        """The positions in distinct `numbers`, ascending, of those whose call is under way, and these calls."""
        positions, slots = self._find(numbers)
        return positions, self._calls.rows.gather(slots)

    def take(self, numbers: Positions) -> tuple[Positions, pl.DataFrame]:
        """The same; they are not under way any more."""
        positions, slots = self._find(numbers)
        calls = self._calls.rows.gather(slots)
        self._calls.add(slots, np.full(len(slots), -1, np.int64))
        self._collect()
        return positions, calls

    def _find(self, numbers: Positions) -> tuple[Positions, Positions]:
        order = np.argsort(numbers)
        found, slots = self._slots.candidates(numbers[order].astype(np.uint64))
        positions = order[found]
        live = (self._calls.weights[slots] > 0) & (self._numbers.items[slots] == numbers[positions])
        positions, slots = positions[live], slots[live]
        order = np.argsort(positions)
        return positions[order], slots[order]

    def _collect(self) -> None:
        wasteful = self._calls.wasteful
        if wasteful:
            self._numbers.keep(self._calls.compact(self._calls.removable()))
        if wasteful or len(self._slots) > 2 * self._calls.live + _MIN_GARBAGE:
            live = np.flatnonzero(self._calls.weights > 0)
            live = live[np.argsort(self._numbers.items[live])]
            self._slots = Index()
            self._slots.add(self._numbers.items[live].astype(np.uint64), live)
