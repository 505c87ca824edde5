from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from asyncpersist.cli import main
from tests.main_job.conftest import write_words
from tests.main_job.job import count


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit code, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Outcome]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command line in this process."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["asyncpersist", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main()
        written = capsys.readouterr()
        return Outcome(int(exit_.value.code or 0), written.out, written.err)

    return run


@dataclass(frozen=True)
class Job:
    """Word counts from `folder` to `output`, with their state in `state`."""

    folder: Path
    output: Path
    state: Path

    def run(self, rows: int, seed: int, **settings: Any) -> None:
        """Adds a file of so many lines and runs to the end, a snapshot after every epoch."""
        write_words(self.folder / f"{seed:03}.jsonl", random.Random(seed), rows)
        self.again(**settings)

    def again(self, **settings: Any) -> None:
        asyncio.run(count(self.folder, self.output, self.state, **{"chunk": 512, "retain_snapshots": 50, **settings}))

    def files(self) -> dict[Path, tuple[bytes, int]]:
        """Everything in the state, with the time at which it was changed."""
        return {
            path: (path.read_bytes(), path.stat().st_mtime_ns)
            for path in sorted(self.state.rglob("*"))
            if path.is_file()
        }


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Three runs, each of which found a new file."""
    made = Job(tmp_path / "in", tmp_path / "out.csv", tmp_path / "state")
    made.folder.mkdir()
    for seed in (1, 2, 3):
        made.run(150, seed)
    return made
