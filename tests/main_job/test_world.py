"""Files are added, appended to, rewritten, cut, renamed and deleted while the process is killed: the output follows."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

import asyncpersist as ap
from tests.amounts import PATIENCE
from tests.main_job.conftest import Jobs
from tests.main_job.job import config
from tests.main_job.job import define as define_counts
from tests.main_job.moving import caught_up, follow_order, judge, keep_moving, random_numbers
from tests.main_job.world import OUTPUTS, World, summed

KILLS = int(os.environ.get("ASYNCPERSIST_WORLD_KILLS", "8"))
MODES = ["PERSISTING", "OPERATOR_PERSISTING"]


def report_lags(path: Path) -> None:
    lags = sorted(lag for line in path.read_text().splitlines() for lag in json.loads(line)) if path.exists() else []
    if lags:
        print(f"ticker: p50 {lags[len(lags) // 2]} ms, p99 {lags[len(lags) * 99 // 100]} ms, worst {lags[-1]} ms")


@pytest.mark.parametrize("persistence", MODES)
def test_followed_while_it_moves(jobs: Jobs, tmp_path: Path, persistence: str) -> None:
    rng = random_numbers()
    world = World.make(tmp_path / "in", rng, halves=True)
    follow = follow_order(tmp_path, mode="streaming", persistence=persistence, lags=tmp_path / "lags")
    outputs = tmp_path / "out"
    for life in range(1, KILLS + 1):
        pid = jobs.begin(**follow)
        keep_moving(world, rng, seconds=rng.uniform(0.0, 0.8))
        reached = life % 5 or caught_up(world, outputs)
        os.kill(pid, signal.SIGKILL)
        assert jobs.wait(pid) == "killed", f"life {life}"
        for name in OUTPUTS:
            summed(outputs / f"{name}.csv", torn=True)
        if not reached:
            judge(world, outputs)
            pytest.fail(f"life {life}: it caught up only after {PATIENCE} s")
        for _ in range(rng.choice([0, 0, 3])):
            world.change()
    pid = jobs.begin(**follow)
    reached = caught_up(world, outputs)
    os.kill(pid, signal.SIGTERM)
    assert jobs.wait(pid) == "ended"
    judge(world, outputs)
    assert reached
    report_lags(tmp_path / "lags")


@pytest.mark.parametrize("persistence", MODES)
def test_found_changed_by_every_run(jobs: Jobs, tmp_path: Path, persistence: str) -> None:
    rng = random_numbers()
    world = World.make(tmp_path / "in", rng, halves=False)
    run = follow_order(tmp_path, mode="static", persistence=persistence, interval=0)
    killed = 0
    while killed < KILLS:
        for _ in range(rng.choice([0, 1, 10])):
            world.change()
        fate = jobs.run(**run, kill_after=rng.uniform(0.0, 0.25))
        assert fate in ("ended", "killed")
        if fate == "ended":
            judge(world, tmp_path / "out")
        killed += fate == "killed"
    assert jobs.run(**run) == "ended"
    judge(world, tmp_path / "out")


@pytest.mark.parametrize("persistent", [True, False])
async def test_a_rewritten_file_changes_in_one_epoch(tmp_path: Path, persistent: bool) -> None:
    file, lines = tmp_path / "in" / "a.jsonl", 300
    told: list[tuple[str, int, bool, int]] = []

    def rewrite(word: str) -> None:
        beside = file.with_name(".new")
        beside.write_text((json.dumps({"word": word}) + "\n") * lines)
        beside.replace(file)

    def on_change(key: ap.Pointer, row: dict[str, Any], time: int, is_addition: bool) -> None:
        told.append((row["word"], row["count"], is_addition, time))

    async def becomes(word: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while (word, lines, True) not in [change[:3] for change in told]:
                await asyncio.sleep(0.01)

    file.parent.mkdir()
    rewrite("v0")
    graph = define_counts(file.parent, tmp_path / "out.csv", mode="streaming", chunk=256, on_change=on_change)
    async with ap.Runtime(graph, persistence_config=config(tmp_path / "state") if persistent else None):
        await becomes("v0")
        for version in range(1, 4):
            told.clear()
            rewrite(f"v{version}")
            await becomes(f"v{version}")
            (*gone, before), (*come, after) = told
            assert gone == [f"v{version - 1}", lines, False]
            assert come == [f"v{version}", lines, True]
            assert before == after
