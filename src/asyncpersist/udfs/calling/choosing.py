"""Which runner a function gets."""

from __future__ import annotations

import asyncio

import numpy as np
import polars as pl

from asyncpersist.clock import Clock
from asyncpersist.columnar.python_values import column_of, values_of
from asyncpersist.udfs.calling.runner import Answered, Runner, Wait
from asyncpersist.udfs.function import Function

__all__ = ["check_executor", "runner_for"]


class _Rows:
    def __init__(self, function: Function) -> None:
        self._f = function

    def begin(self, arguments: pl.DataFrame, answered: Answered) -> Wait:
        f = self._f

        def wait() -> None:
            columns = [values_of(arguments[n], t) for n, t in zip(arguments.columns, f.takes, strict=False)]
            rows = zip(*columns, strict=True) if f.takes else [()] * arguments.height
            values = [f.call(*row) for row in rows]
            answered(np.arange(len(values)), column_of("", f.result, values))

        return wait

    def cancel(self) -> None:
        pass


def check_executor(function: Function) -> None:
    pass


def runner_for(function: Function, *, loop: asyncio.AbstractEventLoop, clock: Clock) -> Runner:
    return _Rows(function)
