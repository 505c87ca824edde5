"""When the objects of a stream are merged: a decision over their sizes.

A stream grows by one object a snapshot. Runs of neighbours of like size are merged into one, so that a byte is
rewritten about once per power of the fan-in; once what came after the oldest object outweighs it, all are merged into
one. With 1 % of a state changing between snapshots, less than 3 % of a full snapshot is written per snapshot, and the
objects together stay below 2.25 times their merged size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["LOG", "STATE", "Policy", "plan_merges"]


@dataclass(frozen=True, slots=True)
class Policy:
    """How a stream is merged.

    `fan_in`: how many objects of like size make one of the next size. `most`: the number of objects beyond which some
    are merged whatever their sizes. `waste`: all are merged once those after the oldest hold more than this many times
    its bytes; None where later objects take nothing back from earlier ones. `floor`: objects of up to this many bytes
    are of like size. `seal`: larger objects than this are never merged again, nor do they count against `most`.
    """

    fan_in: int = 12
    most: int = 30
    waste: float | None = 1.25
    floor: int = 16 * 1024
    seal: int | None = None


STATE = Policy()
"""For increments, of which later ones supersede rows of earlier ones."""

LOG = Policy(waste=None, seal=8 * 1024 * 1024)
"""For logs, of which nothing is superseded: large ones stay as they are, so that a merge is small."""


def plan_merges(sizes: Sequence[int], *, policy: Policy = STATE, merged: int | None = None) -> slice | None:
    """Which neighbours, at least two, to merge into one now; None if all is well.

    `sizes`: the bytes of a stream's objects in the order in which they apply. `merged`: an estimate of what all of them
    would hold merged, if the caller has one, so that a state that shrank is merged in time. The slice starts at 0 if
    the oldest object is among them: then, and only then, tombstones can be dropped. May be asked again after a merge.
    """
    if len(sizes) < 2:
        return None
    if policy.waste is not None:
        base, newer = max(sizes[0], policy.floor), sum(sizes[1:])
        # A quarter of the oldest has to have come after it, so that even a wrong estimate costs a bounded share.
        shrunk = merged is not None and 4 * merged < sizes[0] + newer and 4 * newer > base
        if shrunk or newer > policy.waste * base:
            return slice(0, len(sizes))
    first = 1 if policy.waste is not None else _after_sealed(sizes, policy)
    run = _like_sized(sizes, first, policy)
    if run is None and len(sizes) - first > policy.most:
        run = _cheapest(sizes, first, policy)
    return run


def _after_sealed(sizes: Sequence[int], policy: Policy) -> int:
    """The position after the newest sealed object: what lies before it stays as it is."""
    if policy.seal is None:
        return 0
    return max((i + 1 for i, size in enumerate(sizes) if size > policy.seal), default=0)


def _like_sized(sizes: Sequence[int], first: int, policy: Policy) -> slice | None:
    """The newest run in which `fan_in` objects are of like size, up to the end, where only smaller ones follow."""
    start = len(sizes)
    while start > first:
        ceiling = max(2 * sizes[start - 1], policy.floor)
        stop = start
        while start > first and sizes[start - 1] <= ceiling:
            start -= 1
        if stop - start >= policy.fan_in:
            return slice(start, len(sizes))
    return None


def _cheapest(sizes: Sequence[int], first: int, policy: Policy) -> slice:
    """The half a fan-in of neighbours that hold the fewest bytes."""
    width = max(policy.fan_in // 2, 2)
    start = min(range(first, len(sizes) - width + 1), key=lambda i: sum(sizes[i : i + width]))
    return slice(start, start + width)
