"""A clock to turn by hand."""

from __future__ import annotations

import asyncio
import random

__all__ = ["ManualClock"]


class ManualClock:
    """Stands still until it is told to go on; its tokens and its chance follow from `seed`. Satisfies `Clock`.

    Who sleeps on it turns it on by as much, and lets others run for one turn of the loop.
    """

    def __init__(self, start: float = 1_700_000_000.0, seed: int = 0) -> None:
        self._start = start
        self._passed = 0.0
        self._random = random.Random(seed)

    def advance(self, seconds: float) -> None:
        """Lets both clocks go on."""
        if seconds < 0:
            raise ValueError("a clock only goes on")
        self._passed += seconds

    def set_wall(self, seconds: float) -> None:
        """Sets the wall clock, back or forth, as an administrator may."""
        self._start = seconds - self._passed

    def wall(self) -> float:
        return self._start + self._passed

    def monotonic(self) -> float:
        return self._passed

    def token(self) -> str:
        return f"{self._random.getrandbits(128):032x}"

    def chance(self) -> float:
        return self._random.random()

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        await asyncio.sleep(0)
