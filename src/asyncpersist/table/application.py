"""Functions of users within expressions: what stands for a call."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Protocol

from asyncpersist.dtypes import DType
from asyncpersist.table.expression import ColumnExpression, parts

__all__ = ["Applicable", "Application", "Bound", "meaning_of"]


class Bound(Protocol):
    """A function over arguments of known types."""

    @property
    def name(self) -> str:
        """Its qualified name."""
        ...

    @property
    def result(self) -> DType:
        """What it returns."""
        ...

    @property
    def deterministic(self) -> bool:
        """Whether it always returns the same for the same."""
        ...

    def canonical(self) -> Any:
        """What it computes, as plain JSON values."""
        ...


class Applicable(Protocol):
    """A function as a user names it."""

    @property
    def label(self) -> str:
        """How it is shown."""
        ...

    @property
    def repeatable(self) -> bool:
        """Whether two calls with equal arguments may be made as one."""
        ...

    @property
    def token(self) -> Any:
        """Equal within a program if what is called is the same."""
        ...

    @property
    def pending(self) -> bool:
        """Whether rows do not wait for its answers."""
        ...

    def canonical(self) -> Any:
        """What it computes, as plain JSON values."""
        ...

    def bind(self, takes: tuple[DType, ...], keywords: tuple[str, ...]) -> Bound:
        """The function over columns of these types, the last of which go to `keywords`. Raises `GraphError`."""
        ...


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Application(ColumnExpression):
    """What `function` returns for `args`, the last of which go to `keywords`."""

    function: Applicable
    args: tuple[ColumnExpression, ...]
    keywords: tuple[str, ...] = ()

    @property
    def children(self) -> tuple[ColumnExpression, ...]:
        return self.args

    @property
    def meaning(self) -> str:
        """Equal if one call will do for both.

        The same object in a program is one call; what is only written alike is one if that makes no difference.
        """
        calls = [part for part in parts(self) if isinstance(part, Application)]
        tokens = [str(call.function.token if call.function.repeatable else id(call)) for call in calls]
        return json.dumps([self.canonical(), tokens])

    def canonical(self) -> Any:
        return ["apply", self.function.canonical(), [arg.canonical() for arg in self.args], list(self.keywords)]

    def __repr__(self) -> str:
        first = len(self.args) - len(self.keywords)
        named = (f"{name}={arg!r}" for name, arg in zip(self.keywords, self.args[first:], strict=True))
        return f"{self.function.label}({', '.join([*map(repr, self.args[:first]), *named])})"


def meaning_of(expression: ColumnExpression) -> str:
    """Equal for expressions that may be computed once for both."""
    calls = [part.meaning for part in parts(expression) if isinstance(part, Application)]
    return json.dumps([expression.canonical(), calls])
