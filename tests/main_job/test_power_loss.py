"""A power cut loses what was not synchronised and tears the last write: what is found afterwards goes on exactly."""

from __future__ import annotations

import random
from pathlib import Path

from asyncpersist.testing.power import LossyDisk, PowerCut
from tests.main_job.conftest import write_words
from tests.main_job.job import count
from tests.main_job.stream import final_rows, word_counts


async def test_the_power_fails_at_every_write_in_turn(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    call = 0
    while True:
        call += 1
        place, folder = tmp_path / f"disk{call}", tmp_path / f"in{call}"
        place.mkdir()
        folder.mkdir()
        write_words(folder / "a.jsonl", random.Random(3), 60)
        output, state = place / "out.csv", place / "state"
        disk = LossyDisk(place, cut_at=call)
        try:
            await count(folder, output, state, disk=disk, chunk=512)
        except PowerCut:
            pass
        else:
            break
        disk.lose(rng)
        await count(folder, output, state, chunk=512)
        assert final_rows(output, keys=1) == word_counts(folder), f"cut at call {call}"
    assert call > 30, "the job makes fewer writes than it should"
