"""The contract of whoever runs a function for many rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from asyncpersist.errors import FunctionFailed

__all__ = ["Answered", "CallsCancelled", "Failing", "Positions", "Runner", "Wait"]

Positions = npt.NDArray[np.int64]

Answered = Callable[[Positions, pl.Series], None]
"""Told what some of the rows were answered with, in the function's own type: each row once, in any order, soon after
the answer came, many at a time where many come. Called by one thread at a time, which need not be the one that waits.
Must be quick."""

Wait = Callable[[], None]
"""Returns when every row was answered. Raises `FunctionFailed` for the first call that failed for good; calls that had
begun by then have ended or were cancelled, and those that were answered have been told. Raises `CallsCancelled`."""

Failing = Callable[[FunctionFailed], None]
"""Told of a call that failed for good as soon as it has, while others are still under way and nothing is raised yet.
Called in any thread, the loop's too; must be quick."""


class CallsCancelled(Exception):
    """The run ends before its calls have been answered."""


class Runner(Protocol):
    """Runs one function, for one run."""

    def begin(self, arguments: pl.DataFrame, answered: Answered) -> Wait:
        """Begins the calls for rows of arguments, the columns in the order of `Function.takes`.

        A frame without columns has a height all the same. Called in a thread that is not the loop's. What cannot go on
        by itself goes on in the call of what is returned. After a call has failed for good every wait raises that.
        """
        ...

    def wind_down(self, failure: FunctionFailed) -> None:
        """Ends as if one of its own calls had failed so: no other one begins, and those under way have some seconds.

        For the failure of another function; whoever waits gets it. From any thread; idempotent.
        """
        ...

    def cancel(self) -> None:
        """Ends all calls as soon as that can be: whoever waits gets `CallsCancelled`. From any thread; idempotent."""
        ...

    def close(self) -> None:
        """Cancels, and waits, for some seconds at most, until no thread or process of it runs any more.

        Not to be called in the loop's thread, which has to go on meanwhile. Idempotent.
        """
        ...
