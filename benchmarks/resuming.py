"""Going on where a run stopped: how long it takes after ever more rows over the same groups, and what lies on disk."""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from benchmarks.contestants import CONTESTANTS, Trial
from benchmarks.figures import OURS_ON, PATHWAY_ON, Line, Samples, median
from benchmarks.workloads import Workload

if TYPE_CHECKING:
    from benchmarks.measures import Plan

__all__ = ["resume"]

MILLION = 1_000_000
DISTINCT = 100_000
SIZES = (1, 10, 100)
"""Millions of rows; the inputs take 2 GB on disk, and the outputs as much for a while."""
PEER_SIZES = (1, 10)

ON = next(contestant for contestant in CONTESTANTS if contestant.name == OURS_ON)
OPERATORS = replace(ON, name="asyncpersist, OPERATOR_PERSISTING", settings={"mode": "OPERATOR_PERSISTING"})
PEERS = tuple(contestant for contestant in CONTESTANTS if contestant.name in PATHWAY_ON)


def resume(plan: Plan) -> tuple[Samples, list[Line]]:
    """Everything is run to its end once. Then each state is gone on from, with no new input, once a round."""
    samples: Samples = []
    with ExitStack() as stack:
        trials: list[tuple[Trial, dict[str, Any]]] = []
        for size in SIZES:
            workload = Workload(_named(size), "words", round(size * MILLION * plan.scale), DISTINCT, 10)
            for contestant in (ON, OPERATORS, *(PEERS if size in PEER_SIZES else ())):
                place = stack.enter_context(TemporaryDirectory(prefix="run-", dir=plan.cache))
                trial = Trial(contestant, workload, plan.cache, Path(place))
                trials.append((trial, trial.verified(trial.run())))
                plan.say(f"{workload.name}  {contestant.name}: {trials[-1][1]['seconds']:.1f} s")
        for number in range(plan.pairs):
            for trial, first in trials if number % 2 == 0 else trials[::-1]:
                again = trial.restart()
                taken = {**(first if number == 0 else {}), "restart_seconds": again["seconds"]}
                for figure in ("started_in_ms", "peak_resident_bytes"):
                    taken |= {figure: again[figure]} if figure in again else {}
                what, who = trial.workload.name, trial.contestant.name
                samples.append({"workload": what, "round": number, "contestant": who, **taken})
                plan.say(f"{what} {number + 1}/{plan.pairs}  {who}: resumed in {again['seconds']:.3f} s")
    return samples, _lines(samples)


def _named(size: int) -> str:
    return f"after {size} M rows"


def _lines(samples: Samples) -> list[Line]:
    def of(size: int, contestant: str, figure: str) -> float:
        return median([taken for taken in samples if taken["workload"] == _named(size)], contestant, figure)

    def grown(contestant: str, figure: str, sizes: tuple[int, ...] = SIZES) -> float:
        return of(sizes[-1], contestant, figure) / of(sizes[0], contestant, figure)

    def times(size: int, figure: str) -> float:
        return min(of(size, name, figure) for name in PATHWAY_ON) / of(size, OURS_ON, figure)

    few, many = SIZES[0], SIZES[-1]
    return [
        Line(f"resume: time after {many} M rows / after {few} M", grown(OURS_ON, "restart_seconds"), 1.5, False),
        Line("resume after 10 M rows, times as fast as Pathway", times(10, "restart_seconds"), 20.0),
        Line("bytes on disk after 10 M rows, times as small as Pathway's", times(10, "state_bytes"), None),
        Line(f"bytes on disk after {many} M rows / after {few} M", grown(OURS_ON, "state_bytes"), None),
        Line("the same with OPERATOR_PERSISTING", grown(OPERATORS.name, "state_bytes"), None),
        Line(
            "Pathway: bytes on disk after 10 M rows / after 1 M",
            statistics.median(grown(name, "state_bytes", PEER_SIZES) for name in PATHWAY_ON),
            None,
        ),
    ]
