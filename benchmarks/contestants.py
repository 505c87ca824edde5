"""Who runs: programs, how each is started, and one run of one of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.workloads import Workload, WrongResult

__all__ = ["BYTEWAX", "CONTESTANTS", "Contestant", "ProgramFailed", "Trial", "run_program", "sample"]

PROGRAMS = Path(__file__).parent / "programs"
OUR_PATH = os.pathsep.join(str(PROGRAMS.parent.parent / directory) for directory in ("src", "."))
"""Where what is measured lies: in this clone, whatever is installed."""
INTERVAL_MS = 1000


class ProgramFailed(Exception):
    """A measured program ended with an error; the message is the end of what it wrote."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """`form` is that of its output (see `Workload.verify`); `share` is the part of the rows that it gets.

    `settings` are added to its task.
    """

    name: str
    program: str
    form: str = "changes"
    persists: bool = False
    peer: bool = False
    threads: int | None = None
    share: float = 1.0
    settings: Mapping[str, Any] = field(default_factory=dict)


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
        environment["PYTHONPATH"] = OUR_PATH
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


@dataclass(frozen=True, slots=True)
class Trial:
    """One contestant on one workload, with its output and its state in the directory `place`. Inputs are in `cache`."""

    contestant: Contestant
    workload: Workload
    cache: Path
    place: Path

    @property
    def output(self) -> Path:
        return self.place / "output.csv"

    def run(self, *, lag: bool = False) -> dict[str, Any]:
        """The figures of one run, in a process of its own: the first, or one that goes on. Raises `ProgramFailed`."""
        contestant = self.contestant
        job = {
            "kind": self.workload.kind,
            "input": f"{self.workload.make(self.cache)}/",
            "output": str(self.output),
            "state": str(self.place / "state") if contestant.persists else None,
            "interval_ms": INTERVAL_MS,
            "lag": lag,
            **contestant.settings,
        }
        return run_program(contestant.program, job, peer=contestant.peer, threads=contestant.threads)

    def verified(self, figures: dict[str, Any]) -> dict[str, Any]:
        """The figures of a first run, with those of what it left. Raises `WrongResult`."""
        self.workload.verify(self.cache, self.output, self.contestant.form)
        more = {"rows": self.workload.rows, "output_bytes": self.output.stat().st_size}
        if self.contestant.persists:
            more["state_bytes"] = size_on_disk(self.place / "state")
        return {**figures, **more}

    def restart(self) -> dict[str, Any]:
        """The figures of a run that finds nothing new. Raises `ProgramFailed`; `WrongResult` where we tell more."""
        before = self.output.stat().st_size
        figures = self.run()
        if not self.contestant.peer and self.output.stat().st_size != before:
            raise WrongResult(f"{self.output.name}: a restart without new input wrote to it")
        return figures


def sample(contestant: Contestant, workload: Workload, cache: Path, *, lag: bool = False) -> dict[str, Any]:
    """One run on fresh directories, its output verified, and for one that persists on all rows a restart after the end.

    Raises `ProgramFailed`, `WrongResult`.
    """
    if contestant.share != 1.0:
        workload = workload.scaled(contestant.share)
    with TemporaryDirectory(prefix="run-", dir=cache) as place:
        trial = Trial(contestant, workload, cache, Path(place))
        figures = trial.verified(trial.run(lag=lag))
        figures["extrapolated_seconds"] = figures["seconds"] / contestant.share
        if contestant.persists and contestant.share == 1.0:
            figures["restart_seconds"] = trial.restart()["seconds"]
        return {"contestant": contestant.name, **figures}
