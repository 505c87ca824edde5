"""What is said of a call that failed."""

from __future__ import annotations

import reprlib
import traceback
from typing import Any

import polars as pl

from asyncpersist.errors import FunctionFailed
from asyncpersist.udfs.function import Function

__all__ = ["Given", "TookTooLong", "crashed", "failed", "misfitting"]

Given = tuple[Any, ...] | pl.DataFrame
"""What a call was for: the values of one row, or the rows themselves."""

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80
_short.maxlong = 40


class TookTooLong(TimeoutError):
    """An attempt was cut off."""


def failed(function: Function, given: Given, cause: BaseException, attempts: int = 1) -> FunctionFailed:
    """The last of so many attempts raised `cause`."""
    raised = type(cause).__name__
    text = _text(cause)
    said = f"{raised}: {text}" if text else raised
    if isinstance(cause, TookTooLong):
        said = text
    elif cause.__traceback__ is not None and (frames := traceback.extract_tb(cause.__traceback__)):
        where = next((frame for frame in reversed(frames) if frame.name == _name(function)), frames[-1])
        said += f" (line {where.lineno} of {where.filename})"
    after = "" if attempts == 1 else f" (in the last of {attempts} attempts)"
    error = FunctionFailed(f"function {function.name} failed for {_shown(function, given)}: {said}{after}")
    error.__cause__ = cause
    return error


def misfitting(function: Function, given: Given, why: object) -> FunctionFailed:
    """What was returned does not fit the function's type; `why` says what was expected, and what it is."""
    return FunctionFailed(
        f"function {function.name} returned something else than its type for {_shown(function, given)}: {why}"
    )


def crashed(function: Function, given: Given, cause: BaseException) -> FunctionFailed:
    """A process has ended in the middle of these calls, or before them."""
    error = FunctionFailed(
        f"a process that runs function {function.name} has ended when it was to be called for "
        f"{_shown(function, given)}: it was killed, ran out of memory, crashed, or could not start. A program that "
        'starts a run must do so under `if __name__ == "__main__":`, since each process imports it.'
    )
    error.__cause__ = cause
    return error


def _text(cause: BaseException) -> str:
    try:
        return str(cause)
    except Exception as exc:  # one of the user's own
        return f"(its __str__ raises {type(exc).__name__})"


def _name(function: Function) -> str:
    return function.name.rpartition(".")[2] if not hasattr(function.call, "__name__") else str(function.call.__name__)


def _shown(function: Function, given: Given) -> str:
    if isinstance(given, pl.DataFrame):
        first = _row(function, given.row(0) if given.width else ())
        return first if given.height == 1 else f"{given.height} rows, the first of which is {first}"
    return _row(function, given)


def _row(function: Function, values: tuple[Any, ...]) -> str:
    plain = len(values) - len(function.keywords)
    shown = [_short.repr(value) for value in values[:plain]]
    shown += [f"{name}={_short.repr(value)}" for name, value in zip(function.keywords, values[plain:], strict=True)]
    return f"({', '.join(shown)})"
