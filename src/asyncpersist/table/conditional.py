"""Rules of functions that choose: `if_else`, `coalesce`, `require`, `unwrap`, tests for None, tuples and their items.

A branch is compiled under the condition that takes it, so that what cannot be computed there is no failure
elsewhere.
"""

from __future__ import annotations

import polars as pl

from asyncpersist.dtypes import DType
from asyncpersist.errors import GraphError
from asyncpersist.table.expression import Call
from asyncpersist.table.rules import NONE, RULES, UNKNOWN, Context, Value, common, mismatch, rule

__all__: list[str] = []


def _if_else(context: Context, call: Call) -> Value:
    clause, then, otherwise = call.args
    condition = context.value(clause)
    if condition.kind != "bool":
        raise mismatch(call, [condition], "a bool as its condition")
    holds = condition.expr.fill_null(False) if condition.optional else condition.expr
    taken, other = context.under(holds).value(then), context.under(~holds).value(otherwise)
    dtype = common(call, [taken, other])
    return Value(pl.when(holds).then(taken.to(dtype)).otherwise(other.to(dtype)), dtype)


def _coalesce(context: Context, call: Call) -> Value:
    values: list[Value] = []
    for arg in call.args:
        value = context.value(arg)
        values.append(value)
        if not value.optional:
            break
        context = context.under(value.expr.is_null())
    dtype = common(call, values)
    if not values[-1].optional:
        dtype = DType(dtype.kind, args=dtype.args)
    exprs = [value.to(dtype) for value in values]
    return Value(pl.coalesce(exprs) if len(exprs) > 1 else exprs[0], dtype)


def _require(context: Context, call: Call) -> Value:
    first, *rest = call.args
    deps = [dep for dep in map(context.value, rest) if dep.optional]
    if not deps:
        return context.value(first)
    there = pl.all_horizontal([dep.expr.is_not_null() for dep in deps])
    value = context.under(there).value(first)
    if value.dtype == NONE:
        return value
    return Value(pl.when(there).then(value.expr), value.dtype.as_optional())


RULES["if_else"] = _if_else
RULES["coalesce"] = _coalesce
RULES["require"] = _require


@rule("unwrap")
def _unwrap(context: Context, call: Call, a: Value) -> Value:
    if a.dtype == NONE:
        raise GraphError(f"{call!r}: is None for every row.")
    if a.optional:
        context.fails(call, a.expr.is_null(), "the value is None")
    return Value(a.expr, DType(a.kind, args=a.dtype.args), a.constant)


@rule("is_none")
def _is_none(context: Context, call: Call, a: Value) -> Value:
    return Value(a.expr.is_null(), DType("bool"))


@rule("is_not_none")
def _is_not_none(context: Context, call: Call, a: Value) -> Value:
    return Value(a.expr.is_not_null(), DType("bool"))


@rule("make_tuple")
def _make_tuple(context: Context, call: Call, *items: Value) -> Value:
    if any(item.dtype == NONE for item in items):
        raise GraphError(f"{call!r}: a bare None has no type. Give it one: declare_type(int | None, None).")
    fields = [item.expr.alias(f"f{i}") for i, item in enumerate(items)]
    return Value(pl.struct(fields), DType("tuple", args=tuple(item.dtype for item in items)))


@rule("getitem")
def _getitem(context: Context, call: Call, a: Value, index: Value) -> Value:
    if a.kind == "tuple":
        return _field(call, a, index, None)
    if a.kind == "list" and index.kind == "int":
        item = a.expr.list.get(index.expr, null_on_oob=True)
        length = a.expr.list.len().cast(pl.Int64)
        context.fails(call, (index.expr >= length) | (index.expr < -length), "the list has no such item")
        dtype = a.dtype.args[0]
        return Value(item, dtype.as_optional() if a.optional or index.optional else dtype)
    if a.kind == "json":
        return RULES["json.member"](context, call)
    raise mismatch(call, [a, index], "a list and an int, a tuple and a plain int, or a Json and a plain str or int")


@rule("get")
def _get(context: Context, call: Call, a: Value, index: Value, default: Value) -> Value:
    if a.kind == "tuple":
        return _field(call, a, index, default)
    if a.kind == "list" and index.kind == "int":
        item = Value(a.expr.list.get(index.expr, null_on_oob=True), a.dtype.args[0].as_optional())
        if default.dtype == NONE:
            return item
        dtype = common(call, [item, default])
        length = a.expr.list.len().cast(pl.Int64)
        inside = (index.expr < length) & (index.expr >= -length)
        chosen = pl.when(inside).then(item.to(dtype)).when(inside.is_not_null()).then(default.to(dtype))
        optional = a.optional or index.optional or default.optional or a.dtype.args[0].optional
        return Value(chosen, DType(dtype.kind, optional, dtype.args))
    if a.kind == "json":
        return RULES["json.member"](context, call)
    raise mismatch(call, [a, index], "a list and an int, a tuple and a plain int, or a Json and a plain str or int")


def _field(call: Call, a: Value, index: Value, default: Value | None) -> Value:
    size = len(a.dtype.args)
    if index.kind != "int" or index.constant is UNKNOWN:
        raise GraphError(f"{call!r}: the item of a tuple is chosen by a plain int.")
    if not -size <= index.constant < size:
        if default is None:
            raise GraphError(f"{call!r}: the tuple {a.dtype} has {size} items.")
        if default.dtype == NONE:
            raise GraphError(f"{call!r}: the tuple {a.dtype} has {size} items, so this is None for every row.")
        return default
    dtype = a.dtype.args[index.constant % size]
    item = a.expr.struct.field(f"f{index.constant % size}")
    return Value(item, dtype.as_optional() if a.optional else dtype)
