"""What an operator knows of functions: which columns they take, and how they are called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import polars as pl

from asyncpersist.dtypes import DType

__all__ = ["Answers", "Call", "Caller", "LaterCaller"]

Answers = Callable[[], pl.Series]
"""Waits for all of it: one value for every row of arguments, in their order. Raises what a call raised."""


@dataclass(frozen=True, slots=True)
class Call:
    """A function over rows: the column `output` of type `dtype` is what it returns for the columns `arguments`.

    `function` is what the runtime knows how to call. `where` names a bool column: only rows where it is True are called
    for, the others have None; None: all rows. `remembered`: what was returned for a row is kept while the row is there,
    and given out again when the row is taken back.
    """

    output: str
    dtype: DType
    arguments: tuple[str, ...]
    function: Any
    where: str | None = None
    remembered: bool = True

    def taken(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Its arguments, named by their places: one may be given twice. Without any, a frame of so many rows."""
        columns = [rows[name].alias(str(place)) for place, name in enumerate(self.arguments)]
        return pl.DataFrame(columns) if columns else pl.DataFrame(height=rows.height)


class Caller(Protocol):
    """Calls one function for many rows. Used by one thread at a time."""

    def begin(self, arguments: pl.DataFrame) -> Answers:
        """Begins the calls for rows of arguments, of which there is at least one."""
        ...


class LaterCaller(Protocol):
    """Calls one function for many rows, none of which waits for its answer. Used by one thread at a time."""

    def begin(self, keys: pl.DataFrame, arguments: pl.DataFrame) -> None:
        """Begins the calls for rows of arguments, of which there is at least one, under distinct keys.

        No call under such a key may be under way. What is known without a call is among the answers at once. A frame
        without columns has a height all the same.
        """
        ...

    def move(self, keys: pl.DataFrame, others: pl.DataFrame) -> None:
        """Calls under these keys are from now on under these others, which have equal arguments."""
        ...

    def withdraw(self, keys: pl.DataFrame) -> None:
        """Does without the answers under these keys: they never come, and calls that nobody else needs end."""
        ...

    def take(self) -> tuple[pl.DataFrame, pl.Series] | None:
        """Keys of calls that have been answered, and the answers; each once. Raises what a call raised."""
        ...
