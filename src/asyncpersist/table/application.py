"""Functions of users within expressions: what stands for a call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from asyncpersist.dtypes import DType
from asyncpersist.table.expression import ColumnExpression

__all__ = ["Applicable", "Application", "Bound"]


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

    def canonical(self) -> Any:
        return ["apply", self.function.canonical(), [arg.canonical() for arg in self.args], list(self.keywords)]

    def __repr__(self) -> str:
        first = len(self.args) - len(self.keywords)
        named = (f"{name}={arg!r}" for name, arg in zip(self.keywords, self.args[first:], strict=True))
        return f"{self.function.label}({', '.join([*map(repr, self.args[:first]), *named])})"
