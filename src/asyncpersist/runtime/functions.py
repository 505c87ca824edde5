"""The functions of one run: who calls them, where their results are kept, and how calls end."""

from __future__ import annotations

import asyncio

import polars as pl

from asyncpersist.clock import Clock
from asyncpersist.operators.calls import Answers
from asyncpersist.runtime.dataflow import Dataflow
from asyncpersist.udfs.calling.choosing import runner_for
from asyncpersist.udfs.calling.runner import Runner
from asyncpersist.udfs.function import Function

__all__ = ["Functions"]


class Functions:
    """Made in the loop of the run; `dataflow` gets its callers from it."""

    def __init__(self, dataflow: Dataflow, *, clock: Clock) -> None:
        self._loop = asyncio.get_running_loop()
        self._clock = clock
        self._runners: list[Runner] = []
        for operator in dataflow.applying():
            operator.bind([self._caller(call.function) for call in operator.calls])

    def _caller(self, function: Function) -> _Caller:
        runner = runner_for(function, loop=self._loop, clock=self._clock)
        self._runners.append(runner)
        return _Caller(function, runner)

    def cancel(self) -> None:
        """Ends all calls; the step that waits for them fails."""
        for runner in self._runners:
            runner.cancel()


class _Caller:
    def __init__(self, function: Function, runner: Runner) -> None:
        self._function = function
        self._runner = runner

    def begin(self, arguments: pl.DataFrame) -> Answers:
        out: list[pl.Series] = []
        wait = self._runner.begin(arguments, lambda p, v: out.append(v))

        def answers() -> pl.Series:
            wait()
            return out[0]

        return answers
