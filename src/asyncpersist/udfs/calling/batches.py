"""A function that is called for many rows at once: with series, arrays or lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from asyncpersist.clock import Clock, give_way
from asyncpersist.columnar.python_values import Misfit, column_of, fitted, values_of
from asyncpersist.dtypes import DType
from asyncpersist.udfs.calling.callables import parameter_names, positional
from asyncpersist.udfs.calling.pace import Pace
from asyncpersist.udfs.function import Function

__all__ = ["Batches"]

_NUMBERS = ("int", "float", "bool")
_PLAIN = ("int", "float", "bool", "str", "bytes", "naive_datetime", "utc_datetime", "duration")


class Batches:
    """Arguments and answers of a function of many rows. Each direction is for one thread at a time.

    | `columns` | a column comes as | what may be returned |
    |---|---|---|
    | "polars" | a series | a series, or whatever a series is made of |
    | "numpy" | an array | an array, or whatever one is made of |
    | None | a list | a list, tuple or array |

    Arrays hold numbers and bools as such, dates and spans in µs, and all else as objects, ints and bools as well if a
    None is among them; among floats it is NaN. A call gets at most `size` rows; None: all there are. What was returned
    is the function's own, which may fill it anew for its next call: it has to be `taken` before that.
    """

    def __init__(self, function: Function, clock: Clock) -> None:
        self.size = function.max_batch_size
        self._call = positional(function.call, function.keywords)
        self._function = function
        self._clock = clock
        self._names = [
            *parameter_names(function.call, len(function.takes) - len(function.keywords)),
            *function.keywords,
        ]
        self._back = Pace()

    def call(self, arguments: pl.DataFrame) -> Any:
        """Calls a plain function for these rows; what it returned, taken."""
        return self.taken(self._call(*self.given(arguments)))

    def called(self, given: list[Any]) -> Any:
        """As `call`, with what `given` gave, and not taken; a coroutine if it is a coroutine function."""
        return self._call(*given)

    def taken(self, returned: Any) -> Any:
        """What was returned, in memory that the function does not know of."""
        if isinstance(returned, pl.Series):
            # A series may lie in an array's memory, and does not tell.
            return pl.concat([returned, returned[:1]], rechunk=True)[: len(returned)]
        if isinstance(returned, np.ndarray):
            return returned.copy()
        if isinstance(returned, (list, tuple)):
            return list(returned)
        if self._function.columns == "polars" or not hasattr(returned, "__array__"):
            return returned
        return np.array(returned)

    def is_quickly_given(self, rows: int) -> bool:
        """Whether so many rows are converted in less than about half a millisecond."""
        return self._function.columns == "polars" or rows * max(len(self._names), 1) <= 2048

    def given(self, arguments: pl.DataFrame) -> list[Any]:
        """What a call for these rows is given."""
        match self._function.columns:
            case "polars":
                return [column.alias(name) for column, name in zip(arguments.get_columns(), self._names, strict=True)]
            case "numpy":
                convert: Callable[[pl.Series, DType], Any] = _array
            case _:
                convert = values_of
        columns = zip(arguments.get_columns(), self._function.takes, strict=True)
        return [convert(column, dtype) for column, dtype in columns]

    def column(self, returned: Any, height: int, *, giving_way: bool = True) -> pl.Series:
        """What was returned for so many rows, as a column of the function's type. Raises `Misfit`.

        A thread beside the loop's gives way in between.
        """
        dtype = self._function.result
        found = self._found(returned, dtype)
        if len(found) != height:
            raise Misfit(0, f"expected {height} values, got {len(found)}")
        if isinstance(found, pl.Series) and dtype.kind in _PLAIN:
            return fitted(found, dtype).alias("")
        parts: list[pl.Series] = []
        start = 0
        while start < height or not parts:
            stop = min(start + self._back.rows, height)
            began = self._clock.monotonic()
            piece = found[start:stop]
            parts.append(fitted(piece, dtype) if isinstance(piece, pl.Series) else column_of("", dtype, piece))
            self._back.took(stop - start, self._clock.monotonic() - began)
            start = stop
            if giving_way and start < height:
                give_way()
        return (parts[0] if len(parts) == 1 else pl.concat(parts)).alias("")

    def _found(self, returned: Any, dtype: DType) -> pl.Series | list[Any]:
        """What was returned, as a series of any type or as a list."""
        if isinstance(returned, pl.Series):
            return returned
        if isinstance(returned, list):
            return returned
        if self._function.columns == "polars" and not isinstance(returned, np.ndarray):
            try:
                series = pl.Series(returned)
            except (TypeError, ValueError, pl.exceptions.PolarsError) as exc:
                raise Misfit(0, f"expected a series, got {type(returned).__name__}") from exc
            taken: pl.Series = self.taken(series)
            return taken
        array = np.asarray(returned)
        if array.ndim == 0:
            raise Misfit(0, f"expected {self._expected()}, got {type(returned).__name__}")
        if array.ndim > 1 or array.dtype.kind == "O" or dtype.kind not in _PLAIN:
            return list(array)
        series = pl.Series(array)
        if dtype.kind == "utc_datetime" and isinstance(series.dtype, pl.Datetime):
            return series.dt.replace_time_zone("UTC")
        return series

    def _expected(self) -> str:
        return "an array" if self._function.columns == "numpy" else "a list"


def _array(column: pl.Series, dtype: DType) -> np.ndarray[Any, Any]:
    """A column as an array that may be written to."""
    if dtype.kind in ("int", "bool") and column.null_count():
        return np.array(column.to_list(), dtype=object)
    if dtype.kind in (*_NUMBERS, "naive_datetime", "utc_datetime", "duration"):
        return column.to_numpy(writable=True)
    array = np.empty(len(column), dtype=object)
    array[:] = values_of(column, dtype)
    return array
