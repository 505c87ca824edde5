"""By what a function is known from run to run: its name, and the plain values it carries; never its code."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["plain_attributes", "qualified_name"]


def qualified_name(func: Callable[..., Any]) -> str:
    """Module and name. The module that a program was started with is known by its file's name, as if imported."""
    while isinstance(func, functools.partial):
        func = func.func
    owner = getattr(func, "__self__", None)
    if owner is not None and getattr(func, "__name__", "") == "__wrapped__":
        named: Any = type(owner)
    else:
        named = func if hasattr(func, "__qualname__") else type(func)
    module = getattr(named, "__module__", None) or "builtins"
    if module == "__main__":
        main = sys.modules["__main__"]
        spec = getattr(main, "__spec__", None)
        path = getattr(main, "__file__", None)
        module = spec.name if spec is not None else Path(path).stem if path else module
    return f"{module}.{named.__qualname__}"


def plain_attributes(instance: object) -> dict[str, Any]:
    """The plain values among the attributes of an instance of a class of users, by name, in order."""
    items = vars(instance).items()
    return {name: value for name, value in sorted(items) if not name.startswith("_") and _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    return value is None or isinstance(value, bool | int | float | str)
