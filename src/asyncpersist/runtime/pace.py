"""When snapshots are due."""

from __future__ import annotations

import math

__all__ = ["Pace"]


class Pace:
    """A grid of ticks, `interval` seconds apart, from `began` on; those that were missed count as one.

    Times are in seconds on one monotonic clock. What happens between ticks does not move them.
    """

    def __init__(self, interval: float, *, began: float) -> None:
        self._interval = interval
        self._next = began + interval

    def remaining(self, now: float) -> float:
        """Seconds until the next tick, 0 if it is past; infinity if the interval is 0, which has none."""
        return max(0.0, self._next - now) if self._interval else math.inf

    def took(self, now: float) -> None:
        """Says that a tick was answered now, and with it all before it."""
        if self._interval and self._next <= now:
            self._next += self._interval * (math.floor((now - self._next) / self._interval) + 1)
            # The tick that is now may come out as the next one, as fractions are rounded.
            while self._next <= now < self._next + self._interval:
                self._next += self._interval
