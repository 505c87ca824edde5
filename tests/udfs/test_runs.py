"""Whole runs that pay a service for answers: how often they do, and how they end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

import asyncpersist as ap
from asyncpersist.errors import FunctionFailed, GraphError, RunStopped
from asyncpersist.io.python import ConnectorSubject
from asyncpersist.persistence import Backend, Config, PersistenceMode
from tests.udfs.pieces import Outcome
from tests.udfs.server import PaidServer, Refused, answer_to, ask

udfs = ap.udfs


class Text(ap.Schema):
    text: str


class Texts(ConnectorSubject):
    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts

    async def run(self) -> None:
        await self.next_batch([{"text": text} for text in self.texts])


class Answers(Outcome):
    """What a table told, and which texts the function was answered."""

    def __init__(self) -> None:
        super().__init__()
        self._answered: list[str] = []
        self._changed = asyncio.Event()

    def answered(self, text: str) -> None:
        self._answered.append(text)
        self._changed.set()

    async def until(self, count: int) -> None:
        """Returns when so many were answered."""
        while len(self._answered) < count:
            self._changed.clear()
            await self._changed.wait()


def graph_of(paid: PaidServer, texts: Sequence[str], **options: Any) -> tuple[ap.Graph, Answers]:
    """Asks the service about texts; `options` are those of the function, its executor apart if none is given."""

    told = Answers()

    async def answer(text: str) -> str:
        found = await ask(paid.port, text)
        told.answered(text)
        return found

    options.setdefault("executor", udfs.async_executor(capacity=8))
    with ap.Graph() as graph:
        table = ap.io.python.read(Texts(texts), schema=Text, resume="restart")
        ap.io.subscribe(table.select(table.text, answer=ap.udf(answer, **options)(table.text)), told.take)
    return graph, told


TEXTS = [f"text {number}" for number in range(40)]


async def test_a_service_that_fails_and_limits_is_paid_once_for_each(paid: PaidServer) -> None:
    paid.limit = 4
    paid.failures.update(dict.fromkeys(TEXTS[::5], 2))
    patient = udfs.FixedDelayRetryStrategy(max_retries=1000, delay_ms=1)
    graph, told = graph_of(
        paid,
        TEXTS + TEXTS[::-1],
        executor=udfs.async_executor(capacity=8, retry_strategy=patient),
        cache_strategy=udfs.InMemoryCache(),
    )
    await ap.run(graph)
    assert [(row["text"], row["answer"]) for row in told.rows] == [
        (text, answer_to(text)) for text in TEXTS + TEXTS[::-1]
    ]
    assert dict(paid.paid) == dict.fromkeys(TEXTS, 1)


async def test_what_was_answered_before_a_failure_is_not_asked_for_again(paid: PaidServer) -> None:
    backend, failing = Backend.memory(), TEXTS[7]
    paid.failures[failing] = 1
    for mode in (PersistenceMode.PERSISTING, PersistenceMode.UDF_CACHING):
        config = Config(backend, persistence_mode=mode)
        before = dict(paid.calls)
        graph, told = graph_of(paid, TEXTS, cache_strategy=udfs.DefaultCache())
        if not before:
            with pytest.raises(FunctionFailed, match=r"answer failed for \('text 7'\): Refused: HTTP 500") as caught:
                await ap.run(graph, persistence_config=config)
            assert isinstance(caught.value.__cause__, Refused)
            continue
        await ap.run(graph, persistence_config=config)
        assert len(told.rows) == len(TEXTS)
    assert dict(paid.paid) == dict.fromkeys(TEXTS, 1)
    assert paid.calls == {**paid.paid, failing: 2}


async def test_cancelling_a_run_reaches_the_calls_and_begins_no_others(paid: PaidServer) -> None:
    paid.stalled.update(TEXTS)
    graph, told = graph_of(paid, TEXTS)
    running = asyncio.create_task(ap.run(graph))
    await paid.until(lambda server: server.at_once == 8)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await paid.until(lambda server: server.left.total() == 8)
    assert (paid.calls.total(), paid.paid.total(), told.changes) == (8, 0, [])


async def test_a_stop_waits_for_calls_no_longer_than_it_may(paid: PaidServer) -> None:
    backend = Backend.memory()
    paid.stalled.add(TEXTS[-1])
    graph, told = graph_of(paid, TEXTS, cache_strategy=udfs.DefaultCache())
    runtime = await ap.Runtime(graph, persistence_config=Config(backend), shutdown_timeout=0).__aenter__()
    await told.until(len(TEXTS) - 1)
    with pytest.raises(RunStopped, match="functions had not answered"):
        await runtime.stop()
    assert (told.changes, runtime.ready) == ([], False)
    paid.release()
    graph, told = graph_of(paid, TEXTS, cache_strategy=udfs.DefaultCache())
    await ap.run(graph, persistence_config=Config(backend))
    assert len(told.rows) == len(TEXTS)
    assert dict(paid.paid) == dict.fromkeys(TEXTS, 1)


async def test_a_stop_lets_calls_end(paid: PaidServer) -> None:
    paid.stalled.add(TEXTS[-1])
    graph, told = graph_of(paid, TEXTS)
    async with ap.Runtime(graph):
        await told.until(len(TEXTS) - 1)
        asyncio.get_running_loop().call_soon(paid.release)
    assert len(told.rows) == len(TEXTS)


async def test_the_next_run_answers_from_the_cache_whatever_its_mode(paid: PaidServer) -> None:
    backend = Backend.memory()
    for mode in (PersistenceMode.UDF_CACHING, PersistenceMode.PERSISTING, PersistenceMode.BATCH):
        graph, told = graph_of(paid, TEXTS, cache_strategy=udfs.DiskCache("shared"))
        async with ap.Runtime(graph, persistence_config=Config(backend, persistence_mode=mode)) as runtime:
            await runtime.wait()
        assert len(told.rows) == len(TEXTS)
        (figures,) = runtime.statistics().functions.values()
        assert figures.calls + figures.hits == len(TEXTS)
    assert dict(paid.calls) == dict.fromkeys(TEXTS, 1)


async def test_caches_without_persistence(paid: PaidServer) -> None:
    graph, _ = graph_of(paid, TEXTS[:3] * 2, cache_strategy=udfs.DefaultCache())
    await ap.run(graph)
    assert dict(paid.calls) == dict.fromkeys(TEXTS[:3], 2), "there is none"
    graph, _ = graph_of(paid, TEXTS[:3], cache_strategy=udfs.DiskCache("name"))
    with pytest.raises(GraphError, match="has a DiskCache, and this run has no persistence_config"):
        await ap.run(graph)
    memory = udfs.InMemoryCache()
    graph, _ = graph_of(paid, TEXTS[:3] * 2, cache_strategy=memory)
    await ap.run(graph)
    assert dict(paid.calls) == dict.fromkeys(TEXTS[:3], 3)
