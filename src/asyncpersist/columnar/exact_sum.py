"""Sums of floats without any error, so that they do not depend on order and do not drift after retractions.

A sum is a number in the base 2**32: `limbs`, int64 by slot, of which limb k counts for 2**(32 * k). Doubles reach
from limb -34 to limb 31; only limbs that some value needed exist. In a balanced number every limb is in
[-2**31, 2**31), which makes it unique: the sign is that of the highest limb that is not 0. The value of a sum is
the double nearest to it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from asyncpersist.columnar.slot_array import SlotArray

__all__ = ["MAX_WEIGHT", "ExactSums", "split"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MAX_WEIGHT = 1 << 29
"""Parts that `split` returned may be summed in int64 while their weights sum up to at most this, signs ignored."""

_BITS = 32
_HALF = np.int64(1 << 31)
_LOW = np.int64(2047)
_BLOCK = 1 << 15


def split(values: Floats) -> dict[int, Ints]:
    """Finite doubles as sums of limbs: `values[i] == sum(2.0 ** (32 * k) * part[i])`, exactly.

    Every part is less than 2**32 in absolute value; limbs that are 0 for all values are left out.
    """
    parts: dict[int, Ints] = {}
    # In blocks that stay in the cache: each takes several passes.
    for start in range(0, len(values), _BLOCK):
        rest = values[start : start + _BLOCK]
        while True:
            largest = max(float(rest.max()), -float(rest.min()))
            if largest == 0:
                break
            limb = (int(np.frexp(largest)[1]) - 1) // _BITS
            part = parts.get(limb)
            if part is None:
                part = parts[limb] = np.zeros(len(values), np.int64)
            whole = np.trunc(_scaled(rest, -_BITS * limb))
            part[start : start + _BLOCK] = whole
            rest = rest - _scaled(whole, _BITS * limb)
    return parts


class ExactSums:
    """A sum per slot; slots never written hold 0."""

    def __init__(self) -> None:
        self._size = 0
        self._lowest = 0
        self._limbs: list[SlotArray[np.int64]] = []

    def reserve(self, size: int) -> None:
        """Makes room for the slots below `size`."""
        self._size = max(self._size, size)
        for limb in self._limbs:
            limb.reserve(size)

    def keep(self, slots: Ints) -> None:
        """Keeps only what is in `slots` (ascending), which moves up to 0, 1, ..."""
        self._size = len(slots)
        for limb in self._limbs:
            limb.keep(slots)

    def add(self, slots: Ints, parts: Mapping[int, Ints]) -> Floats:
        """Adds to distinct slots, limb by limb, numbers of at most 2**62; the values of the sums afterwards."""
        for number in parts:
            self._provide(number)
        balanced: list[Ints] = []
        carry: Ints | None = None
        for offset, limb_column in enumerate(self._limbs):
            limb = limb_column.items[slots]
            part = parts.get(self._lowest + offset)
            if part is not None:
                limb += part
            if carry is not None:
                limb += carry
            carry = (limb + _HALF) >> _BITS
            limb -= carry << _BITS
            limb_column.items[slots] = limb
            balanced.append(limb)
        while carry is not None and carry.any():
            self._provide(self._lowest + len(self._limbs))
            limb, carry = carry, (carry + _HALF) >> _BITS
            limb = limb - (carry << _BITS)
            self._limbs[-1].items[slots] = limb
            balanced.append(limb)
        return _nearest(balanced, self._lowest, len(slots))

    def limbs(self, slots: Ints) -> tuple[int, list[Ints]]:
        """The balanced sums in `slots`: which limb is the lowest, and that and all above it."""
        return self._lowest, [limb.items[slots] for limb in self._limbs]

    def _provide(self, number: int) -> None:
        if not self._limbs:
            self._lowest = number
            self._limbs.append(self._zeros())
        while number < self._lowest:
            self._lowest -= 1
            self._limbs.insert(0, self._zeros())
        while number >= self._lowest + len(self._limbs):
            self._limbs.append(self._zeros())

    def _zeros(self) -> SlotArray[np.int64]:
        limb = SlotArray(np.int64)
        limb.reserve(self._size)
        return limb


def _scaled(values: Floats, exponent: int) -> Floats:
    """`values * 2.0 ** exponent`, also where the factor is no double."""
    if -1022 <= exponent <= 1023:
        return values * 2.0**exponent
    half = exponent // 2
    return values * 2.0**half * 2.0 ** (exponent - half)


def _nearest(limbs: list[Ints], lowest: int, size: int) -> Floats:
    """The doubles nearest to balanced numbers, infinite beyond the largest."""
    low, high = 0, len(limbs)
    while high and not limbs[high - 1].any():
        high -= 1
    while low < high and not limbs[low].any():
        low += 1
    limbs, lowest = limbs[low:high], lowest + low
    if not limbs:
        return np.zeros(size)
    zeros = np.zeros(size, np.int64)
    with np.errstate(over="ignore"):
        if len(limbs) <= 3:
            below = 3 - len(limbs)
            c, b, a = [zeros] * below + limbs
            return _scaled(_top_three(a, b, c, 0.0), _BITS * (lowest - below))
        # Which limb is the highest differs by row, and so does what lies beneath its three: that only breaks ties.
        padded = np.stack([zeros, zeros, zeros, *limbs])
        signs = np.sign(padded)
        for row in range(1, len(signs)):
            signs[row] = np.where(signs[row] == 0, signs[row - 1], signs[row])
        top = np.full(size, 3)
        for row in range(4, len(padded)):
            top[padded[row] != 0] = row
        rows = np.arange(size)
        value = _top_three(padded[top, rows], padded[top - 1, rows], padded[top - 2, rows], 0.25 * signs[top - 3, rows])
        scaled: Floats = np.ldexp(value, _BITS * (lowest + top - 5))
        return scaled


def _top_three(a: Ints, b: Ints, c: Ints, tie: Floats | float) -> Floats:
    """`a * 2**64 + b * 2**32 + c + tie`, rounded once: both summands of the last addition are exact."""
    bits = b & _LOW
    upper: Floats = a.astype(np.float64) * 4294967296.0 + (b - bits)
    value: Floats = upper * 4294967296.0 + (bits * 4294967296.0 + (c + tie))
    return value
