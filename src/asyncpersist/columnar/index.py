"""From hashes to slots: a few runs sorted by hash, which merge geometrically. Numbers move, rows never do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Index"]

Hashes = npt.NDArray[np.uint64]
Slots = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Run:
    hashes: Hashes  # ascending
    slots: Slots
    repeats: bool  # whether a hash occurs twice


class Index:
    """A multimap hash -> slot. A hash may stand for several slots; the caller tells them apart by their keys."""

    def __init__(self) -> None:
        self._runs: list[_Run] = []

    def __len__(self) -> int:
        return sum(len(run.hashes) for run in self._runs)

    def add(self, hashes: Hashes, slots: Slots) -> None:
        """Adds entries, ascending by hash. Amortised over many calls, an entry moves a logarithmic number of times."""
        if len(hashes):
            self._add_run(hashes, slots)

    def candidates(self, hashes: Hashes) -> tuple[Slots, Slots]:
        """All pairs of a position in `hashes`, which ascend, and a slot under that hash; in no particular order."""
        positions: list[Slots] = []
        slots: list[Slots] = []
        repeats = bool((hashes[1:] == hashes[:-1]).any())
        for run in self._runs:
            if len(run.hashes) < len(hashes):
                entries, probes = _matches(run.hashes, hashes, repeats=repeats)
            else:
                probes, entries = _matches(hashes, run.hashes, repeats=run.repeats)
            positions.append(probes)
            slots.append(run.slots[entries])
        if len(positions) == 1:
            return positions[0], slots[0]
        if not positions:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        return np.concatenate(positions), np.concatenate(slots)

    def compact(self, renumbered: Slots) -> None:
        """Gives every slot its new number `renumbered[slot]`; entries whose number is negative are dropped."""
        runs, self._runs = self._runs, []
        for run in runs:
            slots = renumbered[run.slots]
            kept = slots >= 0
            if kept.any():
                self._add_run(run.hashes[kept], slots[kept])

    def _add_run(self, hashes: Hashes, slots: Slots) -> None:
        while self._runs and len(self._runs[-1].hashes) < 2 * len(hashes):
            run = self._runs.pop()
            hashes, slots = _merged(run.hashes, run.slots, hashes, slots)
        repeats = bool((hashes[1:] == hashes[:-1]).any())
        self._runs.append(_Run(hashes, slots, repeats))


def _matches(few: Hashes, many: Hashes, *, repeats: bool) -> tuple[Slots, Slots]:
    """All pairs of positions at which two ascending arrays are equal; `repeats` says whether `many` has any."""
    first = np.searchsorted(many, few)
    if not repeats:
        first[first == len(many)] = 0
        hit = np.flatnonzero(many[first] == few)
        return hit, first[hit]
    counts = np.searchsorted(many, few, side="right") - first
    starts = np.cumsum(counts) - counts
    within = np.arange(int(counts.sum()), dtype=np.int64) + np.repeat(first - starts, counts)
    return np.repeat(np.arange(len(few), dtype=np.int64), counts), within


def _merged(a_hashes: Hashes, a_slots: Slots, b_hashes: Hashes, b_slots: Slots) -> tuple[Hashes, Slots]:
    if len(a_hashes) < len(b_hashes):
        a_hashes, a_slots, b_hashes, b_slots = b_hashes, b_slots, a_hashes, a_slots
    places = np.searchsorted(a_hashes, b_hashes) + np.arange(len(b_hashes))
    free = np.ones(len(a_hashes) + len(b_hashes), np.bool_)
    free[places] = False
    hashes, slots = np.empty(len(free), np.uint64), np.empty(len(free), np.int64)
    hashes[places], slots[places] = b_hashes, b_slots
    hashes[free], slots[free] = a_hashes, a_slots
    return hashes, slots
