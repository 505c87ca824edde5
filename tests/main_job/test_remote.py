"""The main job, its ownership rules and the live world with their state on S3 and on Azure."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.main_job.conftest import Jobs, remote_jobs, write_words
from tests.main_job.killing import kill_again_and_again
from tests.main_job.moving import caught_up, follow_order, judge, keep_moving, random_numbers
from tests.main_job.stream import final_rows, word_counts
from tests.main_job.world import World
from tests.servers.azurite import Azurite
from tests.servers.moto import Moto

KILLS = int(os.environ.get("ASYNCPERSIST_REMOTE_KILLS", "6"))
LIVES = max(2, KILLS // 3)
ZOMBIES = max(2, KILLS // 5)

NewState = Callable[[], str]
"""Makes an empty place and gives its address."""


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory, moto: Moto, azurite: Azurite) -> Iterator[Jobs]:
    yield from remote_jobs(tmp_path_factory, moto, azurite)


@pytest.fixture(params=["s3", "azure"])
def new_state(request: pytest.FixtureRequest, moto: Moto, azurite: Azurite) -> NewState:
    if request.param == "s3":
        return lambda: f"s3://{moto.new_bucket()}/some/where"
    return lambda: f"az://{azurite.new_container()}/some/where"


def test_killed_at_random_moments(jobs: Jobs, tmp_path: Path, new_state: NewState) -> None:
    kill_again_and_again(jobs, tmp_path, new_state(), random_numbers(), rows=300, kills=KILLS, latest=0.4)


def test_a_zombie_is_fenced(jobs: Jobs, tmp_path: Path, new_state: NewState) -> None:
    rng = random_numbers()
    fenced = attempts = 0
    while fenced < ZOMBIES:
        attempts += 1
        assert attempts < 10 * ZOMBIES, "too few were stopped while they owned the root"
        folder, output = tmp_path / f"in{attempts}", tmp_path / f"{attempts}.csv"
        folder.mkdir()
        write_words(folder / "a.jsonl", rng, 1000)
        order = {"folder": folder, "output": output, "state": new_state(), "retain_snapshots": rng.choice([1, 50])}
        pid = jobs.begin(**order, expected=["Fenced"])
        while not output.exists():
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.2))
        os.kill(pid, signal.SIGSTOP)
        if jobs.wait(pid) != "stopped":
            continue
        second = jobs.run(**order, expected=["StateInUse"])
        if second == "StateInUse":
            assert jobs.run(**order, takeover=True) == "ended"
        else:
            assert second == "ended", "the first one had released the root"
        assert final_rows(output, keys=1) == word_counts(folder)
        after = output.read_bytes()
        first = jobs.resume(pid)
        fenced += first == "Fenced"
        assert first == "Fenced" if second == "StateInUse" else first in ("Fenced", "ended")
        assert output.read_bytes() == after, "the zombie wrote"
        write_words(folder / "b.jsonl", rng, 50)
        assert jobs.run(**order) == "ended"
        assert final_rows(output, keys=1) == word_counts(folder)


@pytest.mark.parametrize("persistence", ["PERSISTING", "OPERATOR_PERSISTING"])
def test_a_world_followed_while_it_moves(jobs: Jobs, tmp_path: Path, new_state: NewState, persistence: str) -> None:
    rng = random_numbers()
    world = World.make(tmp_path / "in", rng, halves=True)
    follow = follow_order(tmp_path, state=new_state(), mode="streaming", persistence=persistence)
    for _ in range(LIVES):
        pid = jobs.begin(**follow)
        keep_moving(world, rng, seconds=rng.uniform(0.2, 1.2))
        os.kill(pid, signal.SIGKILL)
        assert jobs.wait(pid) == "killed"
    pid = jobs.begin(**follow)
    reached = caught_up(world, tmp_path / "out")
    os.kill(pid, signal.SIGTERM)
    assert jobs.wait(pid) == "ended"
    judge(world, tmp_path / "out")
    assert reached
