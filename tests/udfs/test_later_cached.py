"""Functions that answer later, with a cache: what is known is there at once, and a call is made once for all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import asyncpersist as ap
from asyncpersist.persistence import Backend, Config, PersistenceMode
from asyncpersist.udfs import CacheStrategy, DefaultCache, DiskCache, InMemoryCache
from tests.udfs.later import Asked, Given, seen

PENDING = ap.PENDING


class Keyed(ap.Schema):
    k: int = ap.column_definition(primary_key=True)
    a: int


def row(k: int, a: int) -> dict[str, int]:
    return {"k": k, "a": a}


class Job:
    """The same function over two tables, each with rows of its own."""

    def __init__(
        self, given: tuple[Given, Given], asked: Asked, cache: CacheStrategy, names: tuple[str | None, ...] = ("p", "q")
    ) -> None:
        executor = ap.udfs.fully_async_executor(autocommit_duration_ms=None)
        self.asked = asked
        f = ap.udf(return_type=int, executor=executor, cache_strategy=cache, version=1)(self.called)
        with ap.Graph() as self.graph:
            tables = [ap.io.python.read(one, schema=Keyed, name=name) for one, name in zip(given, names, strict=True)]
            self.one, self.two = (seen(t.select(t.k, f=f(t.a)), name=f"out {n}") for n, t in enumerate(tables))

    async def called(self, a: int) -> Any:
        return await self.asked(a)


def config(path: Path, mode: PersistenceMode = PersistenceMode.UDF_CACHING, interval: int = 0) -> Config:
    return Config(Backend.filesystem(path / "state"), snapshot_interval_ms=interval, persistence_mode=mode)


async def test_what_is_known_is_there_at_once_and_equal_arguments_are_one_call() -> None:
    given, asked = (Given(), Given()), Asked()
    job = Job(given, asked, InMemoryCache())
    async with ap.Runtime(job.graph) as runtime:
        given[0].give(row(1, 10), row(2, 10), row(3, 30))
        await asked.until(lambda: len(asked.calls) == 2)
        given[1].give(row(4, 10), row(5, 30))
        await job.two.until({"k": 4, "f": PENDING}, {"k": 5, "f": PENDING})
        asked.answer(10, 100)
        await job.one.until({"k": 1, "f": 100}, {"k": 2, "f": 100}, {"k": 3, "f": PENDING})
        await job.two.until({"k": 4, "f": 100}, {"k": 5, "f": PENDING})
        given[0].give(row(6, 10))
        await job.one.until({"k": 1, "f": 100}, {"k": 2, "f": 100}, {"k": 3, "f": PENDING}, {"k": 6, "f": 100})
        assert [change for _, change, _ in job.one.changes if change["k"] == 6] == [{"k": 6, "f": 100}]
        ((name, counts),) = runtime.statistics().functions.items()
        assert name.endswith("called")
        assert (counts.calls, counts.hits) == (1, 3)
    assert sorted(asked.calls) == [10, 30]
    assert asked.cancelled == [30]


async def test_a_call_is_not_lost_to_others_when_who_began_it_does_without_it() -> None:
    given, asked = (Given(), Given()), Asked()
    job = Job(given, asked, InMemoryCache())
    async with ap.Runtime(job.graph):
        given[0].give(row(1, 10), row(2, 20))
        await asked.until(lambda: len(asked.calls) == 2)
        given[1].give(row(3, 10), row(4, 20))
        await job.two.until({"k": 3, "f": PENDING}, {"k": 4, "f": PENDING})
        given[0].give(removed=(row(1, 10),))
        await asked.until(lambda: asked.cancelled == [10] and len(asked.calls) == 3)
        for a in (10, 20):
            asked.answer(a, 10 * a)
        await job.two.until({"k": 3, "f": 100}, {"k": 4, "f": 200})
        await job.one.until({"k": 2, "f": 200})
    assert asked.calls == [10, 20, 10]


async def test_who_waits_for_a_call_of_others_may_do_without_it() -> None:
    given, asked = (Given(), Given()), Asked()
    job = Job(given, asked, InMemoryCache())
    async with ap.Runtime(job.graph):
        given[0].give(row(1, 10))
        await asked.until(lambda: asked.calls == [10])
        given[1].give(row(2, 10), row(3, 10))
        await job.two.until({"k": 2, "f": PENDING}, {"k": 3, "f": PENDING})
        given[1].give(removed=(row(2, 10), row(3, 10)))
        await job.two.until()
        asked.answer(10, 100)
        await job.one.until({"k": 1, "f": 100})
    assert not asked.cancelled


@pytest.mark.parametrize("cache", [DefaultCache(), DiskCache(name="answers", durable="each")], ids=["snapshot", "each"])
async def test_a_later_run_finds_what_was_answered(tmp_path: Path, cache: CacheStrategy) -> None:
    first, given = Asked(), (Given(), Given())
    # Only what is written before it is used is there although no snapshot was taken.
    interval = 3_600_000 if isinstance(cache, DiskCache) and cache.durable == "each" else 0
    job = Job(given, first, cache, (None, None))
    async with ap.Runtime(job.graph, persistence_config=config(tmp_path, interval=interval)) as runtime:
        given[0].give(row(1, 10), row(2, 20))
        first.answer(10, 100)
        await job.one.until({"k": 1, "f": 100}, {"k": 2, "f": PENDING})
        if not interval:
            await runtime.stop()
    second, given = Asked(), (Given(), Given())
    job = Job(given, second, cache, (None, None))
    async with ap.Runtime(job.graph, persistence_config=config(tmp_path)):
        given[0].give(row(1, 10), row(2, 20))
        await second.until(lambda: second.calls == [20])
        second.answer(20, 200)
        await job.one.until({"k": 1, "f": 100}, {"k": 2, "f": 200})
    assert [change for _, change, _ in job.one.changes if change["k"] == 1] == [{"k": 1, "f": 100}]


async def test_answers_that_are_written_at_once_are_found_by_what_was_pending(tmp_path: Path) -> None:
    """An answer that no epoch took in any more is in the cache, and what waits for it is not called for again."""
    first, given = Asked(), (Given(), Given())
    job = Job(given, first, DefaultCache())
    mode = PersistenceMode.PERSISTING
    async with ap.Runtime(job.graph, persistence_config=config(tmp_path, mode)):
        given[0].give(row(1, 10))
        await first.until(lambda: first.calls == [10])
        await job.one.until({"k": 1, "f": PENDING})
    second = Asked()
    job = Job(given, second, DefaultCache())
    job.one.rows = [{"k": 1, "f": PENDING}]
    async with ap.Runtime(job.graph, persistence_config=config(tmp_path, mode)):
        given[1].give(row(2, 20))
        second.answer(10, 100)
        second.answer(20, 200)
        await job.one.until({"k": 1, "f": 100})
        await job.two.until({"k": 2, "f": 200})
    assert sorted(second.calls) == [10, 20]
