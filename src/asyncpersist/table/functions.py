"""Functions over expressions."""

from __future__ import annotations

from typing import Any, NoReturn

from asyncpersist.dtypes import DType
from asyncpersist.errors import GraphError, Unsupported
from asyncpersist.table.expression import Call, ColumnExpression, as_expression

__all__ = [
    "cast",
    "coalesce",
    "declare_type",
    "fill_error",
    "if_else",
    "is_none",
    "is_not_none",
    "make_tuple",
    "require",
    "unwrap",
]


def if_else(if_clause: Any, then_clause: Any, else_clause: Any) -> ColumnExpression:
    """`then_clause` where `if_clause` is True, `else_clause` where it is False or None. The other can raise nothing."""
    return _call("if_else", if_clause, then_clause, else_clause)


def coalesce(*args: Any) -> ColumnExpression:
    """The first argument that is not None. Later ones can raise nothing where an earlier one counts."""
    if not args:
        raise GraphError("coalesce needs at least one argument.")
    return _call("coalesce", *args)


def require(val: Any, *deps: Any) -> ColumnExpression:
    """`val` where none of `deps` is None, None (and no error) elsewhere."""
    return _call("require", val, *deps)


def unwrap(col: Any) -> ColumnExpression:
    """The value, of a type without None; None is an error of the row."""
    return _call("unwrap", col)


def is_none(col: Any) -> ColumnExpression:
    """Whether the value is None."""
    return _call("is_none", col)


def is_not_none(col: Any) -> ColumnExpression:
    """Whether the value is something else than None."""
    return _call("is_not_none", col)


def make_tuple(*args: Any) -> ColumnExpression:
    """The values as a tuple."""
    if not args:
        raise GraphError("make_tuple needs at least one argument.")
    return _call("make_tuple", *args)


def cast(target_type: Any, col: Any) -> ColumnExpression:
    """The value converted to int, float, bool or str. None stays None; what cannot be converted is an error of the row.

    A float becomes an int by leaving out its fraction; text must spell the number.
    """
    return Call("cast", (as_expression(col),), {"type": DType.of(target_type, where="cast")})


def declare_type(target_type: Any, col: Any) -> ColumnExpression:
    """The same values, said to be of another type that lies in memory alike: with or without None, or a typed None.

    A None in a type declared to be without is an error of the row.
    """
    return Call("declare_type", (as_expression(col),), {"type": DType.of(target_type, where="declare_type")})


def fill_error(col: Any, replacement: Any) -> NoReturn:
    """Not built yet."""
    raise Unsupported(
        "fill_error is not built yet: an error of a row ends the run. Guard the expression with if_else instead."
    )


def _call(op: str, /, *args: Any, **options: Any) -> Call:
    return Call(op, tuple(as_expression(arg) for arg in args), options)
