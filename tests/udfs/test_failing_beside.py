"""A function that fails beside others whose calls are being paid for."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import asyncpersist as ap
from asyncpersist.errors import FunctionFailed
from asyncpersist.persistence import Backend, Config, PersistenceMode
from asyncpersist.udfs.calling.runner import CallsCancelled
from tests.udfs.calling.pieces import Answers, arguments, function, running, waited


class Rows(ap.Schema):
    x: int


class Paid:
    """A function with a capacity of two, whose calls are still under way when `bad` has failed."""

    def __init__(self, *, plain: bool) -> None:
        self.called: list[int] = []
        self.broken = True
        self._under_way = threading.Semaphore(0)
        self._failing = threading.Event()
        executor = ap.udfs.async_executor(capacity=2)

        async def paid(x: int) -> int:
            self._begin(x)
            await asyncio.to_thread(self._failing.wait, 30)
            await asyncio.sleep(0.05)
            return 10 * x

        def paid_in_a_thread(x: int) -> int:
            self._begin(x)
            self._failing.wait(30)
            time.sleep(0.05)
            return 10 * x

        async def bad(x: int) -> int:
            if self.broken:
                await asyncio.to_thread(self._wait)
                self._failing.set()
                raise ValueError("no")
            return x

        made: Any = paid_in_a_thread if plain else paid
        self.paid = ap.udf(made, executor=executor, cache_strategy=ap.udfs.DiskCache("paid"))
        self.bad = ap.udf(bad, executor=ap.udfs.async_executor(capacity=1))

    def _begin(self, x: int) -> None:
        self.called.append(x)
        self._under_way.release()

    def _wait(self) -> None:
        for _ in range(2):
            assert self._under_way.acquire(timeout=30)


@pytest.mark.parametrize("paid_first", [True, False])
@pytest.mark.parametrize("plain", [True, False])
async def test_what_is_under_way_beside_a_failure_is_kept(tmp_path: Path, plain: bool, paid_first: bool) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(f'{{"x": {x}}}\n' for x in range(6)))
    functions = Paid(plain=plain)
    told: list[dict[str, Any]] = []

    def graph() -> ap.Graph:
        with ap.Graph() as graph:
            table = ap.io.jsonlines.read(tmp_path / "rows.jsonl", schema=Rows, mode="static")
            calls = {"a": functions.paid(table.x), "b": functions.bad(table.x)}
            out = table.select(**(calls if paid_first else dict(reversed(calls.items()))))
            ap.io.subscribe(out, lambda key, row, time, is_addition: told.append(row))
        return graph

    config = Config(Backend.filesystem(tmp_path / "state"), persistence_mode=PersistenceMode.UDF_CACHING)
    runtime = ap.Runtime(graph(), persistence_config=config)
    with pytest.raises(FunctionFailed, match="bad failed"):
        async with runtime:
            await runtime.wait()
    assert sorted(functions.called) == [0, 1]
    counts = {name.rpartition(".")[2]: each for name, each in runtime.statistics().functions.items()}
    assert counts["bad"].failures == 1
    (paid,) = (each for name, each in counts.items() if name != "bad")
    assert (paid.calls, paid.failures) == (2, 0)

    functions.broken = False
    await ap.run(graph(), persistence_config=config)
    assert sorted(functions.called) == list(range(6))
    assert sorted(row["a"] for row in told) == [0, 10, 20, 30, 40, 50]


async def test_a_function_in_the_thread_winds_down_between_two_calls() -> None:
    failure = FunctionFailed("of another one")

    def third(n: int) -> int:
        if n == 2:
            runner.wind_down(failure)
        return n

    of = function(third, int, result=int)
    answers = Answers(of)
    async with running(of) as runner:
        with pytest.raises(FunctionFailed) as raised:
            await waited(runner, arguments(of, range(1000)), answers)
        assert raised.value is failure
        assert answers.values == [0, 1, 2]


async def test_a_cancellation_does_not_wait_for_what_winds_down() -> None:
    begun = asyncio.Event()

    async def endless(n: int) -> int:
        begun.set()
        await asyncio.Event().wait()
        return n

    of = function(endless, int, result=int)
    async with running(of) as runner:
        waiting = asyncio.create_task(waited(runner, arguments(of, [1]), Answers(of)))
        await begun.wait()
        runner.wind_down(FunctionFailed("of another one"))
        runner.cancel()
        with pytest.raises((FunctionFailed, CallsCancelled)):
            await asyncio.wait_for(waiting, 4)
