"""Runners for tests, and the functions that they run."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl

from asyncpersist.columnar.python_values import column_of, values_of
from asyncpersist.dtypes import DType
from asyncpersist.errors import FunctionFailed
from asyncpersist.udfs.caches import CacheStrategy
from asyncpersist.udfs.calling.runner import Answered, Wait
from asyncpersist.udfs.executors import sync_executor
from asyncpersist.udfs.function import Function

__all__ = ["HandRunner", "Held", "RowRunner", "frame_of", "function_of"]


def function_of(
    call: Callable[..., Any],
    takes: Sequence[Any] = (int,),
    result: Any = int,
    *,
    name: str = "f",
    deterministic: bool = True,
    propagate_none: bool = False,
    cache: CacheStrategy | None = None,
) -> Function:
    return Function(
        call=call,
        name=name,
        takes=tuple(map(DType.of, takes)),
        result=DType.of(result),
        deterministic=deterministic,
        propagate_none=propagate_none,
        executor=sync_executor(),
        cache=cache,
    )


def frame_of(function: Function, *columns: Sequence[Any]) -> pl.DataFrame:
    """Rows of arguments, given by columns."""
    pairs = zip(function.takes, columns, strict=True)
    return pl.DataFrame([column_of(f"a{i}", dtype, values) for i, (dtype, values) in enumerate(pairs)])


class RowRunner:
    """Runs a function row by row while it is waited for; answers in groups, in the order of a shuffle if it has a seed.

    `called`: the arguments of all calls. What the function raises is a failure, with which it ends.
    """

    def __init__(self, function: Function, *, group: int = 3, seed: int | None = None) -> None:
        self.called: list[tuple[Any, ...]] = []
        self._function = function
        self._group = group
        self._random = None if seed is None else random.Random(seed)

    def begin(self, arguments: pl.DataFrame, answered: Answered) -> Wait:
        columns = [
            values_of(column, dtype)
            for column, dtype in zip(arguments.get_columns(), self._function.takes, strict=True)
        ]
        rows = list(zip(*columns, strict=True))
        order = list(range(len(rows)))
        if self._random is not None:
            self._random.shuffle(order)

        def tell(results: list[tuple[int, Any]]) -> None:
            if results:
                values = column_of("result", self._function.result, [value for _, value in results])
                answered(np.array([position for position, _ in results]), values)

        def wait() -> None:
            results: list[tuple[int, Any]] = []
            for position in order:
                self.called.append(rows[position])
                try:
                    results.append((position, self._function.call(*rows[position])))
                except Exception as exc:
                    tell(results)
                    raise FunctionFailed(f"{self._function.name}{rows[position]}") from exc
                if len(results) == self._group:
                    tell(results)
                    results = []
            tell(results)

        return wait

    def cancel(self) -> None:
        raise NotImplementedError


class Held:
    """Calls that a test answers by hand."""

    def __init__(self, arguments: pl.DataFrame, answered: Answered) -> None:
        self.arguments = arguments
        self.waited = threading.Event()
        self._answered = answered
        self._over = threading.Event()
        self._failure: BaseException | None = None

    def answer(self, positions: Sequence[int], values: Sequence[Any]) -> None:
        self._answered(np.array(positions), pl.Series(values))

    def end(self, failure: BaseException | None = None) -> None:
        self._failure = failure
        self._over.set()

    def wait(self) -> None:
        self.waited.set()
        assert self._over.wait(30)
        if self._failure is not None:
            raise self._failure


class HandRunner:
    """Leaves all to the test; `held`: what was begun."""

    def __init__(self) -> None:
        self.held: list[Held] = []

    def begin(self, arguments: pl.DataFrame, answered: Answered) -> Wait:
        self.held.append(Held(arguments, answered))
        return self.held[-1].wait

    def cancel(self) -> None:
        raise NotImplementedError
