"""A function that is called for each row: from columns to values, and back."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import polars as pl

from asyncpersist.clock import Clock, give_way
from asyncpersist.columnar.python_values import Misfit, column_of, values_of
from asyncpersist.udfs.calling.callables import positional
from asyncpersist.udfs.calling.pace import SLICE, Pace
from asyncpersist.udfs.function import Function

__all__ = ["Fitting", "Rows"]


class Fitting(NamedTuple):
    """Values that fit, as a column; the indexes of those that do not; what is wrong with the first of these."""

    column: pl.Series
    unfit: list[int]
    why: Misfit | None


class Rows:
    """Arguments and answers of a function of rows. Each direction is for one thread at a time.

    `seconds`: for how long `values` may hold the interpreter.
    """

    def __init__(self, function: Function, clock: Clock, *, seconds: float = SLICE) -> None:
        self.call = positional(function.call, function.keywords)
        self._function = function
        self._clock = clock
        self._there = Pace(seconds)
        self._back = Pace()

    @property
    def at_once(self) -> int:
        """How many rows may be asked of `values` at a time: it holds the interpreter."""
        return self._there.rows

    def values(self, arguments: pl.DataFrame) -> list[list[Any]]:
        """For each parameter its values."""
        began = self._clock.monotonic()
        columns = zip(arguments.get_columns(), self._function.takes, strict=True)
        found = [values_of(column, dtype) for column, dtype in columns]
        self._there.took(arguments.height, self._clock.monotonic() - began)
        return found

    def given(self, arguments: pl.DataFrame) -> Iterator[tuple[Any, ...]]:
        """What the calls are given, row by row."""
        lists = self.values(arguments)
        return zip(*lists, strict=True) if lists else itertools.repeat((), arguments.height)

    def fitting(self, values: Sequence[Any], *, giving_way: bool = True) -> Fitting:
        """What was returned, as a column of the function's type.

        A thread beside the loop's gives way in between.
        """
        dtype, parts, unfit, why, start = self._function.result, [], [], None, 0
        while start < len(values):
            stop = min(start + self._back.rows, len(values))
            began = self._clock.monotonic()
            try:
                parts.append(column_of("", dtype, values[start:stop]))
            except Misfit as exc:
                at = start + exc.index
                parts.append(column_of("", dtype, values[start:at]))
                unfit.append(at)
                explained = _explained(exc, values[at])
                why = why or explained
                stop = at + 1
            self._back.took(stop - start, self._clock.monotonic() - began)
            start = stop
            if giving_way and start < len(values):
                give_way()
        if not parts:
            return Fitting(pl.Series("", [], dtype.polars), unfit, why)
        return Fitting(parts[0] if len(parts) == 1 else pl.concat(parts), unfit, why)


def _explained(misfit: Misfit, value: Any) -> Misfit:
    if not inspect.iscoroutine(value):
        return misfit
    value.close()
    return Misfit(misfit.index, f"{misfit}. A function that gives coroutines must be defined with `async def`")
