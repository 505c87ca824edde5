"""How calls share the loop with everything else that runs in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from asyncpersist.clock import Clock
from asyncpersist.udfs.calling.pace import SLICE

__all__ = ["Turns"]

_NOT_BEGUN = float("-inf")


class Turns:
    """Slices of half a millisecond, one for each turn of the loop, which all calls that run in that turn share.

    `begin` is asked to begin as many tasks as take about a slice until they first wait for something, at most; it says
    how many there were. A task takes one call after the other while the clock is before `until` or the slice
    `has_begun` only now. When tasks end for lack of time, the next turn begins others. For the loop's thread.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, begin: Callable[[int], int], most: int) -> None:
        self._loop = loop
        self._now = clock.monotonic
        self._begin = begin
        self._most = most
        self.until = _NOT_BEGUN
        """When the slice ends."""
        self._due = False
        self._begun = 0
        self._fit = 8  # so many tasks fit in a slice

    def schedule(self) -> None:
        """There is something to begin."""
        if not self._due:
            self._due = True
            self._loop.call_soon(self._turn)

    def has_begun(self) -> bool:
        """Whether the slice of this turn has begun with this question."""
        if self.until != _NOT_BEGUN:
            return False
        self.until = self._now() + SLICE
        self.schedule()
        return True

    def _turn(self) -> None:
        self._due = False
        if self._begun and self.until != _NOT_BEGUN:
            took = self._now() - self.until + SLICE
            if took > SLICE:
                self._fit = max(self._fit // 2, 1)
            elif took < SLICE / 2:
                self._fit = min(self._fit * 2, self._most)
        self.until = _NOT_BEGUN
        self._begun = self._begin(self._fit)
        if self._begun:
            self.schedule()  # directly behind those tasks, and so sees how long they took
