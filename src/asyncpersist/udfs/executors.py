"""Where and how a function is run: what a user says, as values. `calling` does it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from asyncpersist.udfs.retries import AsyncRetryStrategy, NoRetryStrategy

__all__ = [
    "AsyncExecutor",
    "AutoExecutor",
    "Executor",
    "FullyAsyncExecutor",
    "ProcessExecutor",
    "SyncExecutor",
    "async_executor",
    "auto_executor",
    "fully_async_executor",
    "process_executor",
    "sync_executor",
]


class Executor:
    """Where a function is run; made by the functions of this module."""


@dataclass(frozen=True, slots=True)
class AutoExecutor(Executor):
    """A coroutine function as by `async_executor()`, another one as by `sync_executor()`."""


@dataclass(frozen=True, slots=True)
class SyncExecutor(Executor):
    """One call after the other, in a thread that is not the loop's."""


@dataclass(frozen=True, slots=True)
class AsyncExecutor(Executor):
    """Calls of one epoch side by side; the epoch ends when all have been answered.

    `capacity`: how many at once; None: as many as there are, up to 1000, or 64 in threads. `timeout`: seconds one
    attempt may take.
    """

    capacity: int | None = None
    timeout: float | None = None
    retry_strategy: AsyncRetryStrategy = field(default_factory=NoRetryStrategy)

    def __post_init__(self) -> None:
        capacity, timeout = self.capacity, self.timeout
        if capacity is not None and (not isinstance(capacity, int) or isinstance(capacity, bool) or capacity < 1):
            raise ValueError(f"capacity must be a whole number of at least 1, or None, not {capacity!r}")
        number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
        if timeout is not None and not (number and math.isfinite(timeout) and timeout > 0):
            raise ValueError(f"timeout must be a number of seconds above 0, or None, not {timeout!r}")
        if not isinstance(self.retry_strategy, AsyncRetryStrategy):
            raise TypeError(f"retry_strategy must be an AsyncRetryStrategy, not {self.retry_strategy!r}")


@dataclass(frozen=True, slots=True)
class FullyAsyncExecutor(AsyncExecutor):
    """Calls that no epoch waits for: a row comes out as pending, and is updated when its answer is there.

    `autocommit_duration_ms`: for how many milliseconds answers are gathered into one epoch.
    """

    autocommit_duration_ms: int | None = 100

    def __post_init__(self) -> None:
        AsyncExecutor.__post_init__(self)
        pause = self.autocommit_duration_ms
        if pause is not None and (not isinstance(pause, int) or isinstance(pause, bool) or pause < 0):
            raise ValueError(f"autocommit_duration_ms must be a whole number of at least 0, or None, not {pause!r}")


@dataclass(frozen=True, slots=True)
class ProcessExecutor(Executor):
    """In `processes` processes of their own, for functions that hold the interpreter."""

    processes: int

    def __post_init__(self) -> None:
        if not isinstance(self.processes, int) or isinstance(self.processes, bool) or self.processes < 1:
            raise ValueError(f"process_executor takes a number of processes of at least 1, not {self.processes!r}")


def auto_executor() -> Executor:
    """`async_executor()` for a coroutine function, `sync_executor()` for another one. The default."""
    return AutoExecutor()


def sync_executor() -> Executor:
    """One call after the other, in a thread: the loop goes on meanwhile. Not for coroutine functions."""
    return SyncExecutor()


def async_executor(
    *,
    capacity: int | None = None,
    timeout: float | None = None,
    retry_strategy: AsyncRetryStrategy | None = None,
) -> Executor:
    """Calls of one epoch side by side: coroutines in the application's loop, plain functions in threads.

    `capacity`: how many at once; None (default): as many as there are, up to 1000 coroutines, or 64 threads.
    `timeout`: seconds that one attempt may take, beyond which it has failed and a coroutine is cancelled; None
    (default): any time. `retry_strategy`: what follows a failure; None (default): the run fails. The order of rows does
    not depend on that of answers.

    Raises `ValueError` or `TypeError` for what cannot be meant.
    """
    return AsyncExecutor(capacity, timeout, NoRetryStrategy() if retry_strategy is None else retry_strategy)


def fully_async_executor(
    *,
    capacity: int | None = None,
    timeout: float | None = None,
    retry_strategy: AsyncRetryStrategy | None = None,
    autocommit_duration_ms: int | None = 100,
) -> Executor:
    """As `async_executor`, and no epoch waits: rows come out as pending, and are updated as answers come.

    The column's type is a future, which other expressions do not take; `Table.await_futures()` gives the rows that are
    answered, with plain values. `autocommit_duration_ms`: for how long answers are gathered before they are given out
    together, in milliseconds; None: not at all.
    """
    strategy = NoRetryStrategy() if retry_strategy is None else retry_strategy
    return FullyAsyncExecutor(capacity, timeout, strategy, autocommit_duration_ms)


def process_executor(processes: int) -> Executor:
    """In so many processes of their own: for functions that hold the interpreter, which the loop shares.

    The function must be found by its module and name in another process: defined at the top of a module, which is
    imported there. So is the program itself, which therefore must start its run under `if __name__ == "__main__":`.
    """
    return ProcessExecutor(processes)
