"""What a user writes about the columns of one row: a tree of expressions.

A tree is a value: building it computes nothing and checks nothing about columns or types. That happens when
a table takes it (`compile.py`). Equality and the other operators build expressions, so trees are compared
by `canonical()`.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import polars as pl

from asyncpersist.dtypes import DType, Pointer
from asyncpersist.errors import GraphError, Unsupported

if TYPE_CHECKING:
    from asyncpersist.graph.node import Node
    from asyncpersist.table.datetimes import DateTimeNamespace
    from asyncpersist.table.numbers import NumericalNamespace
    from asyncpersist.table.strings import StringNamespace

__all__ = [
    "Call",
    "ColumnExpression",
    "ColumnReference",
    "IdReference",
    "Literal",
    "PolarsExpression",
    "ReducerExpression",
    "as_expression",
    "parts",
]

Text = str

_SYMBOLS = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "truediv": "/",
    "floordiv": "//",
    "mod": "%",
    "pow": "**",
    "and": "&",
    "or": "|",
    "xor": "^",
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
}
_PREFIXES = {"neg": "-", "invert": "~"}


class ColumnExpression:
    """A value for every row. None in an operand makes the result None, save where a function says otherwise.

    Operators: ``+ - * / // % **``, unary ``-``, ``~``, ``& | ^``, comparisons, ``[]`` on lists, tuples and
    Json. ``/`` gives a float, ``//`` and ``%`` have the sign of the divisor; a division by zero and an int
    beyond 64 bits are errors of the row. ``&`` and ``|`` know that False and True decide alone, and
    evaluate both sides. NaN equals nothing and orders with nothing.
    """

    __slots__ = ()

    @property
    def children(self) -> tuple[ColumnExpression, ...]:
        """The expressions this one is made of."""
        return ()

    def canonical(self) -> Any:
        """The meaning as plain JSON values, equal over runs."""
        raise NotImplementedError

    def __add__(self, other: Any) -> ColumnExpression:
        return _call("add", self, other)

    def __radd__(self, other: Any) -> ColumnExpression:
        return _call("add", other, self)

    def __sub__(self, other: Any) -> ColumnExpression:
        return _call("sub", self, other)

    def __rsub__(self, other: Any) -> ColumnExpression:
        return _call("sub", other, self)

    def __mul__(self, other: Any) -> ColumnExpression:
        return _call("mul", self, other)

    def __rmul__(self, other: Any) -> ColumnExpression:
        return _call("mul", other, self)

    def __truediv__(self, other: Any) -> ColumnExpression:
        return _call("truediv", self, other)

    def __rtruediv__(self, other: Any) -> ColumnExpression:
        return _call("truediv", other, self)

    def __floordiv__(self, other: Any) -> ColumnExpression:
        return _call("floordiv", self, other)

    def __rfloordiv__(self, other: Any) -> ColumnExpression:
        return _call("floordiv", other, self)

    def __mod__(self, other: Any) -> ColumnExpression:
        return _call("mod", self, other)

    def __rmod__(self, other: Any) -> ColumnExpression:
        return _call("mod", other, self)

    def __pow__(self, other: Any) -> ColumnExpression:
        return _call("pow", self, other)

    def __rpow__(self, other: Any) -> ColumnExpression:
        return _call("pow", other, self)

    def __and__(self, other: Any) -> ColumnExpression:
        return _call("and", self, other)

    def __rand__(self, other: Any) -> ColumnExpression:
        return _call("and", other, self)

    def __or__(self, other: Any) -> ColumnExpression:
        return _call("or", self, other)

    def __ror__(self, other: Any) -> ColumnExpression:
        return _call("or", other, self)

    def __xor__(self, other: Any) -> ColumnExpression:
        return _call("xor", self, other)

    def __rxor__(self, other: Any) -> ColumnExpression:
        return _call("xor", other, self)

    def __matmul__(self, other: Any) -> NoReturn:
        raise Unsupported("@ (the product of matrices) on columns is not built yet.")

    __rmatmul__ = __matmul__

    def __neg__(self) -> ColumnExpression:
        return _call("neg", self)

    def __invert__(self) -> ColumnExpression:
        return _call("invert", self)

    def __abs__(self) -> ColumnExpression:
        return _call("abs", self)

    def __eq__(self, other: Any) -> ColumnExpression:  # type: ignore[override]
        return _call("eq", self, other)

    def __ne__(self, other: Any) -> ColumnExpression:  # type: ignore[override]
        return _call("ne", self, other)

    def __lt__(self, other: Any) -> ColumnExpression:
        return _call("lt", self, other)

    def __le__(self, other: Any) -> ColumnExpression:
        return _call("le", self, other)

    def __gt__(self, other: Any) -> ColumnExpression:
        return _call("gt", self, other)

    def __ge__(self, other: Any) -> ColumnExpression:
        return _call("ge", self, other)

    def __hash__(self) -> int:
        return id(self)

    def __bool__(self) -> NoReturn:
        raise GraphError(
            f"{self!r} has no truth value while the graph is built: write & | ~ for and, or, not, and if_else for "
            "if; a chain a < b < c is (a < b) & (b < c)."
        )

    def __iter__(self) -> Iterator[Any]:
        raise GraphError(f"{self!r} cannot be iterated or unpacked: it stands for one value of every row.")

    def __getitem__(self, index: Any) -> ColumnExpression:
        """The item of a list or tuple, the member of a Json; an error of the row if there is none."""
        return _call("getitem", self, index)

    def get(self, index: Any, default: Any = None) -> ColumnExpression:
        """The item of a list or tuple, the member of a Json; `default` if there is none."""
        return _call("get", self, index, default)

    def is_none(self) -> ColumnExpression:
        """Whether the value is None."""
        return _call("is_none", self)

    def is_not_none(self) -> ColumnExpression:
        """Whether the value is something else than None."""
        return _call("is_not_none", self)

    def to_string(self) -> ColumnExpression:
        """The value as text, as Python prints it; None is ``"None"``. Dates and times come in ISO 8601."""
        return _call("to_string", self)

    def as_int(self, *, default: Any = None, unwrap: bool = False) -> ColumnExpression:
        """The integer in a Json; `default` for null. `unwrap`: the type without None, null then being an error."""
        return _call("as_int", self, default, unwrap=unwrap)

    def as_float(self, *, default: Any = None, unwrap: bool = False) -> ColumnExpression:
        """The number in a Json as a float; the rest as in `as_int`."""
        return _call("as_float", self, default, unwrap=unwrap)

    def as_str(self, *, default: Any = None, unwrap: bool = False) -> ColumnExpression:
        """The text in a Json; the rest as in `as_int`."""
        return _call("as_str", self, default, unwrap=unwrap)

    def as_bool(self, *, default: Any = None, unwrap: bool = False) -> ColumnExpression:
        """The truth value in a Json; the rest as in `as_int`."""
        return _call("as_bool", self, default, unwrap=unwrap)

    @property
    def num(self) -> NumericalNamespace:
        """Methods of numbers."""
        from asyncpersist.table.numbers import NumericalNamespace

        return NumericalNamespace(self)

    @property
    def dt(self) -> DateTimeNamespace:
        """Methods of dates, times and durations."""
        from asyncpersist.table.datetimes import DateTimeNamespace

        return DateTimeNamespace(self)

    @property
    def str(self) -> StringNamespace:
        """Methods of text."""
        from asyncpersist.table.strings import StringNamespace

        return StringNamespace(self)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class ColumnReference(ColumnExpression):
    """A column. `node` is that of the table it was taken from, None for `this`."""

    name: Text
    node: Node | None = None

    def canonical(self) -> Any:
        return ["column", self.name]

    def __repr__(self) -> Text:
        return f"this.{self.name}" if self.name.isidentifier() else f"this[{self.name!r}]"


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class IdReference(ColumnExpression):
    """The row's id: a `Pointer`."""

    node: Node | None = None

    def canonical(self) -> Any:
        return ["id"]

    def __repr__(self) -> Text:
        return "this.id"


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Literal(ColumnExpression):
    """The same value for every row."""

    value: Any

    def canonical(self) -> Any:
        return ["literal", *_canonical_value(self.value)]

    def __repr__(self) -> Text:
        return repr(self.value)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class PolarsExpression(ColumnExpression):
    """A Polars expression; row by row, which is checked when a table takes it."""

    expr: pl.Expr

    def canonical(self) -> Any:
        from asyncpersist.table.row_by_row import canonical

        return ["polars", canonical(self.expr)]

    def __repr__(self) -> Text:
        return str(self.expr)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Call(ColumnExpression):
    """An operator or function over expressions. `options` are the same for every row: plain JSON values and types."""

    op: Text
    args: tuple[ColumnExpression, ...]
    options: Mapping[Text, Any] = field(default_factory=dict)

    @property
    def children(self) -> tuple[ColumnExpression, ...]:
        return self.args

    def canonical(self) -> Any:
        called = ["call", self.op, [arg.canonical() for arg in self.args]]
        options = {
            name: str(value) if isinstance(value, DType) else value for name, value in sorted(self.options.items())
        }
        return [*called, options] if options else called

    def __repr__(self) -> Text:
        if self.op in _SYMBOLS:
            return f"({self.args[0]!r} {_SYMBOLS[self.op]} {self.args[1]!r})"
        if self.op in _PREFIXES:
            return f"{_PREFIXES[self.op]}{self.args[0]!r}"
        if self.op == "getitem":
            return f"{self.args[0]!r}[{self.args[1]!r}]"
        options = [
            str(value) if isinstance(value, DType) else f"{name}={value!r}" for name, value in self.options.items()
        ]
        if "." in self.op:
            return f"{self.args[0]!r}.{self.op}({', '.join([*map(repr, self.args[1:]), *options])})"
        return f"{self.op}({', '.join([*options, *map(repr, self.args)])})"


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class ReducerExpression(ColumnExpression):
    """A value over all rows of a group; stands only in `reduce`."""

    kind: Text
    args: tuple[ColumnExpression, ...]
    skip_nones: bool = False

    @property
    def children(self) -> tuple[ColumnExpression, ...]:
        return self.args

    def canonical(self) -> Any:
        reduced = ["reducer", self.kind, [arg.canonical() for arg in self.args]]
        return [*reduced, {"skip_nones": True}] if self.skip_nones else reduced

    def __repr__(self) -> Text:
        options = ["skip_nones=True"] if self.skip_nones else []
        return f"reducers.{self.kind}({', '.join([*map(repr, self.args), *options])})"


