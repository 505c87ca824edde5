"""The demo's job as a process of its own, which can be killed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from asyncpersist.cli.demo_job import Report

__all__ = ["JobFailed", "Outcome", "run_job"]


class JobFailed(Exception):
    """The job ended by itself with an error; the message is the last line it wrote."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one process of the job went. `last` is the last it told, `seconds` how long the process lived."""

    last: Report
    killed: bool
    seconds: float


def run_job(
    directory: Path,
    interval_ms: int,
    *,
    watch: Callable[[Report], None],
    kill_when: Callable[[Report], bool] = lambda report: False,
) -> Outcome:
    """Runs the job until it ends or `kill_when` says so of a report; then it gets SIGKILL, which no process can handle.

    `watch` is called with every report. Raises `JobFailed`. No process is left behind, whatever is raised.
    """
    command = [sys.executable, "-m", "asyncpersist.cli.demo_job", str(directory), str(interval_ms)]
    last, killed, start = None, False, time.monotonic()
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                last = msgspec.json.decode(line, type=Report)
                watch(last)
                if kill_when(last):
                    process.kill()
                    killed = True
                    break
        finally:
            process.kill()
        code = process.wait()
        if last is None or (not killed and code != 0):
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines()
            raise JobFailed(said[-1] if said else f"the job ended with exit code {code}")
    return Outcome(last, killed, time.monotonic() - start)
