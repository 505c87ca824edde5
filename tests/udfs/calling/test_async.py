"""Functions whose calls go on side by side: coroutines in the loop, plain functions in threads."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from asyncpersist.errors import FunctionFailed
from asyncpersist.testing.clocks import ManualClock
from asyncpersist.udfs.calling.failures import TookTooLong
from asyncpersist.udfs.calling.in_threads import InThreads
from asyncpersist.udfs.calling.runner import CallsCancelled
from asyncpersist.udfs.calling.threads import Threads
from asyncpersist.udfs.executors import async_executor
from asyncpersist.udfs.retries import (
    AsyncRetryStrategy,
    ExponentialBackoffRetryStrategy,
    FixedDelayRetryStrategy,
)
from tests.udfs.calling.pieces import Answers, arguments, function, outcome, running, waited
from tests.udfs.server import PaidServer, Refused, answer_to, ask, ask_blocking

TEXTS = ["", "a", "ß", "日本語", "👩‍👩‍👧", "a/b?c=d&e%20", "x" * 3000]


def asking(paid: PaidServer, refused: threading.Event | None = None) -> Callable[[str], Any]:
    """A coroutine function that asks the service; `refused` is set when it was refused."""

    async def model(text: str) -> str:
        with noting(refused):
            return await ask(paid.port, text)

    return model


def asking_in_a_thread(paid: PaidServer, refused: threading.Event | None = None) -> Callable[[str], Any]:
    """The same as a plain function."""

    def model(text: str) -> str:
        with noting(refused):
            return ask_blocking(paid.port, text)

    return model


@contextlib.contextmanager
def noting(refused: threading.Event | None) -> Iterator[None]:
    try:
        yield
    except Refused:
        if refused is not None:
            refused.set()
        raise


both = pytest.mark.parametrize("made", [asking, asking_in_a_thread])


@both
async def test_the_order_of_answers_decides_nothing(paid: PaidServer, made: Callable[..., Any]) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    rng = random.Random(seed)
    paid.latency = lambda argument: rng.choice([0, 0, 0.002, 0.02])
    texts = [*TEXTS, *map(str, range(60))]
    answers, failure = await outcome(function(made(paid), str, result=str, executor=async_executor(capacity=8)), texts)
    assert failure is None
    assert answers.values == [answer_to(text) for text in texts]
    assert set(paid.calls.values()) == {1}
    assert 2 <= paid.most_at_once <= 8


@both
async def test_as_many_at_once_as_the_capacity_says(paid: PaidServer, made: Callable[..., Any]) -> None:
    paid.stalled = {str(n) for n in range(20)}
    of = function(made(paid), str, result=str, executor=async_executor(capacity=5))
    waiting = asyncio.create_task(outcome(of, list(map(str, range(20)))))
    await paid.until(lambda seen: seen.at_once == 5)
    paid.release()
    answers, failure = await waiting
    assert failure is None
    assert len(answers.values) == 20
    assert paid.most_at_once == 5


async def test_a_coroutine_function_needs_no_executor_and_none_are_values() -> None:
    async def maybe(text: str | None) -> int | None:
        return None if not text else len(text)

    answers, failure = await outcome(function(maybe, str | None, result=int | None), ["", None, "ß", "日本"])
    assert failure is None
    assert answers.values == [None, None, 1, 2]


async def test_several_frames_may_be_under_way(paid: PaidServer) -> None:
    of = function(asking(paid), str, result=str)
    paid.stalled = {"a1"}
    async with running(of) as runner:
        first, second, third = Answers(of), Answers(of), Answers(of)
        wait = await asyncio.to_thread(runner.begin, arguments(of, ["a0", "a1"]), first)
        await waited(runner, arguments(of, ["b0", "b1", "b2"]), second)
        await waited(runner, arguments(of, []), third)
        paid.release()
        await asyncio.to_thread(wait)
    assert first.values == ["<a0>", "<a1>"]
    assert second.values == ["<b0>", "<b1>", "<b2>"]


@both
async def test_calls_that_take_too_long_are_cut_off(paid: PaidServer, made: Callable[..., Any]) -> None:
    class UntilTheServiceSawOneLeave(AsyncRetryStrategy):
        """An attempt may be over before the service has seen it."""

        def delays(self, chance: Callable[[], float]) -> Iterator[float]:
            while made is asking and not paid.left["b"]:
                yield 0

    paid.stalled = {"b"}
    executor = async_executor(timeout=0.05, retry_strategy=UntilTheServiceSawOneLeave())
    of = function(made(paid), str, result=str, executor=executor)
    _, failure = await outcome(of, ["b"], clock=ManualClock())
    assert paid.left["b"] >= (made is asking)
    paid.release()
    assert isinstance(failure, FunctionFailed)
    assert "no answer within 0.05 s" in str(failure)
    assert "('b')" in str(failure)


async def test_threads_that_hang_are_replaced_and_what_waits_takes_no_time() -> None:
    released = threading.Event()
    called: list[int] = []

    def hanging(n: int) -> int:
        called.append(n)
        if len(called) <= 2:
            released.wait(30)
        return n

    strategy = FixedDelayRetryStrategy(3, 0)
    of = function(hanging, int, result=int, executor=async_executor(capacity=1, timeout=0.2, retry_strategy=strategy))
    answers, failure = await outcome(of, range(4), clock=ManualClock())
    released.set()
    assert failure is None
    assert answers.values == [0, 1, 2, 3]
    assert called == [0, 0, 0, 1, 2, 3]


async def test_the_time_of_a_call_begins_with_it() -> None:
    threads = Threads("test", 1)
    free, loop = threading.Event(), asyncio.get_running_loop()
    plus = InThreads(threads, loop, contextvars.copy_context(), timeout=0.05).awaitable(lambda n: n + 1)
    threads.do(lambda: free.wait(30) and None)
    loop.call_later(0.12, free.set)
    assert await plus(1) == 2
    threads.close()


async def test_no_more_threads_than_so_many_are_replaced() -> None:
    threads = Threads("test", 1, spares=1)
    in_threads = InThreads(threads, asyncio.get_running_loop(), contextvars.copy_context(), timeout=0.03)
    released, ended = threading.Event(), threading.Semaphore(0)

    def hanging() -> None:
        released.wait(30)
        ended.release()

    for _ in range(2):
        with pytest.raises(TookTooLong, match="no answer"):
            await in_threads.awaitable(hanging)()
    with pytest.raises(TookTooLong, match="no thread was free"):
        await in_threads.awaitable(hanging)()
    released.set()
    for _ in range(2):
        assert await asyncio.to_thread(ended.acquire, timeout=30)
    patient = InThreads(threads, asyncio.get_running_loop(), contextvars.copy_context())
    assert await patient.awaitable(lambda: "again")() == "again"
    threads.close()


async def test_what_a_coroutine_raises_by_itself_is_its_failure() -> None:
    async def failing(kind: str) -> str:
        await asyncio.sleep(0)
        match kind:
            case "timeout":
                raise TimeoutError("of its own")
            case "inner timeout":
                async with asyncio.timeout(0.001):
                    await asyncio.Event().wait()
            case "cancelled":
                raise asyncio.CancelledError("of its own")
            case "exit":
                raise SystemExit(3)
            case "stop":
                raise StopIteration
        return kind

    for kind, said in {
        "timeout": "TimeoutError: of its own",
        "inner timeout": "TimeoutError",
        "cancelled": "CancelledError: of its own",
        "exit": "SystemExit: 3",
        "stop": "RuntimeError: coroutine raised StopIteration",
    }.items():
        of = function(failing, str, result=str, executor=async_executor(timeout=20))
        answers, failure = await outcome(of, ["fine", kind], clock=ManualClock())
        assert isinstance(failure, FunctionFailed)
        assert said in str(failure)
        assert "no answer within" not in str(failure)
        assert answers.values == ["fine"]


@both
async def test_failed_calls_are_made_again(paid: PaidServer, made: Callable[..., Any]) -> None:
    paid.failures.update({"b": 2, "c": 3})
    strategy = ExponentialBackoffRetryStrategy(max_retries=3, initial_delay=1000, backoff_factor=3, jitter_ms=500)
    of = function(made(paid), str, result=str, executor=async_executor(capacity=1, retry_strategy=strategy))
    clock = ManualClock()
    answers, failure = await outcome(of, ["a", "b", "c"], clock=clock)
    assert failure is None
    assert answers.values == ["<a>", "<b>", "<c>"]
    assert paid.calls == {"a": 1, "b": 3, "c": 4}
    pauses = (1 + 3) + (1 + 3 + 9)
    assert pauses < clock.monotonic() <= pauses + 5 * 0.5


async def test_it_fails_for_good_when_the_attempts_are_used_up(paid: PaidServer) -> None:
    paid.failures["b"] = 5
    executor = async_executor(retry_strategy=FixedDelayRetryStrategy(max_retries=2, delay_ms=10))
    _, failure = await outcome(function(asking(paid), str, result=str, executor=executor), ["b"], clock=ManualClock())
    assert isinstance(failure, FunctionFailed)
    assert "3 attempts" in str(failure)
    assert "HTTP 500" in str(failure)
    assert isinstance(failure.__cause__, Refused)
    assert paid.calls["b"] == 3


async def test_a_limited_service_is_asked_again_after_the_time_it_says(paid: PaidServer) -> None:
    """As a user would do it: the coroutine waits, the strategy of his own gives the number of attempts."""
    paid.limit, paid.retry_after = 2, 0.002
    paid.latency = lambda argument: 0.002

    class Often(AsyncRetryStrategy):
        def delays(self, chance: Callable[[], float]) -> Iterator[float]:
            return iter([0.0] * 1000)

    async def patient(text: str) -> str:
        try:
            return await ask(paid.port, text)
        except Refused as exc:
            await asyncio.sleep(exc.retry_after or 0)
            raise

    of = function(patient, str, result=str, executor=async_executor(capacity=6, retry_strategy=Often()))
    answers, failure = await outcome(of, list(map(str, range(12))))
    assert failure is None
    assert answers.values == [f"<{n}>" for n in range(12)]
    assert set(paid.paid.values()) == {1}


async def test_a_strategy_that_raises_is_a_failure() -> None:
    class Broken(AsyncRetryStrategy):
        def delays(self, chance: Callable[[], float]) -> Iterator[float]:
            yield 0
            raise LookupError("no plan")

    async def failing(n: int) -> int:
        raise ValueError

    _, failure = await outcome(
        function(failing, int, result=int, executor=async_executor(retry_strategy=Broken())), [1], clock=ManualClock()
    )
    assert "LookupError: no plan" in str(failure)


@both
async def test_a_failure_keeps_what_is_being_paid_for(paid: PaidServer, made: Callable[..., Any]) -> None:
    texts = list(map(str, range(30)))
    paid.stalled = set(texts) - {"3"}
    paid.failures["3"] = 1
    paid.latency = lambda argument: 0.03  # all have begun before it fails
    refused = threading.Event()
    of = function(made(paid, refused), str, result=str, executor=async_executor(capacity=10))
    waiting = asyncio.create_task(outcome(of, texts))
    assert await asyncio.to_thread(refused.wait, 20)
    paid.release()
    answers, failure = await waiting
    assert isinstance(failure, FunctionFailed)
    assert "('3')" in str(failure)
    assert answers.by_position == {n: f"<{n}>" for n in range(10) if n != 3}
    assert sum(paid.calls.values()) == 10


async def test_what_takes_longer_after_a_failure_is_cancelled(paid: PaidServer) -> None:
    paid.stalled = {"a", "b"}
    paid.failures["c"] = 1
    of = function(asking(paid), str, result=str)
    answers, failure = await outcome(of, ["a", "b", "c"], clock=ManualClock())
    assert "HTTP 500" in str(failure)
    assert not answers.by_position
    await paid.until(lambda seen: seen.left["a"] == seen.left["b"] == 1)


async def test_a_failure_ends_pauses_between_attempts() -> None:
    seen: list[str] = []

    async def failing(text: str) -> str:
        seen.append(text)
        if text == "last":
            await asyncio.sleep(0.02)
        raise ValueError(text)

    class Slow(AsyncRetryStrategy):
        def delays(self, chance: Callable[[], float]) -> Iterator[float]:
            return iter([3600.0] if "last" not in seen[-1] else [])

    of = function(failing, str, result=str, executor=async_executor(retry_strategy=Slow()))
    _, failure = await outcome(of, ["first", "last"])
    assert isinstance(failure, FunctionFailed)


async def test_what_does_not_fit_stops_the_calls_and_keeps_the_rest() -> None:
    async def wrong(n: int) -> Any:
        await asyncio.sleep(0)
        return "five" if n == 5 else n

    answers, failure = await outcome(function(wrong, int, result=int), range(20))
    assert isinstance(failure, FunctionFailed)
    assert "expected int, got 'five'" in str(failure)
    assert answers.by_position == {n: n for n in range(20) if n != 5}


async def test_cancelling_reaches_the_coroutines(paid: PaidServer) -> None:
    paid.stalled = {"b", "c"}
    cancelled: list[str] = []

    async def model(text: str) -> str:
        try:
            return await ask(paid.port, text)
        except asyncio.CancelledError:
            cancelled.append(text)
            raise

    of = function(model, str, result=str, executor=async_executor(capacity=3))
    answers = Answers(of)
    async with running(of) as runner:
        waiting = asyncio.create_task(waited(runner, arguments(of, ["a", "b", "c", "b2", "b3"]), answers))
        paid.stalled |= {"b2"}
        await paid.until(lambda seen: seen.at_once == 3 and seen.paid["a"] == 1)
        runner.cancel()
        with pytest.raises(CallsCancelled):
            await waiting
        assert sorted(cancelled) == ["b", "b2", "c"]
        with pytest.raises(CallsCancelled):
            await waited(runner, arguments(of, ["late"]), Answers(of))
    assert answers.values == ["<a>"]
    assert paid.calls["b3"] == paid.calls["late"] == 0
    await paid.until(lambda seen: seen.left["b"] == seen.left["c"] == seen.left["b2"] == 1)


async def test_a_coroutine_that_answers_although_it_was_cancelled_is_told() -> None:
    begun = asyncio.Event()

    async def stubborn(n: int) -> int:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return n
        return -1

    answers = Answers(of := function(stubborn, int, result=int))
    async with running(of) as runner:
        waiting = asyncio.create_task(waited(runner, arguments(of, [7]), answers))
        await begun.wait()
        runner.cancel()
        await waiting
    assert answers.values == [7]


async def test_a_coroutine_that_will_not_end_is_left_behind() -> None:
    begun, enough = asyncio.Event(), asyncio.Event()

    async def endless(n: int) -> int:
        begun.set()
        while not enough.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await enough.wait()
        return n

    of = function(endless, int, result=int)
    answers = Answers(of)
    async with running(of, ManualClock()) as runner:
        waiting = asyncio.create_task(waited(runner, arguments(of, [7]), answers))
        await begun.wait()
        runner.cancel()
        with pytest.raises(CallsCancelled):
            await waiting
    enough.set()
    await asyncio.sleep(0)
    assert not answers.by_position


async def test_plain_functions_under_way_are_waited_for_when_cancelled(paid: PaidServer) -> None:
    paid.stalled = {"a"}
    answers = Answers(of := function(asking_in_a_thread(paid), str, result=str, executor=async_executor(capacity=1)))
    async with running(of) as runner:
        waiting = asyncio.create_task(waited(runner, arguments(of, ["a", "b"]), answers))
        await paid.until(lambda seen: seen.at_once == 1)
        runner.cancel()
        paid.release()
        with pytest.raises(CallsCancelled):
            await waiting
    assert answers.values == ["<a>"]
    assert paid.calls["b"] == 0


def test_a_loop_that_ends_ends_the_calls(paid: PaidServer) -> None:
    """As `asyncio.run` does it when it is interrupted: it cancels all tasks."""
    paid.stalled = {"a", "b"}
    raised: list[BaseException] = []

    async def main() -> threading.Thread:
        of = function(asking(paid), str, result=str)
        runner_here = running(of)
        runner = await runner_here.__aenter__()

        def wait() -> None:
            try:
                runner.begin(arguments(of, ["a", "b"]), Answers(of))()
            except BaseException as exc:
                raised.append(exc)

        thread = threading.Thread(target=wait)
        thread.start()
        await paid.until(lambda seen: seen.at_once == 2)
        return thread

    asyncio.run(main()).join(20)
    assert [type(exc) for exc in raised] == [CallsCancelled]


async def test_the_context_is_that_in_which_the_runner_was_made() -> None:
    who = contextvars.ContextVar("who", default="nobody")
    who.set("maker")

    async def coroutine(n: int) -> str:
        return who.get()

    for call in (coroutine, lambda n: who.get()):
        of = function(call, int, result=str, executor=async_executor())
        async with running(of) as runner:
            token = who.set("other")
            answers = Answers(of)
            await waited(runner, arguments(of, [1, 2]), answers)
            who.reset(token)
        assert answers.values == ["maker", "maker"]


async def test_the_loop_turns_while_trivial_coroutines_run() -> None:
    """Some hundred times in a hundred thousand calls, which no turn makes alone."""

    async def plus(n: int) -> int:
        return n + 1

    of = function(plus, int, result=int)
    answers, turns = Answers(of), 0
    async with running(of) as runner:
        waiting = asyncio.create_task(waited(runner, arguments(of, range(100_000)), answers))
        while not waiting.done():
            await asyncio.sleep(0)
            turns += 1
        await waiting
    assert answers.values == list(range(1, 100_001))
    assert turns > 100
    assert answers.groups < turns


async def test_ten_thousand_failures_that_are_tried_again_at_once() -> None:
    failed: set[int] = set()

    async def second_time(n: int) -> int:
        if n not in failed:
            failed.add(n)
            raise ValueError
        return n

    strategy = FixedDelayRetryStrategy(max_retries=1, delay_ms=0)
    of = function(second_time, int, result=int, executor=async_executor(retry_strategy=strategy))
    answers, failure = await outcome(of, range(10_000))
    assert failure is None
    assert answers.values == list(range(10_000))
