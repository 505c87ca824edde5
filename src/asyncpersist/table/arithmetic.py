"""Rules of ``+ - * / // % **``, unary minus, `abs` and the methods of numbers.

Polars wraps integers around silently, so every int operation notes the rows that overflow: by the signs for
sums, in 128 bits for products, by a comparison where an operand is a literal. Dates and durations are ints
of microseconds.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import polars as pl

from asyncpersist.dtypes import DType
from asyncpersist.errors import GraphError
from asyncpersist.table.expression import Call
from asyncpersist.table.rules import NONE, Context, Value, common, mismatch, optional_if, per_column, per_row, rule

__all__: list[str] = []

MAX = 2**63 - 1
MIN = -(2**63)

INT, FLOAT, STR, DURATION = DType("int"), DType("float"), DType("str"), DType("duration")
OVERFLOW = "the result does not fit 64 bits"
ZERO = "division by zero"

_NUMBERS = ("int", "float")
_TIMES = ("naive_datetime", "utc_datetime")


def _kinds(call: Call, *values: Value) -> tuple[str, ...]:
    if any(value.dtype == NONE for value in values):
        raise GraphError(f"{call!r}: an operand is None for every row, and so would be the result.")
    return tuple(value.kind for value in values)


def _micros(value: Value) -> Value:
    """A date or duration as its int of microseconds."""
    constant = value.constant
    if value.known:
        constant = pl.select(value.expr.cast(pl.Int64)).item()
    return Value(value.expr.cast(pl.Int64), DType("int", value.optional), constant)


def _numbers(a: Value, b: Value) -> bool:
    return a.kind in _NUMBERS and b.kind in _NUMBERS


def _float(value: Value) -> pl.Expr:
    return value.expr if value.kind == "float" else value.expr.cast(pl.Float64)


def _of_micros(expr: pl.Expr, dtype: DType) -> Value:
    return Value(expr.cast(dtype.polars), dtype)


def _add_ints(context: Context, call: Call, a: Value, b: Value) -> pl.Expr:
    total = a.expr + b.expr
    if a.known:
        a, b = b, a
    if b.known:
        if b.constant > 0:
            context.fails(call, a.expr > MAX - b.constant, OVERFLOW)
        elif b.constant < 0:
            context.fails(call, a.expr < MIN - b.constant, OVERFLOW)
    else:
        context.fails(call, ((a.expr ^ total) & (b.expr ^ total)) < 0, OVERFLOW)
    return total


def _subtract_ints(context: Context, call: Call, a: Value, b: Value) -> pl.Expr:
    total = a.expr - b.expr
    if b.known and b.constant > 0:
        context.fails(call, a.expr < MIN + b.constant, OVERFLOW)
    elif b.known and b.constant < 0:
        context.fails(call, a.expr > MAX + b.constant, OVERFLOW)
    elif not b.known:
        context.fails(call, ((a.expr ^ b.expr) & (a.expr ^ total)) < 0, OVERFLOW)
    return total


def _multiply_ints(context: Context, call: Call, a: Value, b: Value) -> pl.Expr:
    product = a.expr * b.expr
    if a.known:
        a, b = b, a
    if b.known:
        c = b.constant
        if c:
            low = -((-MIN) // c) if c > 0 else -(MAX // -c)
            high = MAX // c if c > 0 else -MIN // -c
            if low > MIN:
                context.fails(call, a.expr < low, OVERFLOW)
            if high < MAX:
                context.fails(call, a.expr > high, OVERFLOW)
    else:
        wide = a.expr.cast(pl.Int128) * b.expr.cast(pl.Int128)
        context.fails(call, (wide > MAX) | (wide < MIN), OVERFLOW)
    return product


def _refuse_zero(context: Context, call: Call, a: Value, divisor: Value) -> None:
    if not divisor.known or divisor.constant == 0:
        context.fails(call, _where_there(divisor.expr == 0, a), ZERO)


def _where_there(failed: pl.Expr, *operands: Value) -> pl.Expr:
    """None makes the result None, whatever the other operand is."""
    for operand in operands:
        if operand.optional:
            failed = failed & operand.expr.is_not_null()
    return failed


def _floor_ints(context: Context, call: Call, a: Value, b: Value) -> pl.Expr:
    _refuse_zero(context, call, a, b)
    if not b.known or b.constant == -1:
        context.fails(call, (a.expr == MIN) & (b.expr == -1), OVERFLOW)
    return a.expr // b.expr


def _modulo_ints(context: Context, call: Call, a: Value, b: Value) -> pl.Expr:
    _refuse_zero(context, call, a, b)
    return a.expr % b.expr


def _quotient(a: Value, b: Value) -> pl.Expr:
    """Polars multiplies by the inverse of a literal, which makes 3 / 10 another number than 0.3."""
    return per_column([a, b], np.true_divide) if b.known else _float(a) / _float(b)


@rule("add")
def _add(context: Context, call: Call, a: Value, b: Value) -> Value:
    kinds = _kinds(call, a, b)
    if kinds == ("int", "int"):
        return Value(_add_ints(context, call, a, b), optional_if(INT, a, b))
    if _numbers(a, b):
        return Value(_float(a) + _float(b), optional_if(FLOAT, a, b))
    if kinds == ("str", "str"):
        return Value(a.expr + b.expr, optional_if(STR, a, b))
    if kinds[0] in (*_TIMES, "duration") and kinds[1] == "duration":
        return _of_micros(_add_ints(context, call, _micros(a), _micros(b)), optional_if(a.dtype, b))
    if kinds[0] == "duration" and kinds[1] in _TIMES:
        return _of_micros(_add_ints(context, call, _micros(a), _micros(b)), optional_if(b.dtype, a))
    if kinds == ("list", "list"):
        dtype = common(call, [a, b])
        return Value(pl.concat_list(a.expr, b.expr), dtype)
    raise mismatch(call, [a, b], "numbers, str, lists, durations, or a datetime and a duration")


@rule("sub")
def _sub(context: Context, call: Call, a: Value, b: Value) -> Value:
    kinds = _kinds(call, a, b)
    if kinds == ("int", "int"):
        return Value(_subtract_ints(context, call, a, b), optional_if(INT, a, b))
    if _numbers(a, b):
        return Value(_float(a) - _float(b), optional_if(FLOAT, a, b))
    if kinds[0] in (*_TIMES, "duration") and kinds[1] == "duration":
        return _of_micros(_subtract_ints(context, call, _micros(a), _micros(b)), optional_if(a.dtype, b))
    if kinds[0] in _TIMES and kinds[0] == kinds[1]:
        return _of_micros(_subtract_ints(context, call, _micros(a), _micros(b)), optional_if(DURATION, a, b))
    raise mismatch(call, [a, b], "numbers, durations, two datetimes of one kind, or a datetime and a duration")


@rule("mul")
def _mul(context: Context, call: Call, a: Value, b: Value) -> Value:
    kinds = _kinds(call, a, b)
    if kinds == ("int", "int"):
        return Value(_multiply_ints(context, call, a, b), optional_if(INT, a, b))
    if _numbers(a, b):
        return Value(_float(a) * _float(b), optional_if(FLOAT, a, b))
    if kinds in (("int", "str"), ("int", "duration"), ("float", "duration")):
        a, b, kinds = b, a, kinds[::-1]
    if kinds == ("str", "int"):
        repeated = a.expr.repeat_by(b.expr.clip(0, 2**31)).list.join("")
        return Value(repeated, optional_if(STR, a, b))
    if kinds == ("duration", "int"):
        return _of_micros(_multiply_ints(context, call, _micros(a), b), optional_if(DURATION, a, b))
    if kinds == ("duration", "float"):
        return _rounded(context, call, _micros(a).expr.cast(pl.Float64) * b.expr, optional_if(DURATION, a, b))
    raise mismatch(call, [a, b], "numbers, or an int and a str, or a number and a duration")


@rule("truediv")
def _truediv(context: Context, call: Call, a: Value, b: Value) -> Value:
    kinds = _kinds(call, a, b)
    if _numbers(a, b):
        _refuse_zero(context, call, a, b)
        return Value(_quotient(a, b), optional_if(FLOAT, a, b))
    if kinds[0] == "duration" and kinds[1] == "duration":
        a, b = _micros(a), _micros(b)
        _refuse_zero(context, call, a, b)
        return Value(_quotient(a, b), optional_if(FLOAT, a, b))
    if kinds[0] == "duration" and kinds[1] in _NUMBERS:
        _refuse_zero(context, call, a, b)
        return _rounded(context, call, _quotient(_micros(a), b), optional_if(DURATION, a, b))
    raise mismatch(call, [a, b], "numbers, durations, or a duration and a number")


@rule("floordiv")
def _floordiv(context: Context, call: Call, a: Value, b: Value) -> Value:
    kinds = _kinds(call, a, b)
    if kinds == ("int", "int"):
        return Value(_floor_ints(context, call, a, b), optional_if(INT, a, b))
    if _numbers(a, b):
        _refuse_zero(context, call, a, b)
        return Value(per_column([a, b], np.floor_divide), optional_if(FLOAT, a, b))
    if kinds == ("duration", "duration"):
        return Value(_floor_ints(context, call, _micros(a), _micros(b)), optional_if(INT, a, b))
    if kinds == ("duration", "int"):
        return _of_micros(_floor_ints(context, call, _micros(a), b), optional_if(DURATION, a, b))
    raise mismatch(call, [a, b], "numbers, durations, or a duration and an int")


@rule("mod")
def _mod(context: Context, call: Call, a: Value, b: Value) -> Value:
    kinds = _kinds(call, a, b)
    if kinds == ("int", "int"):
        return Value(_modulo_ints(context, call, a, b), optional_if(INT, a, b))
    if _numbers(a, b):
        _refuse_zero(context, call, a, b)
        return Value(per_column([a, b], np.remainder), optional_if(FLOAT, a, b))
    if kinds == ("duration", "duration"):
        return _of_micros(_modulo_ints(context, call, _micros(a), _micros(b)), optional_if(DURATION, a, b))
    raise mismatch(call, [a, b], "numbers or durations")


@rule("pow")
def _pow(context: Context, call: Call, a: Value, b: Value) -> Value:
    kinds = _kinds(call, a, b)
    if not _numbers(a, b):
        raise mismatch(call, [a, b], "numbers")
    if kinds == ("int", "int") and not (b.known and b.constant < 0):
        if not b.known:
            context.fails(call, _where_there(b.expr < 0, a), "a negative exponent of an int; cast the base to float")
        # Only the powers of 0, 1 and -1 fit beyond the 63rd, and of them only the parity counts.
        exponent = pl.when(b.expr > 63).then(64 + b.expr % 2).otherwise(b.expr.clip(0))
        exact = a.expr.cast(pl.Float64) ** exponent
        # Below 2**63 no power of an exponent above 1 comes so near to it that a float could not tell.
        context.fails(call, (exponent > 1) & ((exact >= 2.0**63) | (exact < -(2.0**63))), OVERFLOW)
        return Value(a.expr**exponent, optional_if(INT, a, b))
    base, exponent = _float(a), _float(b)
    context.fails(call, (base == 0) & (exponent < 0), ZERO)
    # 1 ** anything and anything ** 0 are 1 for Polars also where an operand is None.
    result = pl.when(base.is_not_null() & exponent.is_not_null()).then(base**exponent)
    return Value(result, optional_if(FLOAT, a, b))


@rule("neg")
def _neg(context: Context, call: Call, a: Value) -> Value:
    (kind,) = _kinds(call, a)
    if kind == "float":
        return Value(-a.expr, a.dtype)
    if kind in ("int", "duration"):
        number = _micros(a) if kind == "duration" else a
        context.fails(call, number.expr == MIN, OVERFLOW)
        return _of_micros(-number.expr, a.dtype) if kind == "duration" else Value(-a.expr, a.dtype)
    raise mismatch(call, [a], "a number or duration")


@rule("abs")
def _abs(context: Context, call: Call, a: Value) -> Value:
    (kind,) = _kinds(call, a)
    if kind == "float":
        return Value(a.expr.abs(), a.dtype)
    if kind in ("int", "duration"):
        number = _micros(a) if kind == "duration" else a
        context.fails(call, number.expr == MIN, OVERFLOW)
        # Polars' own abs of the smallest int is not defined the same in every version.
        positive = pl.when(number.expr < 0).then(-number.expr).otherwise(number.expr)
        return _of_micros(positive, a.dtype) if kind == "duration" else Value(positive, a.dtype)
    raise mismatch(call, [a], "a number or duration")


@rule("num.round")
def _round(context: Context, call: Call, a: Value) -> Value:
    _kinds(call, a)
    decimals = call.options["decimals"]
    if not isinstance(decimals, int) or isinstance(decimals, bool):
        raise GraphError(f"{call!r}: decimals must be an int, the same for every row.")
    if a.kind not in _NUMBERS:
        raise mismatch(call, [a], "numbers")
    if decimals >= 0:
        return Value(a.expr.round(decimals), a.dtype) if a.kind == "float" else a
    if a.kind == "float":
        scale = 10.0**-decimals
        return Value((a.expr / scale).round() * scale, a.dtype)
    rounded = per_row([a], partial(_round_int, decimals), INT)
    context.fails(call, rounded.expr.is_null() & a.expr.is_not_null(), OVERFLOW)
    return rounded


def _round_int(decimals: int, value: int) -> int | None:
    result = round(value, decimals)
    return result if MIN <= result <= MAX else None


@rule("num.fill_na")
def _fill_na(context: Context, call: Call, a: Value, default: Value) -> Value:
    if a.kind not in _NUMBERS or default.kind not in _NUMBERS:
        raise mismatch(call, [a, default], "numbers")
    dtype = common(call, [a, default])
    filled = a.to(dtype)
    filled = filled.fill_nan(None) if dtype.kind == "float" else filled
    return Value(filled.fill_null(default.to(dtype)), DType(dtype.kind, default.optional))


def _rounded(context: Context, call: Call, micros: pl.Expr, dtype: DType) -> Value:
    """A float of microseconds as a duration."""
    whole = micros.round().cast(pl.Int64, strict=False)
    context.fails(call, whole.is_null() & micros.is_not_null(), OVERFLOW)
    return _of_micros(whole, dtype)
