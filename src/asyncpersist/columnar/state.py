"""What a piece of operator state promises to whoever snapshots it.

A state is a table under a key. It is written as increments: frames that hold, for every key touched since the increment
before, the whole row as it is now, or a tombstone (a row whose `WEIGHT` is 0). Applied in order, the last row under a
key wins. A complete increment needs none before it. Files never hold slots or anything else that only memory knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import polars as pl

__all__ = ["Increment", "State"]


@dataclass(frozen=True, slots=True)
class Increment:
    """What a state gives at a capture. `complete`: it is every live row, and what was captured before is obsolete."""

    rows: pl.DataFrame
    complete: bool = False


class State(Protocol):
    """One table of state. Not thread-safe: stepped, captured and loaded by one thread at a time."""

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that make up the key, as they are named in the increments."""
        ...

    def capture(self) -> Increment | None:
        """The increment since the last capture, None if nothing was touched.

        Gathers and returns; sorts, encodes and writes nothing. The increment is the caller's: one whose snapshot was
        abandoned is put in front of the next one by the caller, never given out again here.
        """
        ...

    def load(self, frame: pl.DataFrame) -> None:
        """Fills an empty state from merged increments: one live row per key, no tombstones. Nothing is touched then."""
        ...
