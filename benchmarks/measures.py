"""What can be measured. Each measure takes its samples round by round, so that a slow minute hits all alike."""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.calling import functions
from benchmarks.contestants import BYTEWAX, CONTESTANTS, Contestant, run_program, sample
from benchmarks.figures import OURS, OURS_ON, Line, Samples, median, throughput_lines
from benchmarks.live import events, latency
from benchmarks.replaying import replay
from benchmarks.resuming import resume
from benchmarks.stores import objects, slow_store
from benchmarks.workloads import WORKLOADS, Workload

__all__ = ["MEASURES", "Plan"]

ON = next(contestant for contestant in CONTESTANTS if contestant.name == OURS_ON)
OFF = next(contestant for contestant in CONTESTANTS if contestant.name == OURS)

LONG = {"wordcount": 25.0, "cardinality": 16.0}
"""How many times the rows, so that a run takes about ten seconds. The inputs take 4 GB on disk."""

DEAREST = {"wordcount": 1.10, "cardinality": 1.25}


@dataclass(frozen=True, slots=True)
class Plan:
    """How to measure. `scale` shrinks the inputs (1: full size); `say` is told what runs and how it went."""

    cache: Path
    pairs: int
    scale: float
    say: Callable[[str], None]


def rounds(plan: Plan, contestants: Sequence[Contestant], workload: Workload, *, lag: bool = False) -> Samples:
    """Every contestant once a round, in turned order in every second one."""
    samples: Samples = []
    for number in range(plan.pairs):
        for contestant in contestants if number % 2 == 0 else contestants[::-1]:
            taken = sample(contestant, workload, plan.cache, lag=lag)
            samples.append({"workload": workload.name, "round": number, **taken})
            restart = f", restart {taken['restart_seconds']:.2f} s" if "restart_seconds" in taken else ""
            plan.say(f"{workload.name} {number + 1}/{plan.pairs}  {contestant.name}: {taken['seconds']:.2f} s{restart}")
    return samples


def sized(plan: Plan, workload: Workload, factor: float = 1.0) -> Workload:
    factor *= plan.scale
    return workload if factor == 1.0 else workload.scaled(factor)


def side_by_side(what: str) -> Callable[[Plan], tuple[Samples, list[Line]]]:
    def measure(plan: Plan) -> tuple[Samples, list[Line]]:
        contestants = CONTESTANTS + BYTEWAX if WORKLOADS[what].kind == "words" else CONTESTANTS
        samples = rounds(plan, contestants, sized(plan, WORKLOADS[what]))
        return samples, throughput_lines(what, samples)

    return measure


def cost(plan: Plan) -> tuple[Samples, list[Line]]:
    """What persisting costs: on against off, on inputs long enough that neither start nor end weighs much."""
    samples: Samples = []
    lines = []
    for what, factor in LONG.items():
        taken = rounds(plan, (OFF, ON), sized(plan, WORKLOADS[what], factor))
        samples += taken
        ratio = median(taken, OURS_ON, "seconds") / median(taken, OURS, "seconds")
        lines.append(Line(f"{what}, long: time with persistence / without", ratio, DEAREST[what], False))
    return samples, lines


def lag(plan: Plan) -> tuple[Samples, list[Line]]:
    """How late a 1 ms ticker in the same loop is, beyond how late it is in an idle loop."""
    samples: Samples = []
    lines = []
    for what, workload in WORKLOADS.items():
        taken = rounds(plan, (ON,), sized(plan, workload, LONG.get(what, 1.0) / 2), lag=True)
        samples += taken
        for figure, most in (("p99", 5.0), ("max", 25.0)):
            beyond = statistics.median(one["lag_ms"][figure] - one["idle_lag_ms"][figure] for one in taken)
            lines.append(Line(f"{what}, persisting: lag of a 1 ms ticker, {figure}", beyond, most, False, "ms"))
    return samples, lines


def snapshots(plan: Plan) -> tuple[Samples, list[Line]]:
    """Bytes of state per snapshot when 1 % of the groups change between two, as a share of a full snapshot."""
    samples: Samples = []
    for number in range(min(plan.pairs, 2)):  # bytes, not seconds: they hardly differ from run to run
        place = Path(tempfile.mkdtemp(prefix="run-", dir=plan.cache))
        try:
            job = {
                "state": str(place / "state"),
                "output": str(place / "output.csv"),
                "groups": round(1_000_000 * plan.scale),
                "snapshots": 100,
                "seed": number,
            }
            taken = run_program("ours_snapshots.py", job)
        finally:
            shutil.rmtree(place)
        samples.append({"workload": "snapshots", "round": number, "contestant": OURS_ON, **taken})
        plan.say(f"snapshots {number + 1}  full {taken['full_bytes']:,} bytes, then {sum(taken['bytes']):,} in 100")
    one = statistics.median(statistics.median(taken["bytes"]) / taken["full_bytes"] for taken in samples)
    mean = statistics.median(statistics.fmean(taken["bytes"]) / taken["full_bytes"] for taken in samples)
    return samples, [
        Line("snapshot after 1 % changed: state bytes, share of a full one (median)", one * 100, 2.0, False, "%"),
        Line("the same over 100 snapshots, merging included (mean)", mean * 100, 5.0, False, "%"),
    ]


MEASURES: dict[str, Callable[[Plan], tuple[Samples, list[Line]]]] = {
    "wordcount": side_by_side("wordcount"),
    "cardinality": side_by_side("cardinality"),
    "keys": side_by_side("keys"),
    "cost": cost,
    "lag": lag,
    "snapshots": snapshots,
    "events": events,
    "latency": latency,
    "objects": objects,
    "slow_store": slow_store,
    "resume": resume,
    "replay": replay,
    "functions": functions,
}
