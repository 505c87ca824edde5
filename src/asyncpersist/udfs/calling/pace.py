"""How many values at a time, where handling them holds the interpreter."""

from __future__ import annotations

__all__ = ["SLICE", "Pace"]

SLICE = 0.0005
"""Seconds for which the interpreter, or the loop, is held in one go: about half a millisecond."""

_MOST = 4096


class Pace:
    """Learns how many rows are handled within `seconds`. For one thread at a time."""

    def __init__(self, seconds: float = SLICE) -> None:
        self.rows = 64
        self._seconds = seconds

    def took(self, rows: int, seconds: float) -> None:
        """So many rows have taken so many seconds."""
        if rows >= self.rows and seconds < self._seconds / 2:
            self.rows = min(self.rows * 2, _MOST)
        elif seconds > self._seconds:
            self.rows = max(min(int(rows * self._seconds / seconds), self.rows), 1)
