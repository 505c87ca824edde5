"""What one call in the loop is for, and what came of it: a row, or many at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import polars as pl

from asyncpersist.clock import Clock
from asyncpersist.columnar.python_values import Misfit
from asyncpersist.errors import FunctionFailed
from asyncpersist.udfs.calling.batches import Batches
from asyncpersist.udfs.calling.callables import is_coroutine_function
from asyncpersist.udfs.calling.failures import misfitting
from asyncpersist.udfs.calling.pace import SLICE
from asyncpersist.udfs.calling.rows import Rows
from asyncpersist.udfs.calling.runner import Positions
from asyncpersist.udfs.function import Function

__all__ = ["Answers", "BatchUnits", "RowUnits", "Unit", "Units"]

Unit = tuple[int, Any, Any]
"""The key, or the first one; what `Units.call` is given; what is covered: the key once more, or an array of keys."""


class Answers(NamedTuple):
    """What fits, as a column beside its keys, and the first failure of what does not."""

    keys: Positions
    column: pl.Series
    failure: FunctionFailed | None


class Units(Protocol):
    """Cuts rows into calls, and makes a column of what these return."""

    @property
    def call(self) -> Callable[..., Any]:
        """What is called with the arguments of a unit."""
        ...

    @property
    def at_once(self) -> int | None:
        """How many rows may be cut at a time; None: all there are."""
        ...

    def cut(self, keys: Positions, arguments: pl.DataFrame) -> Iterator[Unit]:
        """The calls for rows under these keys."""
        ...

    def answers(self, covered: list[Any], given: list[Any], returned: list[Any]) -> Answers:
        """What was returned for some units, as a column. For a thread beside the loop's."""
        ...


class RowUnits:
    """A call for each row."""

    def __init__(self, function: Function, clock: Clock) -> None:
        self._function = function
        self._rows = Rows(function, clock, seconds=SLICE / 4)
        self.call = self._rows.call

    @property
    def at_once(self) -> int | None:
        return self._rows.at_once

    def cut(self, keys: Positions, arguments: pl.DataFrame) -> Iterator[Unit]:
        plain = keys.tolist()
        return zip(plain, self._rows.given(arguments), plain, strict=True)

    def answers(self, covered: list[Any], given: list[Any], returned: list[Any]) -> Answers:
        keys = np.array(covered, np.int64)
        fitting = self._rows.fitting(returned)
        if fitting.why is None:
            return Answers(keys, fitting.column, None)
        failure = misfitting(self._function, given[fitting.unfit[0]], fitting.why)
        return Answers(np.delete(keys, fitting.unfit), fitting.column, failure)


class BatchUnits:
    """A call for many rows. `off_loop` makes a coroutine function that runs a plain one in a thread."""

    def __init__(
        self,
        function: Function,
        clock: Clock,
        off_loop: Callable[[Callable[..., Any]], Callable[..., Awaitable[Any]]],
    ) -> None:
        self._function = function
        self._batches = Batches(function, clock)
        self._given = off_loop(self._batches.given)
        self.call = self._called if is_coroutine_function(function.call) else self._batches.call

    @property
    def at_once(self) -> int | None:
        return self._batches.size

    def cut(self, keys: Positions, arguments: pl.DataFrame) -> Iterator[Unit]:
        yield int(keys[0]), (arguments,), keys

    def answers(self, covered: list[Any], given: list[Any], returned: list[Any]) -> Answers:
        keys, columns, failure = [], [], None
        for each, (arguments,), result in zip(covered, given, returned, strict=True):
            try:
                columns.append(self._batches.column(result, arguments.height))
                keys.append(each)
            except Misfit as exc:
                failure = failure or misfitting(self._function, arguments, exc)
        if not keys:
            return Answers(np.empty(0, np.int64), pl.Series("", [], self._function.result.polars), failure)
        return Answers(np.concatenate(keys), pl.concat(columns), failure)

    async def _called(self, arguments: pl.DataFrame) -> Any:
        batches = self._batches
        quickly = batches.is_quickly_given(arguments.height)
        given = batches.given(arguments) if quickly else await self._given(arguments)
        return batches.taken(await batches.called(given))
