"""Rows pushed from Python: how many a second, and how long one takes to reach a callback."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import polars as pl
from benchmarks.contestants import INTERVAL_MS, run_program
from benchmarks.figures import Line, Samples, median
from benchmarks.workloads import WrongResult

if TYPE_CHECKING:
    from benchmarks.measures import Plan

__all__ = ["BATCHES", "Pusher", "events", "latency", "push_into"]

DISTINCT = 10_000
RATE = 1_000
SECONDS = 10
PATHWAY_AUTOCOMMIT_MS = 10

ONE, THREAD, BATCHES = "asyncpersist, one by one", "the same, in a thread", "asyncpersist, batches of 10 000"
PEER = "Pathway, one by one"
OURS_PACED, PEER_PACED = "asyncpersist", f"Pathway, autocommit {PATHWAY_AUTOCOMMIT_MS} ms"


@dataclass(frozen=True, slots=True)
class Pusher:
    """A program that pushes rows, and how. All of them persist, unless `settings`, added to the task, say otherwise."""

    name: str
    how: str
    rows: int
    peer: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)


PUSHERS = (
    Pusher(ONE, "one", 3_000_000),
    Pusher(THREAD, "thread", 3_000_000),
    Pusher(BATCHES, "batch", 40_000_000),
    Pusher(PEER, "one", 1_000_000, peer=True),
)
PACED = (
    Pusher(OURS_PACED, "paced", RATE * SECONDS),
    Pusher(PEER_PACED, "paced", RATE * SECONDS, peer=True),
)


def push(pusher: Pusher, cache: Path, rows: int, distinct: int) -> dict[str, Any]:
    """One run on fresh directories, its output verified. Raises `ProgramFailed`, `WrongResult`."""
    with TemporaryDirectory(prefix="run-", dir=cache) as place:
        return push_into(Path(place), pusher, rows, distinct)


def push_into(place: Path, pusher: Pusher, rows: int, distinct: int) -> dict[str, Any]:
    """One run with its output and its state in the directory `place`, and its output verified. Raises as `push`."""
    job = {
        "how": pusher.how,
        "rows": rows,
        "distinct": distinct,
        "output": str(place / "output.csv"),
        "state": str(place / "state"),
        "interval_ms": INTERVAL_MS,
        "rate": RATE,
        "autocommit_ms": PATHWAY_AUTOCOMMIT_MS,
        **pusher.settings,
    }
    program = "pathway_events.py" if pusher.peer else "ours_events.py"
    figures = run_program(program, job, peer=pusher.peer, threads=1 if pusher.peer else None)
    if pusher.how != "paced":
        verify(place / "output.csv", rows, distinct)
    return figures


def verify(output: Path, rows: int, distinct: int) -> None:
    """Raises `WrongResult` unless every word was counted as often as it was pushed."""
    changes = pl.read_csv(output)
    net = changes.group_by("word", "count").agg(pl.col("diff").sum()).filter(pl.col("diff") != 0)
    if net.height != distinct or (net["diff"] != 1).any() or (net["count"] != rows // distinct).any():
        raise WrongResult(f"{output.name}: not every word is counted as often as it was pushed")


def rounds(plan: Plan, workload: str, pushers: tuple[Pusher, ...], distinct: int) -> Samples:
    samples: Samples = []
    for number in range(plan.pairs):
        for pusher in pushers if number % 2 == 0 else pushers[::-1]:
            rows = max(1, round(pusher.rows * plan.scale / distinct)) * distinct
            taken = push(pusher, plan.cache, rows, distinct)
            figures = {"workload": workload, "round": number, "contestant": pusher.name, "rows": rows, **taken}
            if "latency_ms" in taken:
                figures["latency_p50_ms"] = taken["latency_ms"]["p50"]
                figures["latency_p99_ms"] = taken["latency_ms"]["p99"]
                said = f"p50 {figures['latency_p50_ms']:.2f} ms, p99 {figures['latency_p99_ms']:.2f} ms"
            else:
                figures["rows_per_second"] = rows / taken["seconds"]
                said = f"{figures['rows_per_second']:,.0f} rows a second"
            samples.append(figures)
            plan.say(f"{workload} {number + 1}/{plan.pairs}  {pusher.name}: {said}")
    return samples


def events(plan: Plan) -> tuple[Samples, list[Line]]:
    """Rows a second from Python into a count, persisting: one by one, and in batches of 10 000."""
    samples = rounds(plan, "events", PUSHERS, DISTINCT)
    theirs = median(samples, PEER, "rows_per_second")
    return samples, [
        Line(
            "events one by one: rows a second, times Pathway's",
            median(samples, ONE, "rows_per_second") / theirs,
            3.0,
            True,
        ),
        Line(
            "events one by one from a thread: rows a second, times Pathway's",
            median(samples, THREAD, "rows_per_second") / theirs,
            3.0,
            True,
        ),
        Line(
            "events in batches of 10 000: rows a second, times Pathway's",
            median(samples, BATCHES, "rows_per_second") / theirs,
            10.0,
            True,
        ),
    ]


def latency(plan: Plan) -> tuple[Samples, list[Line]]:
    """From the push of a row to the callback with its effect, at a thousand rows a second, persisting every second."""
    samples = rounds(plan, "latency", PACED, RATE)
    return samples, [
        Line(
            f"push to callback at {RATE} rows a second, {name}", median(samples, OURS_PACED, figure), most, False, "ms"
        )
        for name, figure, most in (("p50", "latency_p50_ms", 3.0), ("p99", "latency_p99_ms", 10.0))
    ]
