"""When the objects of a stream are merged: a decision over their sizes.

A stream grows by one object a snapshot. Runs of neighbours of like size are merged into one, so that a byte is
rewritten about once per power of the fan-in; once what came after the oldest object outweighs it, all are merged into
one. With 1 % of a state changing between snapshots, less than 3 % of a full snapshot is written per snapshot, and the
objects together stay below 2.25 times their merged size. Of a log, where little is superseded, a merge is bounded in
bytes instead, and there are about as many objects as bounded ones fit into it, and `most` besides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["LOG", "STATE", "Policy", "plan_merges"]


@dataclass(frozen=True, slots=True)
class Policy:
    """How a stream is merged.

    `fan_in`: how many objects of like size make one of the next size. `most`: the number of objects beyond which some
    are merged whatever their sizes. `waste`: all are merged once those after the oldest hold more than this many times
    its bytes; None where later objects take nothing back from earlier ones. `floor`: objects of up to this many bytes
    are of like size. `together`, where there is no `waste`: the bytes of one merge at most; objects of more than half
    of that are sealed: they are never merged again, nor do they count against `most`.
    """

    fan_in: int = 12
    most: int = 30
    waste: float | None = 1.25
    floor: int = 16 * 1024
    together: int | None = None

    def sealed(self, size: int) -> bool:
        """Whether an object of that many bytes stays as it is."""
        return self.together is not None and 2 * size > self.together


STATE = Policy()
"""For increments, of which later ones supersede rows of earlier ones."""

LOG = Policy(waste=None, together=64 * 1024 * 1024)
"""For logs, of which a merge supersedes little: large objects stay as they are, so that a merge is small."""


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
    groups = [(1, len(sizes))] if policy.waste is not None else _unsealed(sizes, policy)
    for start, stop in reversed(groups):
        run = _like_sized(sizes, start, stop, policy)
        if run is None and stop < len(sizes) and stop - start > 1:
            # Nothing comes in before what is sealed any more.
            run = slice(start, stop)
        if run is not None:
            return _bounded(sizes, run, policy)
    if sum(stop - start for start, stop in groups) > policy.most:
        return _cheapest(sizes, groups, policy)
    return None


def _unsealed(sizes: Sequence[int], policy: Policy) -> list[tuple[int, int]]:
    """The runs of neighbours that are not sealed, as positions."""
    edges = [-1, *(i for i, size in enumerate(sizes) if policy.sealed(size)), len(sizes)]
    return [(before + 1, after) for before, after in pairwise(edges) if after - before > 1]


def _like_sized(sizes: Sequence[int], first: int, last: int, policy: Policy) -> slice | None:
    """The newest run in which `fan_in` objects are of like size, up to `last`, where only smaller ones follow."""
    start = last
    while start > first:
        ceiling = max(2 * sizes[start - 1], policy.floor)
        stop = start
        while start > first and sizes[start - 1] <= ceiling:
            start -= 1
        if stop - start >= policy.fan_in:
            return slice(start, last)
    return None


def _bounded(sizes: Sequence[int], run: slice, policy: Policy) -> slice:
    """The oldest of a run that a merge may take together; at least two."""
    if policy.together is None:
        return run
    stop, total = run.start, 0
    while stop < run.stop and (total := total + sizes[stop]) <= policy.together:
        stop += 1
    return slice(run.start, max(stop, run.start + 2))


def _cheapest(sizes: Sequence[int], groups: Sequence[tuple[int, int]], policy: Policy) -> slice | None:
    """The half a fan-in of neighbours that hold the fewest bytes; fewer where there are no so many neighbours."""
    longest = max(stop - start for start, stop in groups)
    if longest < 2:
        return None
    width = min(max(policy.fan_in // 2, 2), longest)
    starts = [start for first, stop in groups for start in range(first, stop - width + 1)]
    start = min(starts, key=lambda i: sum(sizes[i : i + width]))
    return _bounded(sizes, slice(start, start + width), policy)
