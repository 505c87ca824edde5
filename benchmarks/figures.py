"""From samples to figures: medians, and how they stand to what is to be reached."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

__all__ = ["Line", "Samples", "median", "throughput_lines"]

Samples = list[dict[str, Any]]

OURS = "asyncpersist"
OURS_ON = "asyncpersist, persisting"
PATHWAY_ON = ("Pathway, 1 thread, persisting", "Pathway, 2 threads, persisting")
LIMIT = "Polars, one shot"


@dataclass(frozen=True, slots=True)
class Line:
    """One requirement: `value` must be at least (or, if not `at_least`, at most) `target`; None: it is only told."""

    what: str
    value: float
    target: float | None
    at_least: bool = True
    unit: str = "x"

    @property
    def reached(self) -> bool | None:
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target


def median(samples: Samples, contestant: str, figure: str) -> float:
    """Of one figure of one contestant over all rounds that have it."""
    mine = (sample for sample in samples if sample["contestant"] == contestant)
    return statistics.median(sample[figure] for sample in mine if figure in sample)


FASTER = {"wordcount": 10.0, "cardinality": 4.0, "keys": 8.0}
SMALLER = {"wordcount": 5.0, "cardinality": 2.0}


def throughput_lines(what: str, samples: Samples) -> list[Line]:
    """The requirements that a side by side run of a workload answers."""
    seconds = median(samples, OURS_ON, "seconds")
    lines = [
        Line(
            f"{what}, persisting: times as fast as Pathway persisting, the better of its thread counts",
            min(median(samples, name, "seconds") for name in PATHWAY_ON) / seconds,
            FASTER[what],
            True,
        ),
        Line(
            f"{what}: restart after the end, times as fast as Pathway's",
            min(median(samples, name, "restart_seconds") for name in PATHWAY_ON)
            / median(samples, OURS_ON, "restart_seconds"),
            10.0,
            True,
        ),
    ]
    if what in SMALLER:
        theirs = min(median(samples, name, "state_bytes") for name in PATHWAY_ON)
        ours = median(samples, OURS_ON, "state_bytes")
        lines.append(Line(f"{what}: bytes on disk, times as small as Pathway's", theirs / ours, SMALLER[what], True))
    if what == "wordcount":
        limit = median(samples, LIMIT, "seconds")
        peak = median(samples, OURS_ON, "peak_resident_bytes") / 1e6
        lines += [
            Line(f"{what}, persisting: times the time of one-shot Polars", seconds / limit, 2.5, False),
            Line(f"{what}, persisting: peak resident memory", peak, 600.0, False, "MB"),
        ]
    return lines
