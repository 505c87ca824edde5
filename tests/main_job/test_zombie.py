"""A stopped writer whose root was taken over ends fenced, and nothing it writes appears anywhere."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.main_job.conftest import Jobs, write_words
from tests.main_job.stream import final_rows, word_counts


@pytest.mark.parametrize("retain_snapshots", [1, 50], ids=["manifests between deleted", "manifests between kept"])
def test_a_zombie_is_fenced(jobs: Jobs, tmp_path: Path, retain_snapshots: int) -> None:
    rng = random.Random(5)
    for stop_at in range(25, 400, 23):
        folder = tmp_path / f"in{stop_at}"
        folder.mkdir()
        write_words(folder / "a.jsonl", rng, 150)
        order = {"folder": folder, "output": tmp_path / f"{stop_at}.csv", "state": tmp_path / f"state{stop_at}"}
        order["retain_snapshots"] = retain_snapshots
        pid, fate = jobs.start(**order, stop_at=stop_at, expected=["Fenced"])
        if fate == "ended":
            assert stop_at > 100, "the job makes fewer writes than it should"
            break
        assert fate == "stopped"
        assert jobs.run(**order, expected=["StateInUse"]) == "StateInUse"
        assert jobs.run(**order, takeover=True) == "ended"
        after = Path(order["output"]).read_bytes()
        assert final_rows(Path(order["output"]), keys=1) == word_counts(folder)
        assert jobs.resume(pid) in ("Fenced", "ended")
        assert Path(order["output"]).read_bytes() == after, f"the zombie wrote (stopped at {stop_at})"
        write_words(folder / "b.jsonl", rng, 50)
        assert jobs.run(**order) == "ended"
        assert final_rows(Path(order["output"]), keys=1) == word_counts(folder)
