"""Who runs: programs, how each is started, and one run of one of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.workloads import Workload

__all__ = ["BYTEWAX", "CONTESTANTS", "Contestant", "ProgramFailed", "run_program", "sample"]

PROGRAMS = Path(__file__).parent / "programs"
INTERVAL_MS = 1000


class ProgramFailed(Exception):
    """A measured program ended with an error; the message is the end of what it wrote."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """`form` is that of its output (see `Workload.verify`); `share` is the part of the rows that it gets."""

    name: str
    program: str
    form: str = "changes"
    persists: bool = False
    peer: bool = False
    threads: int | None = None
    share: float = 1.0


CONTESTANTS = (
    Contestant("asyncpersist", "ours.py"),
    Contestant("asyncpersist, persisting", "ours.py", persists=True),
    Contestant("Pathway, 1 thread", "pathway_peer.py", peer=True, threads=1),
    Contestant("Pathway, 1 thread, persisting", "pathway_peer.py", peer=True, threads=1, persists=True),
    Contestant("Pathway, 2 threads", "pathway_peer.py", peer=True, threads=2),
    Contestant("Pathway, 2 threads, persisting", "pathway_peer.py", peer=True, threads=2, persists=True),
    Contestant("Polars, one shot", "polars_limit.py", form="table"),
)
BYTEWAX = (
    Contestant("Bytewax", "bytewax_peer.py", form="running", peer=True, share=0.1),
    Contestant("Bytewax, persisting", "bytewax_peer.py", form="running", peer=True, share=0.1, persists=True),
)


def run_program(program: str, job: dict[str, Any], *, peer: bool = False, threads: int | None = None) -> dict[str, Any]:
    """The figures that a program reports. Raises `ProgramFailed`."""
    python = os.environ.get("ASYNCPERSIST_BENCH_PYTHON") if peer else sys.executable
    if not python:
        raise ProgramFailed("ASYNCPERSIST_BENCH_PYTHON names no Python with the peers; scripts/bench sets it")
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    environment.pop("PYTHONPATH", None)
    if not peer:
        environment["PYTHONPATH"] = str(PROGRAMS.parent.parent)
    if threads is not None:
        environment["PATHWAY_THREADS"] = str(threads)
    done = subprocess.run(
        [python, str(PROGRAMS / program), json.dumps(job)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ProgramFailed(f"{program} ended with exit code {done.returncode}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def size_on_disk(directory: Path) -> int:
    """Bytes in all files below a directory."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def sample(contestant: Contestant, workload: Workload, cache: Path, *, lag: bool = False) -> dict[str, Any]:
    """One run on fresh directories, its output verified, and for one that persists on all rows a restart after the end.

    Raises `ProgramFailed`, `WrongResult`.
    """
    if contestant.share != 1.0:
        workload = workload.scaled(contestant.share)
    inputs = workload.make(cache)
    place = Path(tempfile.mkdtemp(prefix="run-", dir=cache))
    try:
        output, state = place / "output.csv", place / "state"
        job = {
            "kind": workload.kind,
            "input": f"{inputs}/",
            "output": str(output),
            "state": str(state) if contestant.persists else None,
            "interval_ms": INTERVAL_MS,
            "lag": lag,
        }
        figures = run_program(contestant.program, job, peer=contestant.peer, threads=contestant.threads)
        workload.verify(cache, output, contestant.form)
        figures["rows"] = workload.rows
        figures["extrapolated_seconds"] = figures["seconds"] / contestant.share
        figures["output_bytes"] = output.stat().st_size
        if contestant.persists:
            figures["state_bytes"] = size_on_disk(state)
        if contestant.persists and contestant.share == 1.0:
            again = run_program(
                contestant.program, {**job, "lag": False}, peer=contestant.peer, threads=contestant.threads
            )
            figures["restart_seconds"] = again["seconds"]
            if contestant.program == "ours.py":
                workload.verify(cache, output, contestant.form)
        return {"contestant": contestant.name, **figures}
    finally:
        shutil.rmtree(place)
