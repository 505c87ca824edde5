"""A store that refuses for a while only makes snapshots late: no increment is lost, nothing is counted twice."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

import asyncpersist as ap
from asyncpersist.errors import StoreUnavailable
from asyncpersist.objectstore.memory import MemoryStore
from asyncpersist.testing.stores import FaultyStore, Outcome
from tests.main_job.conftest import write_words
from tests.main_job.job import define
from tests.main_job.stream import final_rows, word_counts
from tests.servers.azurite import ACCOUNT, KEY, Azurite


def _config(store: FaultyStore) -> ap.persistence.Config:
    return ap.persistence.Config(ap.persistence.Backend(store), snapshot_interval_ms=0)


@pytest.mark.parametrize("seed", range(12))
async def test_refusals_lose_no_increment(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    folder, output = tmp_path / "in", tmp_path / "out.csv"
    folder.mkdir()
    faults = [outcome for outcome in Outcome if outcome is not Outcome.DONE]
    armed = False

    def decide(method: str, key: str) -> Outcome:
        if armed and method in ("put", "create") and rng.random() < 0.4:
            return rng.choice(faults)
        return Outcome.DONE

    store = FaultyStore(MemoryStore(), decide)
    for run in range(3):
        write_words(folder / f"{run}.jsonl", rng, 200)
        async with ap.Runtime(define(folder, output, chunk=512), persistence_config=_config(store)) as runtime:
            armed = True
            await runtime.wait()
            armed = False
        assert final_rows(output, keys=1) == word_counts(folder)


async def test_a_server_that_does_not_answer_for_a_while(tmp_path: Path, own_azurite: Azurite) -> None:
    folder, output = tmp_path / "in", tmp_path / "out.csv"
    folder.mkdir()
    container = own_azurite.new_container()
    backend = ap.persistence.Backend.azure("some/where", ACCOUNT, KEY, container, endpoint=own_azurite.endpoint)
    config = ap.persistence.Config(backend, snapshot_interval_ms=0)
    write_words(folder / "a.jsonl", random.Random(1), 300)
    async with ap.Runtime(define(folder, output, mode="streaming"), persistence_config=config) as runtime:
        while runtime.statistics().rows_read < 300:
            await asyncio.sleep(0.001)
        await runtime.snapshot()
        own_azurite.pause()
        write_words(folder / "b.jsonl", random.Random(2), 300)
        while runtime.statistics().rows_read < 600 or not runtime.statistics().snapshot_age:
            await asyncio.sleep(0.001)
        asked = asyncio.create_task(runtime.snapshot())
        await asyncio.sleep(0)
        assert not asked.done()
        own_azurite.resume()
        await asked
        assert runtime.statistics().snapshot_age == 0
    async with ap.Runtime(define(folder, output, mode="streaming"), persistence_config=config) as runtime:
        assert runtime.statistics().recovered_epoch
        assert runtime.statistics().rows_read == 0
    assert final_rows(output, keys=1) == word_counts(folder)


async def test_the_age_says_so_while_it_is_away_and_all_is_well_when_it_returns(tmp_path: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / "out.csv"
    folder.mkdir()
    away = False

    def decide(method: str, key: str) -> Outcome:
        return Outcome.REFUSED if away and method in ("put", "create") else Outcome.DONE

    store = FaultyStore(MemoryStore(), decide)
    write_words(folder / "a.jsonl", random.Random(1), 300)
    async with ap.Runtime(define(folder, output, chunk=512), persistence_config=_config(store)) as runtime:
        away = True
        while runtime.statistics().rows_read < 300:
            await asyncio.sleep(0)
        before = runtime.statistics()
        assert before.snapshot_age > 0
        assert before.uncommitted_bytes > 0
        away = False
        await runtime.wait()
    after = runtime.statistics()
    assert (after.snapshot_age, after.uncommitted_bytes) == (0, 0)
    assert final_rows(output, keys=1) == word_counts(folder)


async def test_one_that_stays_away_is_an_error_in_the_end(tmp_path: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / "out.csv"
    folder.mkdir()
    write_words(folder / "a.jsonl", random.Random(1), 100)
    away = False
    store = FaultyStore(
        MemoryStore(),
        lambda method, key: Outcome.REFUSED if away and method in ("put", "create") else Outcome.DONE,
    )
    with pytest.raises(StoreUnavailable):
        async with ap.Runtime(
            define(folder, output), persistence_config=_config(store), shutdown_timeout=0.1
        ) as runtime:
            away = True
            await runtime.wait()
    away = False
    await ap.run(define(folder, output), persistence_config=_config(store))
    assert final_rows(output, keys=1) == word_counts(folder)
