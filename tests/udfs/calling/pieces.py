"""Functions, and what came of running them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import polars as pl

from asyncpersist.clock import Clock, SystemClock
from asyncpersist.columnar.python_values import column_of, values_of
from asyncpersist.dtypes import DType
from asyncpersist.udfs.calling.choosing import runner_for
from asyncpersist.udfs.calling.runner import Answered, Positions, Runner
from asyncpersist.udfs.executors import auto_executor
from asyncpersist.udfs.function import Function

__all__ = ["Answers", "arguments", "function", "outcome", "running", "waited"]


def function(call: Callable[..., Any], *takes: Any, result: Any, **settings: Any) -> Function:
    """A function from annotations to an annotation."""
    settings.setdefault("executor", auto_executor())
    return Function(
        call=call,
        name=getattr(call, "__qualname__", "f"),
        takes=tuple(DType.of(each) for each in takes),
        result=DType.of(result),
        **settings,
    )


def arguments(of: Function, *columns: Sequence[Any]) -> pl.DataFrame:
    """Columns of values as the function takes them."""
    return pl.DataFrame(
        [column_of(f"c{i}", dtype, values) for i, (dtype, values) in enumerate(zip(of.takes, columns, strict=True))]
    )


class Answers:
    """What was told, as Python values by position."""

    def __init__(self, of: Function) -> None:
        self.by_position: dict[int, Any] = {}
        self.groups = 0
        self._of = of

    def __call__(self, positions: Positions, values: pl.Series) -> None:
        assert values.dtype == self._of.result.polars
        assert len(positions) == len(values) > 0
        self.groups += 1
        for position, value in zip(positions.tolist(), values_of(values, self._of.result), strict=True):
            assert position not in self.by_position, "told twice"
            self.by_position[position] = value

    @property
    def values(self) -> list[Any]:
        """In the order of rows, all of which were answered."""
        assert sorted(self.by_position) == list(range(len(self.by_position)))
        return [self.by_position[position] for position in range(len(self.by_position))]


@contextlib.asynccontextmanager
async def running(of: Function, clock: Clock | None = None) -> AsyncIterator[Runner]:
    """A runner for this loop, closed with the block."""
    runner = runner_for(of, loop=asyncio.get_running_loop(), clock=clock or SystemClock())
    try:
        yield runner
    finally:
        await asyncio.to_thread(runner.close)


async def waited(runner: Runner, rows: pl.DataFrame, answered: Answered) -> None:
    """Begins and waits in a thread, as operators do."""

    def wait() -> None:
        runner.begin(rows, answered)()

    await asyncio.to_thread(wait)


async def outcome(
    of: Function, *columns: Sequence[Any], clock: Clock | None = None
) -> tuple[Answers, Exception | None]:
    """What a runner told for these arguments, and what it raised in the end."""
    answers, rows = Answers(of), arguments(of, *columns)
    async with running(of, clock) as runner:
        try:
            await waited(runner, rows, answers)
        except Exception as exc:
            return answers, exc
    return answers, None
