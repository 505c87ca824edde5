"""The loop stays free: no blocking call is made in it, from the first check to the release."""

from __future__ import annotations

import random
from pathlib import Path

from blockbuster import blockbuster_ctx

import asyncpersist as ap
from tests.main_job.conftest import write_words
from tests.main_job.job import config, define
from tests.main_job.stream import final_rows, word_counts


async def test_no_blocking_call_inside_the_loop(tmp_path: Path) -> None:
    folder, output, state = tmp_path / "in", tmp_path / "out.csv", tmp_path / "state"
    folder.mkdir()
    rng = random.Random(1)
    for n in range(3):
        write_words(folder / f"{n}.jsonl", rng, 200)
        graph = define(folder, output, chunk=512)
        with blockbuster_ctx():
            await ap.run(graph, persistence_config=config(state))
    assert final_rows(output, keys=1) == word_counts(folder)
