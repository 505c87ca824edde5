"""What another process does: calls a function for some rows."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from dataclasses import dataclass

import numpy as np
import polars as pl

from asyncpersist.clock import SystemClock
from asyncpersist.errors import FunctionFailed
from asyncpersist.udfs.calling.elsewhere import named
from asyncpersist.udfs.calling.runner import Positions
from asyncpersist.udfs.calling.sync_runner import SyncRunner
from asyncpersist.udfs.executors import SyncExecutor
from asyncpersist.udfs.function import Function

__all__ = ["Done", "Failed", "answer", "begin", "packed"]


@dataclass(frozen=True, slots=True)
class Failed:
    """A failure on its way between processes: its message, its cause as far as that can be pickled, and where."""

    message: str
    cause: bytes | None
    trace: str

    def error(self) -> FunctionFailed:
        """The failure, as it would have been raised here."""
        error = FunctionFailed(self.message)
        if self.cause is not None:
            with contextlib.suppress(Exception):  # it can be made in that process only
                error.__cause__ = pickle.loads(self.cause)
        (error.__cause__ or error).add_note(f"In another process:\n{self.trace}")
        return error


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a chunk of rows: those that were answered, and how many seconds it took."""

    positions: Positions
    answers: pl.Series
    failed: Failed | None
    seconds: float


def packed(function: Function) -> bytes:
    """The function on its way into another process. Raises `GraphError` if it is not to be found there."""
    find = named(function).find
    return pickle.dumps(dataclasses.replace(function, call=find, executor=SyncExecutor(), cache=None, settings=None))


def begin() -> None:
    """Called in a new process: it ends with the one that started it, and leaves Ctrl-C to that one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="asyncpersist-parent", daemon=True).start()


def answer(function: bytes, arguments: pl.DataFrame) -> Done:
    """Calls the function for these rows."""
    clock = SystemClock()
    positions: list[Positions] = []
    columns: list[pl.Series] = []
    failed = None

    def answered(rows: Positions, values: pl.Series) -> None:
        positions.append(rows)
        columns.append(values)

    runner = _runner(function)
    began = clock.monotonic()
    try:
        runner.begin(arguments, answered)()
    except FunctionFailed as exc:
        failed = _failed(exc)
    seconds = clock.monotonic() - began
    dtype = runner.function.result.polars
    return Done(
        np.concatenate([np.empty(0, np.int64), *positions]),
        pl.concat([pl.Series("", [], dtype), *columns]),
        failed,
        seconds,
    )


@functools.lru_cache(maxsize=16)
def _runner(function: bytes) -> SyncRunner:
    sent: Function = pickle.loads(function)
    return SyncRunner(dataclasses.replace(sent, call=sent.call()), SystemClock(), alone=True)


def _failed(error: FunctionFailed) -> Failed:
    cause = error.__cause__
    return Failed(str(error), None if cause is None else _pickled(cause), "".join(traceback.format_exception(error)))


def _pickled(cause: BaseException) -> bytes | None:
    try:
        found = pickle.dumps(cause)
        pickle.loads(found)
    except Exception:
        return None
    return found


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
