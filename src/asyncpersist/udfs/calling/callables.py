"""What kind of callable a user's function is, and how it takes a row."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["is_coroutine_function", "is_generator_function", "parameter_names", "positional"]


def is_coroutine_function(call: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine; looks through `functools.partial` and at `__call__`."""
    return _is(inspect.iscoroutinefunction, call)


def is_generator_function(call: Callable[..., Any]) -> bool:
    """Whether calling it gives a generator, plain or asynchronous."""
    return _is(inspect.isgeneratorfunction, call) or _is(inspect.isasyncgenfunction, call)


def positional(call: Callable[..., Any], keywords: Sequence[str]) -> Callable[..., Any]:
    """The callable as one that takes all by position, the last ones being those of `keywords`."""
    if not keywords:
        return call
    names, count = tuple(keywords), len(keywords)

    def called(*values: Any) -> Any:
        return call(*values[:-count], **dict(zip(names, values[-count:], strict=True)))

    return called


def parameter_names(call: Callable[..., Any], count: int) -> list[str]:
    """The names of its first `count` positional parameters; "" where there is none to be found."""
    try:
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):
        parameters = {}.values()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [parameter.name for parameter in parameters if parameter.kind in kinds][:count]
    return names + [""] * (count - len(names))


def _is(kind: Callable[[Any], bool], call: Any) -> bool:
    while isinstance(call, functools.partial):
        call = call.func
    return kind(call) or (not inspect.isroutine(call) and kind(inspect.getattr_static(type(call), "__call__", None)))
