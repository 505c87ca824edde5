"""Calls by keys: started at any time, withdrawn, told in groups."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import polars as pl

from asyncpersist.clock import Clock, SystemClock
from asyncpersist.errors import FunctionFailed
from asyncpersist.testing.clocks import ManualClock
from asyncpersist.udfs.calling.on_loop import LoopCalls
from asyncpersist.udfs.calling.runner import CallsCancelled, Positions
from asyncpersist.udfs.executors import fully_async_executor
from asyncpersist.udfs.function import Function
from asyncpersist.udfs.retries import FixedDelayRetryStrategy
from tests.udfs.calling.pieces import arguments, function
from tests.udfs.server import PaidServer, ask, ask_blocking


class Told:
    """What calls told, to be awaited in the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.answers: dict[int, Any] = {}
        self.reason: Exception | None = None
        self._loop = loop
        self._changed = asyncio.Condition()

    def told(self, keys: Positions, values: pl.Series) -> None:
        self._note(lambda: self.answers.update(zip(keys.tolist(), values.to_list(), strict=True)))

    def ended(self, reason: Exception) -> None:
        self._note(lambda: setattr(self, "reason", reason))

    async def until(self, seen: Callable[[Told], bool]) -> None:
        async with self._changed, asyncio.timeout(20):
            await self._changed.wait_for(lambda: seen(self))

    def _note(self, change: Callable[[], None]) -> None:
        async def note() -> None:
            async with self._changed:
                change()
                self._changed.notify_all()

        asyncio.run_coroutine_threadsafe(note(), self._loop).result()


@contextlib.asynccontextmanager
async def calling(of: Function, clock: Clock | None = None) -> AsyncIterator[tuple[LoopCalls, Told]]:
    loop = asyncio.get_running_loop()
    told = Told(loop)
    calls = LoopCalls(of, loop=loop, clock=clock or SystemClock(), told=told.told, ended=told.ended)
    try:
        yield calls, told
    finally:
        await asyncio.to_thread(calls.close)
        assert told.reason is not None


def keys(*given: int) -> Positions:
    return np.array(given, np.int64)


async def test_answers_come_as_they_are_there(paid: PaidServer) -> None:
    async def model(text: str) -> str:
        return await ask(paid.port, text)

    paid.stalled = {"slow"}
    async with calling(of := function(model, str, result=str, executor=fully_async_executor())) as (calls, told):
        calls.start(keys(7, 1_000_000), arguments(of, ["slow", "a"]))
        await told.until(lambda seen: seen.answers == {1_000_000: "<a>"})
        calls.start(keys(3), arguments(of, ["b"]))
        await told.until(lambda seen: len(seen.answers) == 2)
        paid.release()
        await told.until(lambda seen: seen.answers == {7: "<slow>", 1_000_000: "<a>", 3: "<b>"})
    assert isinstance(told.reason, CallsCancelled)


async def test_withdrawn_calls_are_cancelled_or_never_made(paid: PaidServer) -> None:
    cancelled: list[str] = []

    async def model(text: str) -> str:
        try:
            return await ask(paid.port, text)
        except asyncio.CancelledError:
            cancelled.append(text)
            raise

    paid.stalled = {"a", "b"}
    executor = fully_async_executor(capacity=2)
    async with calling(of := function(model, str, result=str, executor=executor)) as (calls, told):
        calls.start(keys(0, 1, 2, 3), arguments(of, ["a", "b", "c", "d"]))
        calls.start(keys(4, 5), arguments(of, ["e", "f"]))
        await paid.until(lambda seen: seen.at_once == 2)
        calls.withdraw(keys(1, 2, 5, 99))
        calls.withdraw(keys(1))
        await told.until(lambda seen: seen.answers.keys() == {3, 4})
        assert cancelled == ["b"]
        paid.release()
        await told.until(lambda seen: seen.answers == {0: "<a>", 3: "<d>", 4: "<e>"})
        calls.start(keys(6, 7), arguments(of, ["g", "c"]))
        await told.until(lambda seen: {6, 7} <= seen.answers.keys())
    assert paid.calls["b"] == paid.calls["c"] == 1
    assert paid.calls["f"] == 0


async def test_a_withdrawn_coroutine_may_swallow_it_and_a_pause_ends() -> None:
    begun: set[str] = set()

    async def model(text: str) -> str:
        begun.add(text)
        if text == "fails":
            raise ValueError
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait() if text == "swallows" else None
        return text

    strategy = FixedDelayRetryStrategy(max_retries=1, delay_ms=3_600_000)
    executor = fully_async_executor(capacity=2, retry_strategy=strategy, timeout=1000)
    async with calling(of := function(model, str, result=str, executor=executor)) as (calls, told):
        calls.start(keys(0, 1, 2, 3), arguments(of, ["swallows", "fails", "a", "b"]))
        while begun != {"swallows", "fails"}:
            await asyncio.sleep(0)
        calls.withdraw(keys(0, 1))
        await told.until(lambda seen: seen.answers == {2: "a", 3: "b"})


async def test_withdrawn_plain_functions_go_on_and_are_not_told(paid: PaidServer) -> None:
    paid.stalled = {"a"}
    of = function(
        lambda text: ask_blocking(paid.port, text), str, result=str, executor=fully_async_executor(capacity=1)
    )
    async with calling(of) as (calls, told):
        calls.start(keys(0, 1, 2), arguments(of, ["a", "b", "c"]))
        await paid.until(lambda seen: seen.at_once == 1)
        calls.withdraw(keys(0, 1))
        paid.release()
        await told.until(lambda seen: seen.answers == {2: "<c>"})
    assert paid.calls == {"a": 1, "c": 1}


async def test_rows_withdrawn_from_batches_that_wait() -> None:
    seen: list[list[str]] = []
    go = asyncio.Event()

    async def model(texts: list[str]) -> list[str]:
        seen.append(texts)
        await go.wait()
        return texts

    executor = fully_async_executor(capacity=1)
    async with calling(of := function(model, str, result=str, executor=executor, max_batch_size=2)) as (calls, told):
        calls.start(keys(*range(6)), arguments(of, list("abcdef")))
        while not seen:
            await asyncio.sleep(0)
        calls.withdraw(keys(0, 1, 3))
        await asyncio.sleep(0)
        go.set()
        await told.until(lambda seen: {2, 4, 5} <= seen.answers.keys())
    assert seen == [["a", "b"], ["c", "e"], ["f"]]


async def test_a_failure_ends_them_all() -> None:
    async def model(n: int) -> int:
        return 1 // n

    async with calling(of := function(model, int, result=int, executor=fully_async_executor()), ManualClock()) as (
        calls,
        told,
    ):
        calls.start(keys(5, 6, 7), arguments(of, [1, 0, 1]))
        await told.until(lambda seen: seen.reason is not None)
        assert isinstance(told.reason, FunctionFailed)
        assert "ZeroDivisionError" in str(told.reason)
        assert told.answers.items() <= {5: 1, 7: 1}.items()
        calls.start(keys(8), arguments(of, [1]))
        calls.withdraw(keys(8))
        calls.cancel()
    assert isinstance(told.reason, FunctionFailed)
    assert 8 not in told.answers
