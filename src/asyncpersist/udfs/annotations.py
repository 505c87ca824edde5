"""What the annotations of a function say: what it returns, and whether it takes whole columns."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any

import polars as pl

from asyncpersist.dtypes import DType
from asyncpersist.errors import GraphError, SchemaError
from asyncpersist.udfs.function import Columns

__all__ = ["check_arguments", "columns_of", "result_of"]

_PLAIN = frozenset({"int", "float", "bool", "str", "bytes", "naive_datetime", "utc_datetime", "duration"})
_FITS = frozenset({("int", "float"), ("bool", "int"), ("bool", "float"), ("utc_datetime", "naive_datetime")})
"""Column, parameter: what a value of the one is for Python as well."""


def columns_of(func: Callable[..., Any]) -> Columns | None:
    """How a function takes whole columns, if it does so by what its parameters are annotated with."""
    hints = [hint for name, hint in _hints(func).items() if name != "return"]
    whole = [hint is pl.Series for hint in hints]
    if any(whole) and not all(whole):
        raise GraphError(
            "some parameters are annotated pl.Series and some are not: a function takes whole columns, constants among "
            "them, or the values of one row."
        )
    return "polars" if any(whole) else None


def check_arguments(
    func: Callable[..., Any], label: str, takes: tuple[DType, ...], keywords: tuple[str, ...], *, rows: bool
) -> None:
    """Raises `GraphError` where a column of one plain type goes to a parameter that is annotated as another one."""
    hints = _hints(func) if rows else {}
    try:
        parameters = list(inspect.signature(func).parameters.values())
    except ValueError:
        return
    positional = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    first = len(takes) - len(keywords)
    given = [
        *zip((each.name for each in positional), takes[:first], strict=False),
        *zip(keywords, takes[first:], strict=True),
    ]
    for name, dtype in given:
        try:
            wanted = DType.of(hints[name])
        except (KeyError, SchemaError):
            continue
        fits = dtype.kind == wanted.kind or (dtype.kind, wanted.kind) in _FITS
        if not fits and {dtype.kind, wanted.kind} <= _PLAIN:
            raise GraphError(f"{label}: the parameter {name} is annotated as {wanted}, and is given {dtype}.")


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
