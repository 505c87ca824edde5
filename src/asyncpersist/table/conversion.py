"""Rules of conversions: `cast`, `declare_type`, `to_string`, parsing, and what is read out of a Json.

Json lies in memory as text, which Polars can't take apart without a schema: its methods see rows one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import polars as pl

from asyncpersist.dtypes import DType
from asyncpersist.errors import GraphError
from asyncpersist.table.expression import Call
from asyncpersist.table.rules import NONE, RULES, Context, Value, common, mismatch, optional_if, per_row, rule

__all__: list[str] = []

STR, JSON = DType("str"), DType("json")

_DATETIME = "%Y-%m-%dT%H:%M:%S%.9f"


def _text(value: Value) -> pl.Expr | None:
    """The value as text, None for None; nothing for kinds that have none."""
    match value.kind:
        case "str" | "json":
            return value.expr
        case "int":
            return value.expr.cast(pl.String)
        case "float":
            return pl.when(value.expr.is_nan()).then(pl.lit("nan")).otherwise(value.expr.cast(pl.String))
        case "bool":
            truth = pl.when(value.expr).then(pl.lit("True")).otherwise(pl.lit("False"))
            return pl.when(value.expr.is_not_null()).then(truth)
        case "naive_datetime":
            return value.expr.dt.strftime(_DATETIME)
        case "utc_datetime":
            return value.expr.dt.strftime(_DATETIME + "%z")
        case "duration":
            return value.expr.dt.to_string("iso")
        case _:
            return None


@rule("to_string")
def _to_string(context: Context, call: Call, a: Value) -> Value:
    text = _text(a)
    if text is None:
        raise mismatch(call, [a], "numbers, bool, str, Json, dates and durations")
    return Value(text.fill_null("None") if a.optional else text, STR)


@rule("cast")
def _cast(context: Context, call: Call, a: Value) -> Value:
    target: DType = call.options["type"]
    dtype = optional_if(target, a)
    if a.dtype == NONE:
        return Value(a.expr.cast(dtype.polars), dtype)
    if (a.kind, a.dtype.args) == (target.kind, target.args):
        return Value(a.expr, dtype, a.constant)
    match a.kind, target.kind:
        case "int", "float":
            return Value(a.expr.cast(pl.Float64), dtype)
        case "float", "int":
            whole = a.expr.cast(pl.Int64, strict=False)
            context.fails(call, whole.is_null() & a.expr.is_not_null(), "no int of 64 bits is near the value")
            return Value(whole, dtype)
        case "bool", ("int" | "float"):
            return Value(a.expr.cast(target.polars), dtype)
        case (("int" | "float"), "bool"):
            return Value(a.expr != 0, dtype)
        case "str", ("int" | "float"):
            return _parse(context, call, a, target.polars, dtype)
        case _, "str":
            text = _text(a)
            if text is not None:
                return Value(text, dtype)
    raise GraphError(
        f"{call!r}: {a.dtype} does not become {target}. cast knows int, float, bool and str; text becomes a bool "
        "with .str.parse_bool(), a date with .dt.strptime(...); a Json has .as_int() and so on."
    )


def _parse(context: Context, call: Call, a: Value, to: pl.DataType, dtype: DType) -> Value:
    number = a.expr.str.strip_chars().cast(to, strict=False)
    if not call.options.get("optional"):
        context.fails(call, number.is_null() & a.expr.is_not_null(), f"the text spells no {dtype.kind}")
    return Value(number, dtype)


@rule("str.parse_int", "str.parse_float")
def _parse_number(context: Context, call: Call, a: Value) -> Value:
    if a.kind != "str":
        raise mismatch(call, [a], "str")
    dtype = DType(call.op.removeprefix("str.parse_"), a.optional or call.options["optional"])
    return _parse(context, call, a, dtype.polars, dtype)


@rule("str.parse_bool")
def _parse_bool(context: Context, call: Call, a: Value) -> Value:
    if a.kind != "str":
        raise mismatch(call, [a], "str")
    word = a.expr.str.to_lowercase()
    true, false = (word.is_in(call.options[name]) for name in ("true_values", "false_values"))
    truth = pl.when(true).then(True).when(false).then(False)
    if not call.options["optional"]:
        context.fails(call, truth.is_null() & a.expr.is_not_null(), "the text is no word for true or false")
    return Value(truth, DType("bool", a.optional or call.options["optional"]))


@rule("declare_type")
def _declare_type(context: Context, call: Call, a: Value) -> Value:
    target: DType = call.options["type"]
    if a.dtype == NONE:
        if not target.optional:
            raise GraphError(f"{call!r}: {target} has no None.")
        return Value(a.expr.cast(target.polars), target)
    if a.dtype.polars != target.polars:
        raise GraphError(f"{call!r}: {a.dtype} lies in memory otherwise than {target}. Use cast to convert.")
    if a.optional and not target.optional:
        context.fails(call, a.expr.is_null(), f"the value is None, which {target} has not")
    return Value(a.expr, target, a.constant)


def _member(context: Context, call: Call) -> Value:
    """``[]`` and `get` of a Json."""
    a, index = context.value(call.args[0]), context.value(call.args[1])
    if not index.known or index.kind not in ("str", "int"):
        raise GraphError(f"{call!r}: the member of a Json is chosen by a plain str or int.")
    member = per_row([a], _chosen(index.constant), JSON)
    if call.op == "getitem":
        context.fails(call, member.expr.is_null() & a.expr.is_not_null(), "the Json has no such member")
        return member
    default = context.value(call.args[2])
    if default.dtype == NONE:
        return Value(member.expr, JSON.as_optional())
    if not default.known:
        raise GraphError(f"{call!r}: the default of a Json's member must be a plain value.")
    filled = member.expr.fill_null(pl.lit(msgspec.json.encode(default.constant).decode()))
    if a.optional:
        filled = pl.when(a.expr.is_not_null()).then(filled)
    return Value(filled, optional_if(JSON, a))


RULES["json.member"] = _member


def _chosen(index: str | int) -> Callable[[str], str | None]:
    def choose(text: str) -> str | None:
        whole = msgspec.json.decode(text)
        if isinstance(index, str):
            if not isinstance(whole, dict) or index not in whole:
                return None
        elif not isinstance(whole, list) or not -len(whole) <= index < len(whole):
            return None
        return msgspec.json.encode(whole[index]).decode()

    return choose


def _as_int(value: Any) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
        return value
    return None


def _as_float(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _as_str(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _as_bool(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


_READERS: dict[str, Callable[[Any], Any]] = {"int": _as_int, "float": _as_float, "str": _as_str, "bool": _as_bool}


@rule("as_int", "as_float", "as_str", "as_bool")
def _read(context: Context, call: Call, a: Value, default: Value) -> Value:
    if a.kind != "json":
        raise mismatch(call, [a], "Json (cast converts other types)")
    kind = call.op.removeprefix("as_")
    reader = _READERS[kind]
    value = per_row([a], lambda text: reader(msgspec.json.decode(text)), DType(kind))
    context.fails(call, value.expr.is_null() & (a.expr != "null"), f"the Json is no {kind}")
    expr, dtype = value.expr, DType(kind, optional=True)
    if default.dtype != NONE:
        if default.kind != kind:
            raise mismatch(call, [a, default], f"a default of type {kind}")
        expr, dtype = expr.fill_null(default.expr), common(call, [default])
    if call.options["unwrap"]:
        context.fails(call, expr.is_null(), "the value is None")
        dtype = DType(kind)
    return Value(expr, dtype)
