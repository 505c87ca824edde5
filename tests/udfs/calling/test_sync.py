"""Functions that are called one after the other, in a thread."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from typing import Any

import polars as pl
import pytest

from asyncpersist.errors import FunctionFailed
from asyncpersist.udfs.calling.runner import CallsCancelled
from tests.udfs.calling.pieces import Answers, arguments, function, outcome, running, waited
from tests.udfs.server import PaidServer, answer_to, ask_blocking

TEXTS = ["", "a", "ß", "日本語", "👩‍👩‍👧", "a\u0000b", "line\nline", "x" * 3000]


def test_values_of_every_kind_go_there_and_back() -> None:
    def same(value: Any) -> Any:
        return value

    kinds: list[tuple[Any, list[Any]]] = [
        (str, TEXTS),
        (str | None, [*TEXTS, None]),
        (int, [0, -1, 2**63 - 1, -(2**63)]),
        (int | None, [None, 1]),
        (float | None, [0.5, None, -0.0, float("inf")]),
        (bool | None, [True, False, None]),
        (bytes, [b"", b"\x00\xff"]),
        (list[int], [[], [1, 2]]),
        (list[str | None], [["a", None], []]),
        (tuple[int, str], [(1, "a"), (2, "")]),
        (dict, [{"a": [1, None]}, [], "text", None]),
    ]
    for kind, values in kinds:
        answers, failure = asyncio.run(outcome(function(same, kind, result=kind), values))
        assert failure is None
        assert answers.values == values


async def test_arguments_by_position_and_by_keyword_and_none_at_all() -> None:
    def shown(a: int, *rest: str, b: str = "?", c: int = 0) -> str:
        return f"{a} {rest} {b} {c}"

    of = function(shown, int, str, int, str, result=str, keywords=("c", "b"))
    answers, failure = await outcome(of, [1, 2], ["x", "y"], [3, 4], ["p", "q"])
    assert failure is None
    assert answers.values == ["1 ('x',) p 3", "2 ('y',) q 4"]

    counted = iter(range(100))
    answers = Answers(of := function(lambda: next(counted), result=int))
    async with running(of) as runner:
        await waited(runner, pl.DataFrame(height=5), answers)
    assert answers.values == [0, 1, 2, 3, 4]


async def test_quick_calls_are_told_many_at_a_time_and_slow_ones_soon() -> None:
    answers, failure = await outcome(function(lambda n: n + 1, int, result=int), range(20_000))
    assert failure is None
    assert answers.values == list(range(1, 20_001))
    assert answers.groups < 400

    def slow(n: int) -> int:
        told.append(len(answers.by_position))
        time.sleep(0.05)
        return n

    told: list[int] = []
    answers = Answers(of := function(slow, int, result=int))
    async with running(of) as runner:
        await waited(runner, arguments(of, range(3)), answers)
    assert told == [0, 1, 2]


async def test_nothing_to_call_for() -> None:
    answers, failure = await outcome(function(lambda n: n, int, result=int), [])
    assert failure is None
    assert not answers.by_position


async def test_a_failure_names_function_and_arguments_and_keeps_what_was_answered(paid: PaidServer) -> None:
    paid.failures["d"] = 1

    def model(text: str, top: int) -> str:
        return ask_blocking(paid.port, text)

    of = function(model, str, int, result=str, keywords=("top",))
    answers, failure = await outcome(of, ["a", "b", "", "d", "e"], [1, 2, 3, 4, 5])
    assert isinstance(failure, FunctionFailed)
    assert "model" in str(failure)
    assert "('d', top=4)" in str(failure)
    assert "Refused: HTTP 500" in str(failure)
    assert type(failure.__cause__).__name__ == "Refused"
    assert answers.values == [answer_to(text) for text in ("a", "b", "")]
    assert paid.calls == {"a": 1, "b": 1, "": 1, "d": 1}


async def test_what_is_returned_has_to_fit() -> None:
    def wrong(n: int) -> Any:
        return {3: "three", 5: None}.get(n, n)

    answers, failure = await outcome(function(wrong, int, result=int), range(8))
    assert isinstance(failure, FunctionFailed)
    assert "expected int, got 'three'" in str(failure)
    assert "(3)" in str(failure)
    assert {n: n for n in range(3)}.items() <= answers.by_position.items()
    assert not answers.by_position.keys() & {3, 5}

    async def answer(n: int) -> int:
        return n

    def forgetful(n: int) -> Any:
        return answer(n)

    _, failure = await outcome(function(forgetful, int, result=int), [1, 2])
    assert "async def" in str(failure)


class Unsayable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    "raised", [Unsayable(), StopIteration("end"), SystemExit(3), asyncio.CancelledError(), ValueError("x" * 500)]
)
async def test_whatever_is_raised_is_a_failure(raised: BaseException) -> None:
    def failing(text: str) -> int:
        if text == "no" * 500:
            raise raised
        return len(text)

    answers, failure = await outcome(function(failing, str, result=int), ["", "a", "no" * 500, "b"])
    assert isinstance(failure, FunctionFailed)
    assert type(raised).__name__ in str(failure)
    assert len(str(failure)) < 900
    assert answers.values == [0, 1]


async def test_cancelling_takes_effect_after_the_call_under_way(paid: PaidServer) -> None:
    paid.stalled = {"2"}
    of = function(lambda n: ask_blocking(paid.port, str(n)), int, result=str)
    answers = Answers(of)
    async with running(of) as runner:
        waiting = asyncio.create_task(waited(runner, arguments(of, range(5)), answers))
        await paid.until(lambda seen: seen.calls["2"] == 1)
        runner.cancel()
        runner.cancel()
        paid.release()
        with pytest.raises(CallsCancelled):
            await waiting
    assert answers.values == ["<0>", "<1>", "<2>"]
    assert paid.calls["3"] == 0


async def test_a_call_that_hangs_is_left_behind() -> None:
    begun, released = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def hanging(n: int) -> int:
        if n == 1:
            threads.append(threading.current_thread())
            begun.set()
            assert released.wait(30)
        return n

    of = function(hanging, int, result=int)
    answers = Answers(of)
    async with running(of) as runner:
        waiting = asyncio.create_task(waited(runner, arguments(of, range(5)), answers))
        await asyncio.to_thread(begun.wait, 30)
        runner.cancel()
        with pytest.raises(CallsCancelled):
            await waiting
        with pytest.raises(CallsCancelled):
            await waited(runner, arguments(of, [7]), answers)
    (thread,) = threads
    assert thread.is_alive()
    assert thread.daemon
    released.set()
    await asyncio.to_thread(thread.join, 30)
    assert not thread.is_alive()
    assert not answers.by_position


async def test_the_context_is_that_in_which_the_runner_was_made() -> None:
    who = contextvars.ContextVar("who", default="nobody")
    who.set("maker")
    of = function(lambda n: (who.get(), who.set(f"call {n}"))[0], int, result=str)
    async with running(of) as runner:
        who.set("other")
        answers = Answers(of)
        await waited(runner, arguments(of, [1]), answers)
        await waited(runner, arguments(of, [2]), Answers(of))
    assert answers.values == ["maker"]
    assert who.get() == "other"


async def test_the_loop_goes_on_beside_functions_that_hold_the_interpreter() -> None:
    """It turns many times where the switch interval of 5 ms would let it turn some hundred times."""
    of = function(lambda n: sum(range(1000)), int, result=int)
    turns = 0
    async with running(of) as runner:
        waiting = asyncio.create_task(waited(runner, arguments(of, range(15_000)), lambda rows, values: None))
        while not waiting.done():
            await asyncio.sleep(0.0002)
            turns += 1
        await waiting
    assert turns > 200
