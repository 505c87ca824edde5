"""How a function is found in another process."""

from __future__ import annotations

import importlib
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from asyncpersist.errors import GraphError
from asyncpersist.udfs.function import Function

__all__ = ["Named", "named"]


@dataclass(frozen=True, slots=True)
class Named:
    """A function by its module and its name there, or, without a module, as what `pickle` makes of it."""

    module: str
    name: str
    pickled: bytes = b""

    def find(self) -> Callable[..., Any]:
        """The function. Raises what importing its module raises, `LookupError` if it is not there."""
        found: Callable[..., Any]
        if self.module:
            found = _plain(_at(importlib.import_module(self.module), self.name))
        else:
            found = pickle.loads(self.pickled)
        return found


def named(function: Function) -> Named:
    """How the function is found. Raises `GraphError` if it cannot be."""
    try:
        return _found(function.call) or Named("", function.name, pickle.dumps(function.call))
    except Exception as exc:
        raise GraphError(
            f"function {function.name} cannot run in other processes, which have to find it by its name. Define it "
            "with `def` at the top of a module that can be imported, not within another function and not as a lambda, "
            "or use another executor."
        ) from exc


def _found(call: Callable[..., Any]) -> Named | None:
    """The function by its name; None: it has none. Raises `LookupError` if its module cannot be imported."""
    module, name = getattr(call, "__module__", None), getattr(call, "__qualname__", None)
    if module == "__main__" and not _is_file(sys.modules[module]):
        raise LookupError("a program that was typed in cannot be imported")
    if not isinstance(module, str) or not isinstance(name, str):
        return None
    try:
        found = _at(sys.modules[module], name)
    except LookupError:
        return None
    return Named(module, name) if _plain(found) is call else None


def _at(module: Any, name: str) -> Any:
    found = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise LookupError(f"there is no {name} in {module.__name__}") from None
    return found


def _plain(found: Any) -> Any:
    """The function itself, where its name stands for what a decorator made of it."""
    return getattr(found, "func", found)


def _is_file(main: Any) -> bool:
    return bool(getattr(main, "__spec__", None) or getattr(main, "__file__", None))
