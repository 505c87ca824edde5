"""The commit protocol under every fault a store can have: what was committed is there, once; what was not is gone.

`ASYNCPERSIST_SCHEDULES` is how many schedules there are, bare and wrapped each. A failure names its seed, and the same
seed gives the same schedule.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.checkpoint.schedules import Schedule

SCHEDULES = int(os.environ.get("ASYNCPERSIST_SCHEDULES", "80"))
BATCHES = 8
SEEDS = [range(SCHEDULES * batch // BATCHES, SCHEDULES * (batch + 1) // BATCHES) for batch in range(BATCHES)]


@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "wrapped"])
@pytest.mark.parametrize("seeds", SEEDS, ids=lambda seeds: f"seeds {seeds.start} to {seeds.stop - 1}")
async def test_every_committed_row_is_there_once(seeds: range, wrapped: bool) -> None:
    for seed in seeds:
        try:
            await Schedule(seed, wrapped=wrapped).run()
        except BaseException as exc:
            exc.add_note(f"the schedule: Schedule({seed}, wrapped={wrapped})")
            raise


async def test_the_same_seed_gives_the_same_schedule() -> None:
    for seed in range(5):
        one, other = Schedule(seed, wrapped=True), Schedule(seed, wrapped=True)
        await one.run()
        await other.run()
        assert one.network.calls == other.network.calls
        assert one.reported == other.reported


async def test_schedules_meet_what_they_are_for() -> None:
    seen: Counter[str] = Counter()
    for seed in range(40):
        schedule = Schedule(seed, wrapped=bool(seed % 2))
        await schedule.run()
        seen += schedule.seen
    # Of each, a good half of what there was when this was written.
    for what, least in {
        "claimed": 150,
        "claim: ClaimContended": 70,
        "claim: StateInUse": 20,
        "commits reported": 200,
        "names reported": 10,
        "answers reported": 200,
        "adopted": 140,
        "commits of caches": 30,
        "in doubt": 20,
        "cut": 30,
        "written ahead": 40,
        "merged": 200,
        "deleted": 700,
        "released": 20,
        "fenced": 50,
        "killed": 40,
        "reads": 250,
        "damage found by the reader": 70,
        "damage found by a writer": 10,
        "damage found by a claim": 40,
    }.items():
        assert seen[what] >= least, f"{what}: {seen[what]} times in 40 schedules"
