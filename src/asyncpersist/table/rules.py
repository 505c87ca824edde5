"""What the rules of functions have in common: a typed Polars expression, where it may fail, and the table of rules.

A rule turns a `Call` into a `Value`. It refuses types it does not know with `GraphError`, and it notes with
`Context.fails` the rows that have no value; Polars itself must not raise for any row, because the row may
lie in a branch that is not taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from asyncpersist.dtypes import DType
from asyncpersist.errors import GraphError
from asyncpersist.table.expression import Call, ColumnExpression

__all__ = [
    "NONE",
    "RULES",
    "UNKNOWN",
    "Check",
    "Context",
    "Value",
    "common",
    "mismatch",
    "optional_if",
    "per_column",
    "per_row",
    "refuse_future",
    "rule",
]

UNKNOWN: Final = object()
"""The constant of a value that is not one."""

NONE: Final = DType("none", optional=True)
"""The type of a bare None. No column has it."""


@dataclass(frozen=True, slots=True)
class Value:
    """A compiled expression. `constant` is what it is for every row, if it is a literal."""

    expr: pl.Expr
    dtype: DType
    constant: Any = UNKNOWN

    @property
    def kind(self) -> str:
        return self.dtype.kind

    @property
    def optional(self) -> bool:
        return self.dtype.optional

    @property
    def known(self) -> bool:
        """Whether it is a literal."""
        return self.constant is not UNKNOWN

    def to(self, dtype: DType) -> pl.Expr:
        """The expression as `dtype`: a None gets the type, an int may become a float."""
        same = (self.kind, self.dtype.args) == (dtype.kind, dtype.args)
        return self.expr if same else self.expr.cast(dtype.polars)


@dataclass(frozen=True, slots=True)
class Check:
    """Rows for which `failed` is True have no value of `expression`."""

    failed: pl.Expr
    expression: ColumnExpression
    why: str


class Context(Protocol):
    """The compiler, as rules see it."""

    def value(self, expression: ColumnExpression) -> Value:
        """`expression`, compiled here."""
        ...

    def under(self, condition: pl.Expr) -> Context:
        """The same where only rows count for which `condition` (never null) holds."""
        ...

    def fails(self, call: ColumnExpression, failed: pl.Expr, why: str) -> None:
        """Rows with `failed` have no value of `call`, unless a branch not taken holds them. Null is no failure."""
        ...


Rule = Callable[[Context, Call], Value]

RULES: dict[str, Rule] = {}
"""By `Call.op`."""


def rule(*ops: str) -> Callable[[Callable[..., Value]], Callable[..., Value]]:
    """Registers ``f(context, call, *values)``, whose arguments have been compiled, for `ops`."""

    def register(f: Callable[..., Value]) -> Callable[..., Value]:
        for op in ops:
            RULES[op] = lambda context, call: f(context, call, *map(context.value, call.args))
        return f

    return register


def mismatch(call: Call, values: Sequence[Value], wants: str) -> GraphError:
    """The refusal of operand types."""
    types = " and ".join(str(value.dtype) for value in values)
    return GraphError(f"{call!r}: works on {wants}, not on {types}.")


def refuse_future(where: str, expression: ColumnExpression, dtype: DType) -> None:
    """Refuses an expression that is a future where a value is needed."""
    if dtype.kind == "future":
        raise GraphError(
            f"{where}: {expression!r} is a {dtype}, whose value may still be pending, so that nothing can be computed "
            "with it. `await_futures()` gives the rows that have been answered, with plain values."
        )


def common(call: Call, values: Sequence[Value]) -> DType:
    """The type that all values fit: their own; float for ints and floats; optional if any is.

    Raises `GraphError` if there is none.
    """
    typed = [value.dtype for value in values if value.kind != "none"]
    if not typed:
        raise GraphError(f"{call!r}: is None for every row. Give it a type: declare_type(int | None, None).")
    kinds = {(dtype.kind, dtype.args) for dtype in typed}
    if kinds == {("int", ()), ("float", ())}:
        dtype = DType("float")
    elif len(kinds) == 1:
        dtype = DType(typed[0].kind, args=typed[0].args)
    else:
        raise mismatch(call, values, "values of one type")
    return dtype.as_optional() if any(value.optional for value in values) else dtype


def per_row(values: Sequence[Value], function: Callable[..., Any], dtype: DType) -> Value:
    """`function` over Python values, row by row; None where an argument is None or where it returns None.

    For what Polars has no counterpart of. `function` must be pure and must not raise.
    """
    names = [f"a{i}" for i in range(len(values))]

    def apply(batch: pl.Series) -> pl.Series:
        columns = [batch.struct.field(name).to_list() for name in names]
        rows = (None if None in row else function(*row) for row in zip(*columns, strict=True))
        return pl.Series(batch.name, list(rows), dtype=dtype.polars, strict=True)

    packed = pl.struct([value.expr.alias(name) for name, value in zip(names, values, strict=True)])
    if any(value.optional for value in values):
        dtype = dtype.as_optional()
    return Value(packed.map_batches(apply, return_dtype=dtype.polars, is_elementwise=True), dtype)


def per_column(values: Sequence[Value], function: Callable[..., npt.NDArray[Any]]) -> pl.Expr:
    """`function` over float arrays, one float for each row; None where an argument is None.

    For what Polars computes less exactly than Python. `function` must work element by element.
    """

    def apply(columns: Sequence[pl.Series]) -> pl.Series:
        with np.errstate(all="ignore"):
            result = pl.Series(columns[0].name, function(*(column.to_numpy() for column in columns)))
        for column in columns:
            if column.null_count():
                result = result.zip_with(column.is_not_null(), pl.Series([None], dtype=pl.Float64))
        return result

    exprs = [value.expr.cast(pl.Float64) for value in values]
    return pl.map_batches(exprs, apply, return_dtype=pl.Float64(), is_elementwise=True)


def optional_if(dtype: DType, *values: Value) -> DType:
    """`dtype`, optional if any of `values` is."""
    return dtype.as_optional() if any(value.optional for value in values) else dtype
