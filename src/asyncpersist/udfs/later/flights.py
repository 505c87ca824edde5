"""Calls of one caller that others may need as well, by numbers."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import polars as pl

from asyncpersist.udfs.caching.flight import Flight
from asyncpersist.udfs.calling.runner import Positions

__all__ = ["Again", "Flights"]


Again = Callable[[Positions], tuple[Positions, Flight] | None]
"""A new flight for calls that are open, by numbers, and the numbers that are in it."""

_MOST = 32


class Flights:
    """Tells the flights that a cache knows of what was answered. All methods may be called from any thread.

    A flight for `n` calls has `n` numbers; it ends when all are answered.
    """

    def __init__(self) -> None:
        self._flights: list[tuple[Positions, Flight]] = []
        self._lock = threading.Lock()

    def add(self, numbers: Positions, flight: Flight, again: Again) -> None:
        """A flight whose calls have these numbers, which ascend. When there are many they become one."""
        with self._lock:
            self._flights.append((numbers, flight))
            if len(self._flights) > _MOST:
                self._regroup(self._flights, np.empty(0, np.int64), again)

    def answered(self, numbers: Positions, values: pl.Series) -> None:
        """These numbers were answered."""
        with self._lock:
            for own, flight in list(self._flights):
                places = np.searchsorted(own, numbers)
                places[places == len(own)] = 0
                here = own[places] == numbers
                if here.any():
                    flight.answered(places[here], values.filter(pl.Series(here)))
                    if flight.answered_count == len(own):
                        self._end(flight)

    def withdraw(self, numbers: Positions, again: Again) -> None:
        """Some numbers will not be answered: who waits for them is told so at once. The rest goes on."""
        with self._lock:
            self._regroup([entry for entry in self._flights if np.isin(entry[0], numbers).any()], numbers, again)

    def end(self, reason: BaseException) -> None:
        """Nothing is answered any more."""
        with self._lock:
            for _, flight in list(self._flights):
                self._end(flight, reason)

    def _regroup(self, flights: list[tuple[Positions, Flight]], without: Positions, again: Again) -> None:
        """What is open in some flights goes on in another one."""
        left = []
        for own, flight in list(flights):
            _, lacking = flight.values()
            left.append(own[lacking])
            self._end(flight)
        numbers = np.setdiff1d(np.concatenate(left), without) if left else without[:0]
        if len(numbers) and (other := again(numbers)) is not None:
            self._flights.append(other)

    def _end(self, flight: Flight, reason: BaseException | None = None) -> None:
        self._flights = [entry for entry in self._flights if entry[1] is not flight]
        flight.end(reason)
