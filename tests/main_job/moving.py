"""How the tests of a moving world move it, and tell whether the job has followed."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

from tests.amounts import PATIENCE
from tests.main_job.world import OUTPUTS, World, differences, summed


def random_numbers() -> random.Random:
    """Of a seed that is printed, and can be given in the environment to see the same changes again."""
    seed = int(os.environ.get("ASYNCPERSIST_WORLD_SEED") or random.SystemRandom().randrange(2**32))
    print(f"seed {seed}")
    return random.Random(seed)


def follow_order(folder: Path, **rest: Any) -> dict[str, Any]:
    """For `Jobs`: the job that follows the world in `folder`; its state lies beside, unless another place is named."""
    (folder / "out").mkdir(exist_ok=True)
    return {"job": "world", "folder": folder / "in", "outputs": folder / "out", "state": folder / "state", **rest}


def keep_moving(world: World, rng: random.Random, *, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        world.change()
        time.sleep(rng.choice([0, 0.002, 0.02, 0.1]))


def judge(world: World, outputs: Path) -> None:
    """All outputs are what the files that are there amount to."""
    for name, wanted in world.truth().items():
        found = summed(outputs / f"{name}.csv")
        assert found == wanted, f"{name}: {differences(found, wanted)}"


def caught_up(world: World, outputs: Path) -> bool:
    """Whether all outputs get there in time; the world stands still."""
    world.mark()
    truth, late = world.truth(), time.monotonic() + PATIENCE
    missing = list(OUTPUTS)
    while missing and time.monotonic() < late:
        missing = [name for name in missing if summed(outputs / f"{name}.csv", torn=True) != truth[name]]
        time.sleep(0.05 if missing else 0)
    return not missing
