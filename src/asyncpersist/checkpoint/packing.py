"""Which pieces of a snapshot share an object: a request costs more than the bytes of a small one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

__all__ = ["SMALL", "packs"]

SMALL = 64 << 10
"""Bytes; a larger piece has an object of its own."""

_PACK = 1 << 20


def packs(sizes: Sequence[int]) -> Iterator[list[int]]:
    """The positions of the pieces that go into one object each, given all sizes in bytes."""
    together: list[int] = []
    filled = 0
    for position, size in enumerate(sizes):
        if size > SMALL:
            yield [position]
            continue
        if filled + size > _PACK and together:
            yield together
            together, filled = [], 0
        together.append(position)
        filled += size
    if together:
        yield together