def parts(expression: ColumnExpression) -> Iterator[ColumnExpression]:
    """It and everything within."""
    yield expression
    for child in expression.children:
        yield from parts(child)


def as_expression(value: Any) -> ColumnExpression:
    """What `value` means where an expression is expected: itself, a Polars expression, or a literal.

    Raises `GraphError` for a value that no column can hold.
    """
    if isinstance(value, ColumnExpression):
        return value
    if isinstance(value, pl.Expr):
        return PolarsExpression(value)
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(
        value, (bool, int, float, str, bytes, datetime.datetime, datetime.timedelta, list, tuple, dict)
    ):
        return Literal(value)
    raise GraphError(
        f"{value!r} (a {type(value).__name__}) is neither an expression nor a value that a column can hold."
    )


def _call(op: Text, /, *args: Any, **options: Any) -> Call:
    return Call(op, tuple(as_expression(arg) for arg in args), options)


def _canonical_value(value: Any) -> list[Any]:
    """A literal's kind and its value in plain JSON."""
    if value is None:
        return ["none"]
    if isinstance(value, (bool, str)):
        return [type(value).__name__, value]
    if isinstance(value, int):
        return ["pointer" if isinstance(value, Pointer) else "int", str(int(value))]
    if isinstance(value, float):
        return ["float", value.hex() if math.isfinite(value) else str(value)]
    if isinstance(value, bytes):
        return ["bytes", value.hex()]
    if isinstance(value, datetime.datetime):
        return ["datetime", value.isoformat()]
    if isinstance(value, datetime.timedelta):
        return ["duration", value // datetime.timedelta(microseconds=1)]
    if isinstance(value, dict):
        return ["json", sorted([[str(name), _canonical_value(item)] for name, item in value.items()])]
    return [type(value).__name__, [_canonical_value(item) for item in value]]
