from __future__ import annotations

import asyncio
import json
import random
import shutil
import sys
from collections.abc import Callable, Iterator
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

    @staticmethod
    def made(place: Path) -> Job:
        """Three runs, each of which found a new file."""
        made = Job(place / "in", place / "out.csv", place / "state")
        made.folder.mkdir()
        for seed in (1, 2, 3):
            made.run(150, seed)
        return made


@pytest.fixture
def own_job(tmp_path: Path) -> Job:
    """A job for a test that touches the files that its runs have read."""
    return Job.made(tmp_path)


@pytest.fixture(scope="session")
def job_of_all(tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Path]:
    """The job that tests share, and a copy of its output and its state as its runs left them."""
    job, copy = Job.made(tmp_path_factory.mktemp("job")), tmp_path_factory.mktemp("copy")
    shutil.copy2(job.output, copy)
    shutil.copytree(job.state, copy / job.state.name)
    return job, copy


@pytest.fixture
def job(job_of_all: tuple[Job, Path]) -> Iterator[Job]:
    """A job that has run. What a test adds or changes beside what was read is undone after it."""
    job, copy = job_of_all
    there = {job.folder, *job.folder.iterdir()}
    yield job
    for path in {*job.state.parent.iterdir(), *job.folder.iterdir()} - there:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    shutil.copytree(copy, job.state.parent, dirs_exist_ok=True)
    assert {job.folder, *job.folder.iterdir()} == there, "take own_job"
