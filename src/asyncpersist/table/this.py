"""`this`: the table an expression is used on; `left` and `right`: those of a join."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from asyncpersist.errors import GraphError, Unsupported
from asyncpersist.table.expression import ColumnReference, IdReference

__all__ = ["AllColumns", "This", "left", "right", "this"]


@dataclass(frozen=True, slots=True)
class AllColumns:
    """All columns of the table but some, in order: what ``*this`` unpacks to."""

    without: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class This:
    """``this.a`` or ``this["a"]`` is the column, ``this.id`` the row's id.

    ``*this`` is all columns, ``*this.without("a")`` all but one.
    A column named ``id`` cannot be; one named ``without`` is ``this["without"]``.
    """

    _without: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str | ColumnReference) -> Any:
        if isinstance(name, ColumnReference):
            name = name.name
        if not isinstance(name, str):
            raise GraphError(f"this[{name!r}]: a column is named by a str.")
        if name == "id":
            return IdReference()
        return ColumnReference(name)

    @property
    def id(self) -> IdReference:
        """The row's id."""
        return IdReference()

    def without(self, *columns: str | ColumnReference) -> This:
        """The same with fewer columns in ``*this``."""
        names = (column.name if isinstance(column, ColumnReference) else column for column in columns)
        return This((*self._without, *names))

    def __iter__(self) -> Iterator[AllColumns]:
        yield AllColumns(self._without)

    def __repr__(self) -> str:
        return "this"


@dataclass(frozen=True, slots=True)
class _Side:
    """A side of a join, which is not built yet."""

    _name: str

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        raise Unsupported(f"{self._name}.{name}: joins are not built yet.")

    def __getitem__(self, name: Any) -> NoReturn:
        raise Unsupported(f"{self._name}[{name!r}]: joins are not built yet.")

    def __iter__(self) -> NoReturn:
        raise Unsupported(f"*{self._name}: joins are not built yet.")

    def __repr__(self) -> str:
        return self._name


this = This()
left = _Side("left")
right = _Side("right")
