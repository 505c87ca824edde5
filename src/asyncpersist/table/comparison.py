"""Rules of comparisons and of ``& | ^ ~``.

Polars takes NaN for equal to itself and for the greatest number; here it is as IEEE 754 has it. None on
either side makes the result None, save that False decides ``&`` and True decides ``|``.
"""

from __future__ import annotations

import math

import polars as pl

from asyncpersist.dtypes import DType
from asyncpersist.errors import GraphError
from asyncpersist.table.expression import Call
from asyncpersist.table.rules import NONE, Context, Value, common, mismatch, optional_if, rule

__all__: list[str] = []

BOOL = DType("bool")

ORDERED = frozenset({"int", "float", "bool", "str", "bytes", "naive_datetime", "utc_datetime", "duration", "pointer"})
"""The kinds whose values have an order."""


def _pair(call: Call, a: Value, b: Value) -> None:
    if NONE in (a.dtype, b.dtype):
        raise GraphError(f"{call!r}: a comparison with None is None for every row. Use .is_none() or .is_not_none().")
    common(call, [a, b])


def _not_nan(value: Value, other: Value) -> pl.Expr | None:
    """False where `value` is NaN and `other` is there; None if that can't be."""
    if value.kind != "float" or (value.known and not math.isnan(value.constant)):
        return None
    clear = value.expr.is_not_nan()
    return clear | other.expr.is_null() if other.optional else clear


@rule("eq")
def _eq(context: Context, call: Call, a: Value, b: Value) -> Value:
    _pair(call, a, b)
    same = a.expr == b.expr
    # Two NaN are needed for Polars to err: one that is ruled out is enough.
    clear = _not_nan(a, b) if b.kind == "float" and _not_nan(b, a) is not None else None
    return Value(same if clear is None else same & clear, optional_if(BOOL, a, b))


@rule("ne")
def _ne(context: Context, call: Call, a: Value, b: Value) -> Value:
    return Value(~_eq(context, call, a, b).expr, optional_if(BOOL, a, b))


@rule("lt", "le", "gt", "ge")
def _order(context: Context, call: Call, a: Value, b: Value) -> Value:
    _pair(call, a, b)
    if a.kind not in ORDERED:
        raise mismatch(call, [a, b], "values that have an order")
    low, high = (a, b) if call.op in ("lt", "le") else (b, a)
    result = low.expr < high.expr if call.op in ("lt", "gt") else low.expr <= high.expr
    clear = _not_nan(high, low)
    return Value(result if clear is None else result & clear, optional_if(BOOL, a, b))


@rule("and", "or", "xor")
def _logic(context: Context, call: Call, a: Value, b: Value) -> Value:
    if a.kind != b.kind or a.kind not in ("bool", "int"):
        raise mismatch(call, [a, b], "two bool or two int")
    match call.op:
        case "and":
            result = a.expr & b.expr
        case "or":
            result = a.expr | b.expr
        case _:
            result = a.expr ^ b.expr
    return Value(result, optional_if(DType(a.kind), a, b))


@rule("invert")
def _invert(context: Context, call: Call, a: Value) -> Value:
    if a.kind not in ("bool", "int"):
        raise mismatch(call, [a], "a bool or an int")
    return Value(~a.expr, a.dtype)
