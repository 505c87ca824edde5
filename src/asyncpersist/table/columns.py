"""Which columns the arguments of `select` and its like name, and how."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from asyncpersist.errors import GraphError
from asyncpersist.table.compile import Scope
from asyncpersist.table.expression import (
    ColumnExpression,
    ColumnReference,
    IdReference,
    PolarsExpression,
    as_expression,
)
from asyncpersist.table.row_by_row import expand, no_column
from asyncpersist.table.schema import why_reserved
from asyncpersist.table.this import AllColumns

__all__ = ["column_name", "new_name", "outputs"]


def outputs(where: str, args: Iterable[Any], kwargs: Mapping[str, Any], scope: Scope) -> dict[str, ColumnExpression]:
    """The output columns by name: arguments under their own name, keyword arguments under theirs.

    Raises `GraphError` for what has no name, for a name twice and a reserved one.
    """
    named: dict[str, ColumnExpression] = {}
    for arg in args:
        for name, expression in _positional(where, arg, scope):
            if name in named:
                raise GraphError(f"{where}: there are two columns {name!r}.")
            named[name] = expression
    for name, value in kwargs.items():
        if name in named:
            raise GraphError(f"{where}: there are two columns {name!r}.")
        named[new_name(where, name)] = as_expression(value)
    if not named:
        raise GraphError(f"{where}: needs at least one column. There are: {', '.join(scope.columns)}.")
    return named


def new_name(where: str, name: str) -> str:
    """`name`, unless it is reserved."""
    if not isinstance(name, str) or not name:
        raise GraphError(f"{where}: {name!r} is no name of a column.")
    if (why := why_reserved(name)) is not None:
        raise GraphError(f"{where}: the column name {name!r} is reserved, because {why}.")
    return name


def column_name(where: str, column: Any, scope: Scope) -> str:
    """The name of an existing column, given as a str or a reference."""
    if isinstance(column, pl.Expr) and column.meta.is_column():
        column = column.meta.output_name()
    if isinstance(column, (ColumnReference, IdReference)):
        scope.own(column)
        column = column.name if isinstance(column, ColumnReference) else "id"
    if not isinstance(column, str):
        raise GraphError(f"{where}: takes columns, like this.a or 'a', not {column!r}.")
    if column not in scope.columns:
        raise no_column(column, scope.columns, where)
    return column


def _positional(where: str, arg: Any, scope: Scope) -> Iterable[tuple[str, ColumnExpression]]:
    if isinstance(arg, AllColumns):
        for name in arg.without:
            column_name(where, name, scope)
        for name in scope.columns:
            if name not in arg.without:
                yield name, IdReference() if name == "id" else ColumnReference(name)
    elif isinstance(arg, ColumnReference):
        yield arg.name, arg
    elif isinstance(arg, IdReference):
        yield "id", arg
    elif isinstance(arg, pl.Expr):
        selected = expand(arg, scope.schema())
        if selected is not None:
            for name in selected:
                yield name, ColumnReference(name)
        else:
            yield new_name(where, arg.meta.output_name()), PolarsExpression(arg)
    elif isinstance(arg, ColumnExpression):
        raise GraphError(f"{where}: {arg!r} has no name; give it one: name={arg!r}.")
    else:
        raise GraphError(f"{where}: {arg!r} is no column; write this[...] for one, name=value for a constant.")
