"""Functions of users: cached ones cold and warm beside a peer, slow ones against the ideal, the loop beside them."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from benchmarks.contestants import ProgramFailed, run_program, size_on_disk
from benchmarks.figures import Line, Samples, median

if TYPE_CHECKING:
    from benchmarks.measures import Plan

__all__ = ["functions"]

DISTINCT = (20_000, 200_000)
HOW = ("sync", "async")
OURS, PEERS = "asyncpersist", ("Pathway, 1 thread", "Pathway, 2 threads")
SLOW = {"rows": 5_000, "seconds": 0.05, "capacity": 500}


def functions(plan: Plan) -> tuple[Samples, list[Line]]:
    """Every program twice in an empty place, the second time with everything cached, once a round."""
    samples: Samples = []
    lines: list[Line] = []
    for distinct in (round(count * plan.scale) for count in DISTINCT):
        documents = _documents(plan.cache, distinct)
        for how in HOW:
            name = f"{how}, {distinct:,} arguments"
            for number in range(plan.pairs):
                names = (OURS, *PEERS)
                for contestant in names if number % 2 == 0 else names[::-1]:
                    taken = _cached(plan, documents, how, contestant, distinct)
                    samples.append({"workload": name, "round": number, "contestant": contestant, **taken})
                    plan.say(
                        f"{name} {number + 1}/{plan.pairs}  {contestant}: cold {taken['seconds']:.2f} s, "
                        f"warm {taken['restart_seconds']:.2f} s"
                    )
            mine = [sample for sample in samples if sample["workload"] == name]
            for figure, kind, target in (("seconds", "cold", 4.0), ("restart_seconds", "warm", 5.0)):
                best = min(median(mine, peer, figure) for peer in PEERS)
                lines.append(
                    Line(
                        f"{name}, {kind}: times as many rows a second as Pathway, the better of its thread counts",
                        best / median(mine, OURS, figure),
                        target,
                    )
                )
    ideal = SLOW["rows"] * SLOW["seconds"] / SLOW["capacity"]
    for number in range(plan.pairs):
        taken = run_program("ours_functions.py", {"how": "slow", **SLOW})
        samples.append({"workload": "slow", "round": number, "contestant": OURS, "rows": SLOW["rows"], **taken})
        plan.say(f"slow {number + 1}/{plan.pairs}: {taken['seconds']:.3f} s")
    taken_seconds = statistics.median(one["seconds"] for one in samples if one["workload"] == "slow")
    lines.append(Line("5,000 calls of 50 ms, 500 at once: times the ideal", taken_seconds / ideal, 1.3, False))
    lags: list[dict[str, Any]] = []
    for number in range(plan.pairs):
        lags.append(run_program("ours_functions.py", {"how": "lag"}))
        samples.append({"workload": "lag", "round": number, "contestant": OURS, **lags[-1]})
        plan.say(f"lag {number + 1}/{plan.pairs}")
    for kind in ("coroutine", "blocking", "columns"):
        beyond = statistics.median(one[kind]["p99"] - one["idle"]["p99"] for one in lags)
        lines.append(Line(f"lag of the loop beside a function ({kind}): p99 beyond idle", beyond, 5.0, False, "ms"))
    return samples, lines


def _documents(cache: Path, distinct: int) -> Path:
    """A directory with a file of so many different texts."""
    place = cache / f"documents-{distinct}"
    if not place.exists():
        made = place.with_suffix(".partial")
        made.mkdir(exist_ok=True)
        lines = (json.dumps({"text": f"document {number:07d} of a stream"}) for number in range(distinct))
        (made / "documents.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        made.rename(place)
    return place


def _cached(plan: Plan, documents: Path, how: str, contestant: str, distinct: int) -> dict[str, Any]:
    program, peer = ("ours_functions.py", False) if contestant == OURS else ("pathway_functions.py", True)
    threads = int(contestant.split()[1]) if peer else None
    with TemporaryDirectory(prefix="run-", dir=plan.cache) as place:
        job = {"input": f"{documents}/", "state": f"{place}/state", "how": how}
        cold = run_program(program, {**job, "output": f"{place}/cold.csv"}, peer=peer, threads=threads)
        warm = run_program(program, {**job, "output": f"{place}/warm.csv"}, peer=peer, threads=threads)
        for name, calls in (("cold.csv", cold["calls"]), ("warm.csv", warm["calls"])):
            rows = Path(place, name).read_bytes().count(b"\n") - 1
            if rows != distinct or calls != (distinct if name == "cold.csv" else 0):
                raise ProgramFailed(f"{contestant}: {rows} rows and {calls} calls in {name}, of {distinct} arguments")
        return {
            "seconds": cold["seconds"],
            "restart_seconds": warm["seconds"],
            "rows": distinct,
            "rows_per_second": distinct / warm["seconds"],
            "state_bytes": size_on_disk(Path(place, "state")),
            "peak_resident_bytes": warm["peak_resident_bytes"],
        }
