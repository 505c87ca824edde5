"""Logs given again: how fast a replay is, beside the run that was recorded; of files, and of batches from Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from benchmarks.contestants import CONTESTANTS, Trial
from benchmarks.figures import OURS, Line, Samples, median
from benchmarks.live import BATCHES, PUSHERS, push_into
from benchmarks.workloads import Workload

if TYPE_CHECKING:
    from benchmarks.measures import Plan

__all__ = ["replay"]

ROWS = 10_000_000
DISTINCT = 100_000
FILES = Workload("lines of files", "words", ROWS, DISTINCT, 10)
PUSHED = "batches from Python"

PLAIN, RECORDING = "live, nothing kept", "live, recording"
AT_ONCE, IN_EPOCHS = "replayed as one epoch", "replayed in its epochs"

_REPLAY = {"access": "REPLAY", "continue_after_replay": False}
HOWS: dict[str, Mapping[str, Any]] = {
    PLAIN: {"state": None},
    RECORDING: {"access": "RECORD"},
    AT_ONCE: {"mode": "BATCH", **_REPLAY},
    IN_EPOCHS: {"mode": "SPEEDRUN_REPLAY", **_REPLAY},
}

Run = Callable[[Path, Mapping[str, Any]], dict[str, Any]]
"""Runs in a directory with settings; the figures, with the rows. The output is verified."""


def replay(plan: Plan) -> tuple[Samples, list[Line]]:
    """What is recorded in a round is replayed in it."""
    samples: Samples = []
    lines: list[Line] = []
    for workload, run in ((FILES.name, _files(plan)), (PUSHED, _pushed(plan))):
        taken: Samples = []
        for number in range(plan.pairs):
            with TemporaryDirectory(prefix="run-", dir=plan.cache) as place:
                for name in _turned(number):
                    figures = run(Path(place), HOWS[name])
                    speed = figures["rows"] / figures["seconds"]
                    figures |= {"workload": workload, "round": number, "contestant": name, "rows_per_second": speed}
                    taken.append(figures)
                    plan.say(f"{workload} {number + 1}/{plan.pairs}  {name}: {speed:,.0f} rows a second")
        samples += taken
        lines += [
            Line(f"{workload}, {name}: rows a second, times those {than}", _ratio(taken, name, than), None)
            for name, than in ((RECORDING, PLAIN), (AT_ONCE, RECORDING), (IN_EPOCHS, RECORDING))
        ]
    return samples, lines


def _turned(number: int) -> tuple[str, ...]:
    """In turned order in every second round, but nothing is replayed before it is recorded."""
    return (PLAIN, RECORDING, AT_ONCE, IN_EPOCHS) if number % 2 == 0 else (RECORDING, IN_EPOCHS, AT_ONCE, PLAIN)


def _ratio(samples: Samples, name: str, than: str) -> float:
    return median(samples, name, "rows_per_second") / median(samples, than, "rows_per_second")


def _files(plan: Plan) -> Run:
    workload = replace(FILES, rows=round(ROWS * plan.scale))
    ours = next(contestant for contestant in CONTESTANTS if contestant.name == OURS)

    def run(place: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
        trial = Trial(replace(ours, persists=True, settings=settings), workload, plan.cache, place)
        return trial.verified(trial.run())

    return run


def _pushed(plan: Plan) -> Run:
    pusher = next(pusher for pusher in PUSHERS if pusher.name == BATCHES)

    def run(place: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
        rows = round(ROWS * plan.scale)
        return {"rows": rows, **push_into(place, replace(pusher, settings=settings), rows, 10_000)}

    return run
