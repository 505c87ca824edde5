"""A process that gets its rows from Python, killed at any moment: nothing lost, nothing twice."""

from __future__ import annotations

import contextlib
import os
import random
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx

import asyncpersist as ap
from asyncpersist.errors import RunStopped
from tests.main_job.conftest import Jobs
from tests.main_job.job import config
from tests.main_job.stream import final_rows
from tests.main_job.subject_job import define, prices, totals

KILLS = int(os.environ.get("ASYNCPERSIST_KILLS", "10"))


@pytest.mark.parametrize(("keyed", "threaded"), [(False, False), (False, True), (True, False), (True, True)])
def test_killed_at_random_moments(jobs: Jobs, tmp_path: Path, keyed: bool, threaded: bool) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    truth = prices if keyed else totals
    output, count, killed = tmp_path / "out.csv", 600, 0
    job = {"job": "subject", "output": output, "state": tmp_path / "state", "keyed": keyed, "threaded": threaded}
    while killed < KILLS:
        fate = jobs.run(**job, count=count, kill_after=rng.uniform(0.02, 0.2))
        assert fate in ("ended", "killed")
        if fate == "killed":
            killed += 1
        else:
            assert final_rows(output, keys=1) == truth(count)
            count += 300
    assert jobs.run(**job, count=count) == "ended"
    assert final_rows(output, keys=1) == truth(count)


@pytest.mark.parametrize("threaded", [False, True])
async def test_stopped_and_started_again(tmp_path: Path, threaded: bool) -> None:
    """What was not stepped when the run stopped is given again."""
    output, count = tmp_path / "out.csv", 400
    for last in (False, False, True):
        graph = define(output, count, keyed=False, threaded=threaded)
        with blockbuster_ctx():
            async with ap.Runtime(graph, persistence_config=config(tmp_path / "state", interval=20)) as runtime:
                if last:
                    await runtime.wait()
                else:
                    with contextlib.suppress(RunStopped):  # where all is read before that
                        while runtime.statistics().epochs < 3:
                            await runtime.snapshot()
    assert final_rows(output, keys=1) == totals(count)
