"""How the kill tests kill the job."""

from __future__ import annotations

import random
from pathlib import Path

from tests.main_job.conftest import Jobs, write_words
from tests.main_job.stream import final_rows, word_counts


def kill_again_and_again(
    jobs: Jobs, place: Path, state: Path | str, rng: random.Random, *, rows: int, kills: int, latest: float
) -> None:
    """Kills the job so often, each time within `latest` seconds; its output is right whenever it ended, and at last.

    It has `rows` to read at first, and half as many whenever it ended.
    """
    folder, output = place / "in", place / "out.csv"
    folder.mkdir()
    write_words(folder / "a.jsonl", rng, rows)
    killed = finished = 0
    while killed < kills:
        fate = jobs.run(folder=folder, output=output, state=state, kill_after=rng.uniform(0, latest))
        assert fate in ("ended", "killed")
        if fate == "killed":
            killed += 1
        else:
            finished += 1
            assert final_rows(output, keys=1) == word_counts(folder)
            write_words(folder / f"b{finished:04}.jsonl", rng, rows // 2)
    assert jobs.run(folder=folder, output=output, state=state) == "ended"
    assert final_rows(output, keys=1) == word_counts(folder)
