"""Functions in processes of their own."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import psutil
import pytest

from asyncpersist.errors import FunctionFailed
from asyncpersist.udfs.calling.runner import CallsCancelled
from asyncpersist.udfs.executors import process_executor
from tests.udfs.calling import elsewhere
from tests.udfs.calling.pieces import Answers, arguments, function, running, waited

TEXTS = ["", "a", "ß", "日本語", "👩‍👩‍👧", None]


async def test_rows_come_back_in_order_and_failures_whatever_they_are() -> None:
    of = function(elsewhere.everything, str | None, int, result=str, keywords=("times",), executor=process_executor(1))
    async with running(of) as runner:
        answers = Answers(of)
        await waited(runner, arguments(of, TEXTS * 50, [1, 2] * 150), answers)
        assert [value.rstrip("0123456789") for value in answers.values] == [
            "none" if text is None else text + "!" * (1 + n % 2) for n, text in enumerate(TEXTS * 50)
        ]
        children = {int(value.rpartition("!")[2]) for value in answers.values if value != "none"}
        assert len(children) == 1
        assert os.getpid() not in children

        for text, said in {
            "value": "ValueError: boom",
            "two": "TwoArguments: not picklable",
            "local": "Local: nor this one",
            "wrong": "expected str, got 5",
        }.items():
            answers = Answers(of)
            with pytest.raises(FunctionFailed) as failure:
                await waited(runner, arguments(of, ["a", "b", text], [1, 1, 3]), answers)
            assert said in str(failure.value)
            assert f"('{text}', times=3)" in str(failure.value)
            assert answers.by_position.keys() == {0, 1}
            if text == "value":
                assert isinstance(failure.value.__cause__, ValueError)
                assert "in everything" in failure.value.__cause__.__notes__[0]

        with pytest.raises(FunctionFailed, match="has ended when it was to be called for") as failure:
            await waited(runner, arguments(of, ["die"], [1]), Answers(of))
        assert '__name__ == "__main__"' in str(failure.value)

        runner.wind_down(other := FunctionFailed("of another one"))
        with pytest.raises(FunctionFailed) as failure:
            await waited(runner, arguments(of, ["a"], [1]), Answers(of))
        assert failure.value is other
    assert not any(psutil.pid_exists(child) for child in children)


async def test_cancelling_ends_a_process_that_is_stuck(tmp_path: Path) -> None:
    place = tmp_path / "pid"
    of = function(elsewhere.stuck.func, str, result=str, executor=process_executor(1))
    answers = Answers(of)
    async with running(of) as runner:
        waiting = asyncio.create_task(waited(runner, arguments(of, ["", str(place), "c", "d"]), answers))
        while not place.exists() or not place.read_text():
            await asyncio.sleep(0.01)
        runner.cancel()
        with pytest.raises(CallsCancelled):
            await waiting
        with pytest.raises(CallsCancelled):
            await waited(runner, arguments(of, ["e"]), Answers(of))
    assert answers.values == [""]
    assert not psutil.pid_exists(int(place.read_text()))
