"""How many values Python makes into columns at once, so that no call holds the interpreter lock for long."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

__all__ = ["slices"]

_ROWS = 500
_BYTES = 16 << 10
"""A slice takes two milliseconds or so, a tenth of it in one call that makes columns."""

_REST = 50e-6
"""Seconds between slices in which another thread takes the interpreter lock. Without, it may never: whoever waits for
the lock asks for it only once nobody has let go of it for 5 ms, and every slice lets go of it for a moment.
"""


def slices(ends: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Neighbouring ranges of values, given where each of their texts ends if they are laid end to end. Only a text that
    is long by itself makes a slice long. Blocks for a moment between them.
    """
    i = start = 0
    while i < len(ends):
        fit = int(np.searchsorted(ends, start + _BYTES, side="right"))
        j = min(max(fit, i + 1), i + _ROWS)
        if i:
            time.sleep(_REST)
        yield i, j
        i, start = j, int(ends[j - 1])
