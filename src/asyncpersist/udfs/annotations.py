"""What the annotations of a function say: what it returns, and whether it takes whole columns."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any

import polars as pl

from asyncpersist.dtypes import DType
from asyncpersist.errors import GraphError
from asyncpersist.udfs.function import Columns

__all__ = ["columns_of", "result_of"]


def columns_of(func: Callable[..., Any]) -> Columns | None:
    """How a function takes whole columns, if it does so by what its parameters are annotated with."""
    hints = {name: hint for name, hint in _hints(func).items() if name != "return"}
    return "polars" if hints and all(hint is pl.Series for hint in hints.values()) else None


def result_of(func: Callable[..., Any], label: str, said: Any, *, lists: bool, columns: Columns | None) -> DType:
    """What a function returns, by its `return_type` if one was `said`, else by its annotation.

    `lists`: the annotation is that of a list of values. Raises `GraphError` if neither says it.
    """
    if said is not None:
        return DType.of(said, where=f"the return_type of {label}")
    hint = None if columns else _hints(func).get("return")
    if hint is not None and lists:
        args = typing.get_args(hint)
        hint = args[0] if typing.get_origin(hint) is list and len(args) == 1 else None
    if hint is None or isinstance(hint, str):
        example = "list[float]" if lists else "float"
        raise GraphError(
            f"{label}: nothing says what it returns. Annotate it, `-> {example}`, or give a return_type="
            + (", the type of one value." if columns or lists else ".")
        )
    return DType.of(hint, where=f"the annotation of what {label} returns")


def _hints(func: Callable[..., Any]) -> dict[str, Any]:
    while isinstance(func, functools.partial):
        func = func.func
    target = func if inspect.isroutine(func) or inspect.isclass(func) else type(func).__call__
    try:
        return typing.get_type_hints(target)
    except (NameError, TypeError, AttributeError):
        return dict(getattr(target, "__annotations__", {}))
