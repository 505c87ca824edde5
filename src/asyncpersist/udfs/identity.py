"""By what a function is known from run to run: its name, and the plain values it carries; never its code."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["are_same", "qualified_name", "settings_of", "token_of"]


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


def settings_of(func: Callable[..., Any]) -> dict[str, Any]:
    """The plain values that a callable carries: what a partial has bound, attributes of an instance of a class of UDFs.

    Not those of attributes that begin with an underscore; nor of other instances, which may be what they count.
    """
    settings: dict[str, Any] = {}
    while isinstance(func, functools.partial):
        bound = [*((str(place), value) for place, value in enumerate(func.args)), *func.keywords.items()]
        settings.update((f"bound {name}", value) for name, value in bound if _is_plain(value))
        func = func.func
    if getattr(func, "__name__", "") == "__wrapped__":
        for name, value in getattr(_instance(func), "__dict__", {}).items():
            if not name.startswith("_") and _is_plain(value):
                settings[name] = value
    return dict(sorted(settings.items()))


def token_of(func: Callable[..., Any]) -> Any:
    """Equal within a program for the same function, and for the same method of the same instance."""
    owner = getattr(func, "__self__", None)
    return id(func) if owner is None else (id(owner), id(getattr(func, "__func__", func)))


def are_same(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Whether two callables that are known by the same do the same, as far as can be told."""
    if one is other:
        return True
    if isinstance(one, functools.partial) and isinstance(other, functools.partial):
        return are_same(one.func, other.func) and _equal(one.args, other.args) and _equal(one.keywords, other.keywords)
    first, second = _instance(one), _instance(other)
    if first is not None and second is not None:
        carried = [
            {name: value for name, value in getattr(owner, "__dict__", {}).items() if name not in _OWN}
            for owner in (first, second)
        ]
        return type(first) is type(second) and (first is second or _equal(*carried))
    if hasattr(one, "__code__") and hasattr(other, "__code__"):
        return one.__code__ is other.__code__ and _equal(_captured(one), _captured(other))
    return _equal(one, other)


_OWN = ("func", "_options")
"""Attributes that an instance has from its base class."""


def _instance(func: Callable[..., Any]) -> object | None:
    """The instance that is called, or whose method is; None for a function."""
    owner = getattr(func, "__self__", None)
    if owner is not None:
        return None if isinstance(owner, type | ModuleType) else owner
    return None if hasattr(func, "__code__") or isinstance(func, type) or not hasattr(func, "__dict__") else func


def _captured(func: Any) -> list[Any]:
    cells = [cell.cell_contents for cell in func.__closure__ or ()]
    return [cells, func.__defaults__, func.__kwdefaults__]


def _equal(one: object, other: object) -> bool:
    try:
        return bool(one == other)
    except Exception:  # whatever objects of users raise
        return False


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    return value is None or isinstance(value, bool | int | float | str)
