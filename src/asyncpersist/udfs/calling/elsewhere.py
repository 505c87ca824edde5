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
    call = function.call
    module, name = getattr(call, "__module__", None), getattr(call, "__qualname__", None)
    if isinstance(module, str) and isinstance(name, str):
        try:
            if _plain(_at(sys.modules[module], name)) is call and _is_importable(module):
                return Named(module, name)
        except LookupError:
            pass
    try:
        return Named("", function.name, pickle.dumps(call))
    except Exception as exc:
        raise GraphError(
            f"function {function.name} cannot run in other processes, which have to find it by its name. Define it "
            "with `def` at the top of a module that can be imported, not within another function and not as a lambda, "
            "or use another executor."
        ) from exc


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


def _is_importable(module: str) -> bool:
    """Whether another process finds the module; a program that was typed in, it does not."""
    main = sys.modules["__main__"]
    return module != "__main__" or bool(getattr(main, "__spec__", None) or getattr(main, "__file__", None))
