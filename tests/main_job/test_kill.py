"""A process killed at any moment goes on where it was: nothing lost, nothing twice."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.amounts import PLACES
from tests.main_job.conftest import Jobs, write_words
from tests.main_job.killing import kill_again_and_again
from tests.main_job.stream import final_rows, word_counts

KILLS = int(os.environ.get("ASYNCPERSIST_KILLS", "40"))


def test_killed_at_random_moments(jobs: Jobs, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    kill_again_and_again(jobs, tmp_path, tmp_path / "state", rng, rows=800, kills=KILLS, latest=0.12)


@pytest.mark.parametrize(("when", "methods"), PLACES)
def test_killed_at_every_write_in_turn(jobs: Jobs, tmp_path: Path, when: str, methods: frozenset[str]) -> None:
    rng = random.Random(3)
    folder = tmp_path / "in"
    folder.mkdir()
    write_words(folder / "a.jsonl", rng, 36)
    write_words(folder / "b.jsonl", rng, 12)
    call = 1
    while True:
        order = {"folder": folder, "output": tmp_path / f"{call}.csv", "state": tmp_path / f"state{call}", "chunk": 512}
        fate = jobs.run(**order, kill_at=call, when=when, methods=sorted(methods))
        if fate == "ended":
            break
        assert fate == "killed"
        assert jobs.run(**order) == "ended"
        assert final_rows(order["output"], keys=1) == word_counts(folder), f"killed {when} call {call}"
        call += 1
    assert call > (6 if when == "half" else 30), "the job makes fewer writes than it should"
