"""A stopped writer whose root was taken over ends fenced, and nothing it writes appears anywhere."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest

from tests.amounts import EVERYWHERE
from tests.main_job.conftest import Jobs, write_words
from tests.main_job.stream import final_rows, word_counts

STEP = 7 if EVERYWHERE else 14
"""From call to call of the disk at which it is stopped."""
ENOUGH = 4
"""So many have to be stopped while they own the root; how many calls there are depends on how fast the disk is."""


@pytest.mark.parametrize("retain_snapshots", [1, 50], ids=["manifests between deleted", "manifests between kept"])
def test_a_zombie_is_fenced(jobs: Jobs, tmp_path: Path, retain_snapshots: int) -> None:
    rng = random.Random(5)
    fenced = stop_at = 0
    for attempt in itertools.count(1):
        stop_at += STEP
        folder, output = tmp_path / f"in{attempt}", tmp_path / f"{attempt}.csv"
        folder.mkdir()
        write_words(folder / "a.jsonl", rng, 300)
        order = {"folder": folder, "output": output, "state": tmp_path / f"state{attempt}"}
        order["retain_snapshots"] = retain_snapshots
        pid, fate = jobs.start(**order, stop_at=stop_at, expected=["Fenced", "OutcomeUnknown"])
        if fate == "ended":
            if fenced >= ENOUGH:
                break
            assert attempt < 10 * ENOUGH, "too few were stopped while they owned the root"
            stop_at = -7
            continue
        assert fate == "stopped"
        second = jobs.run(**order, expected=["StateInUse"])
        if second == "StateInUse":
            assert jobs.run(**order, takeover=True) == "ended"
        else:
            assert second == "ended", "the first one had not claimed the root yet, or had released it"
        assert final_rows(output, keys=1) == word_counts(folder)
        after = output.read_bytes()
        first = jobs.resume(pid)
        fenced += first == "Fenced"
        # One that was stopped in its claim may find its unfinished files collected: it has written nothing either.
        assert first == "Fenced" if second == "StateInUse" else first in ("Fenced", "ended", "OutcomeUnknown")
        assert output.read_bytes() == after, f"the zombie wrote (stopped at {stop_at})"
        write_words(folder / "b.jsonl", rng, 50)
        assert jobs.run(**order) == "ended"
        assert final_rows(output, keys=1) == word_counts(folder)
