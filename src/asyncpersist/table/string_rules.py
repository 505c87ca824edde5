"""Rules of ``.str``. What Polars has no counterpart of sees rows one by one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import polars as pl

from asyncpersist.dtypes import DType
from asyncpersist.table.expression import Call
from asyncpersist.table.rules import Context, Value, mismatch, optional_if, per_row, rule

__all__: list[str] = []

STR, INT, BOOL = DType("str"), DType("int"), DType("bool")


def _texts(call: Call, values: tuple[Value, ...], kinds: str = "") -> None:
    """Refuses all but text, and at the end as many ints as `kinds` is long."""
    wanted = ["str"] * (len(values) - len(kinds)) + ["int"] * len(kinds)
    if [value.kind for value in values] != wanted:
        raise mismatch(call, values, " and ".join(wanted))


def _plain(name: str) -> Callable[[pl.Expr], pl.Expr]:
    return lambda expr: getattr(expr.str, name)()


_PLAIN = {
    "str.lower": _plain("to_lowercase"),
    "str.upper": _plain("to_uppercase"),
    "str.reversed": _plain("reverse"),
}
_PAIRS: dict[str, Callable[[pl.Expr, pl.Expr], pl.Expr]] = {
    "str.startswith": lambda a, b: a.str.starts_with(b),
    "str.endswith": lambda a, b: a.str.ends_with(b),
    "str.removeprefix": lambda a, b: a.str.strip_prefix(b),
    "str.removesuffix": lambda a, b: a.str.strip_suffix(b),
}


@rule(*_PLAIN)
def _whole(context: Context, call: Call, a: Value) -> Value:
    _texts(call, (a,))
    return Value(_PLAIN[call.op](a.expr), a.dtype)


@rule("str.swapcase", "str.title")
def _case(context: Context, call: Call, a: Value) -> Value:
    _texts(call, (a,))
    return per_row([a], str.swapcase if call.op == "str.swapcase" else str.title, STR)


@rule("str.len")
def _len(context: Context, call: Call, a: Value) -> Value:
    _texts(call, (a,))
    return Value(a.expr.str.len_chars().cast(pl.Int64), optional_if(INT, a))


@rule("str.strip")
def _strip(context: Context, call: Call, a: Value, *chars: Value) -> Value:
    _texts(call, (a, *chars))
    if not chars:
        return Value(a.expr.str.strip_chars(), a.dtype)
    if chars[0].known:
        return Value(a.expr.str.strip_chars(chars[0].constant), a.dtype)
    return per_row([a, *chars], str.strip, STR)


@rule(*_PAIRS)
def _pair(context: Context, call: Call, a: Value, b: Value) -> Value:
    _texts(call, (a, b))
    both = _PAIRS[call.op](a.expr, b.expr)
    if b.optional:
        both = pl.when(b.expr.is_not_null()).then(both)
    return Value(both, optional_if(BOOL if call.op in ("str.startswith", "str.endswith") else STR, a, b))


@rule("str.count", "str.find", "str.rfind")
def _search(context: Context, call: Call, a: Value, sub: Value, *bounds: Value) -> Value:
    _texts(call, (a, sub, *bounds), "ii" if bounds else "")
    if call.op == "str.count" and not bounds and sub.known and sub.constant:
        found = a.expr.str.count_matches(sub.constant, literal=True).cast(pl.Int64)
        return Value(found, optional_if(INT, a))
    method: Callable[..., int] = getattr(str, call.op.removeprefix("str."))
    return per_row([a, sub, *bounds], method, INT)


@rule("str.replace")
def _replace(context: Context, call: Call, a: Value, old: Value, new: Value, count: Value) -> Value:
    _texts(call, (a, old, new, count), "i")
    if old.known and old.constant and new.known and count.known and count.constant < 0:
        return Value(a.expr.str.replace_all(old.constant, new.constant, literal=True), a.dtype)
    return per_row([a, old, new, count], str.replace, STR)


def _cut(text: str, start: int, end: int) -> str:
    return text[start:end]


@rule("str.slice")
def _slice(context: Context, call: Call, a: Value, start: Value, end: Value) -> Value:
    _texts(call, (a, start, end), "ii")
    if start.known and end.known and start.constant >= 0 and end.constant >= 0:
        return Value(a.expr.str.slice(start.constant, max(end.constant - start.constant, 0)), a.dtype)
    return per_row([a, start, end], _cut, STR)


def _parts(separator: Any, text: str) -> list[str]:
    return text.split(separator)


@rule("str.split")
def _split(context: Context, call: Call, a: Value, separator: Value) -> Value:
    _texts(call, (a, separator))
    dtype = DType("list", args=(STR,))
    if not separator.known or not separator.constant:
        raise mismatch(call, [a, separator], "str and a plain separator that is not empty")
    return per_row([a], partial(_parts, separator.constant), dtype)
