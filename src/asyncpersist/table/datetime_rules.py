"""Rules of ``.dt``. In memory all of it is a count of microseconds."""

from __future__ import annotations

import datetime
import re
import zoneinfo
from functools import partial

import polars as pl

from asyncpersist.dtypes import DType
from asyncpersist.errors import GraphError
from asyncpersist.table.expression import Call
from asyncpersist.table.rules import Context, Value, mismatch, optional_if, rule

__all__: list[str] = []

INT, FLOAT, STR, DURATION = DType("int"), DType("float"), DType("str"), DType("duration")
NAIVE, UTC = DType("naive_datetime"), DType("utc_datetime")

_TIMES = ("naive_datetime", "utc_datetime")
_PARTS = ("year", "month", "day", "hour", "minute", "second", "millisecond", "microsecond", "nanosecond", "weekday")
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def _refuse(call: Call, a: Value, kinds: tuple[str, ...]) -> None:
    if a.kind not in kinds:
        raise mismatch(call, [a], " or ".join(kinds))


@rule(*(f"dt.{part}" for part in _PARTS))
def _part(context: Context, call: Call, a: Value) -> Value:
    _refuse(call, a, _TIMES)
    name = call.op.removeprefix("dt.")
    part: pl.Expr = getattr(a.expr.dt, name)().cast(pl.Int64)
    return Value(part - 1 if name == "weekday" else part, optional_if(INT, a))


@rule("dt.total")
def _total(context: Context, call: Call, a: Value) -> Value:
    _refuse(call, a, ("duration",))
    micros, unit = a.expr.cast(pl.Int64), call.options["unit"]
    down = micros // unit
    towards_zero = pl.when((micros < 0) & (micros % unit != 0)).then(down + 1).otherwise(down)
    return Value(micros if unit == 1 else towards_zero, optional_if(INT, a))


@rule("dt.strftime")
def _strftime(context: Context, call: Call, a: Value) -> Value:
    _refuse(call, a, _TIMES)
    template = _translated(call.options["format"], parse=False)
    probe = pl.Series([datetime.datetime(2000, 1, 1)]).cast(a.dtype.polars)
    _try(call, partial(probe.dt.strftime, template))
    return Value(a.expr.dt.strftime(template), optional_if(STR, a))


@rule("dt.strptime")
def _strptime(context: Context, call: Call, a: Value) -> Value:
    _refuse(call, a, ("str",))
    template, dtype = _translated(call.options["format"], parse=True), UTC if call.options["zoned"] else NAIVE
    to = pl.Datetime("us", "UTC" if call.options["zoned"] else None)
    _try(call, partial(pl.Series(["x"]).str.strptime, to, template, strict=False))
    parsed = a.expr.str.strptime(to, template, strict=False)
    why = f"the text is no date of the form {call.options['format']!r}"
    context.fails(call, parsed.is_null() & a.expr.is_not_null(), why)
    return Value(parsed, optional_if(dtype, a))


def _translated(template: str, *, parse: bool) -> str:
    """Python's ``%f`` is microseconds, the fraction of the second; Polars' is nanoseconds."""
    if parse:
        template = re.sub(r"(?<!%)((?:%%)*)\.%f", r"\1%.f", template)
    return re.sub(r"(?<!%)((?:%%)*)%f", r"\1%6f", template)


def _try(call: Call, probe: partial[pl.Series]) -> None:
    try:
        probe()
    except pl.exceptions.PolarsError as exc:
        raise GraphError(f"{call!r}: the format {call.options['format']!r} is not understood.") from exc


@rule("dt.timestamp")
def _timestamp(context: Context, call: Call, a: Value) -> Value:
    _refuse(call, a, _TIMES)
    micros, unit = a.expr.cast(pl.Int64), call.options["unit"]
    if unit is None:
        limit = (2**63 - 1) // 1000
        context.fails(call, (micros > limit) | (micros < -limit), "its nanoseconds do not fit 64 bits")
        return Value(micros * 1000, optional_if(INT, a))
    return Value(micros.cast(pl.Float64) / (1_000_000 / _PER_SECOND[unit]), optional_if(FLOAT, a))


@rule("dt.from_timestamp", "dt.utc_from_timestamp")
def _from_timestamp(context: Context, call: Call, a: Value) -> Value:
    _refuse(call, a, ("int", "float"))
    per_second = _PER_SECOND[call.options["unit"]]
    if a.kind == "int":
        wide = a.expr.cast(pl.Int128) * 1_000_000 // per_second
    else:
        wide = (a.expr * (1_000_000 / per_second)).round()
    micros = wide.cast(pl.Int64, strict=False)
    context.fails(call, micros.is_null() & a.expr.is_not_null(), "no date is so far away")
    dtype = NAIVE if call.op == "dt.from_timestamp" else UTC
    return Value(micros.cast(dtype.polars), optional_if(dtype, a))


def _zone(call: Call) -> str:
    name: str = call.options["timezone"]
    try:
        zoneinfo.ZoneInfo(name)
        pl.Series([datetime.datetime(2000, 1, 1)]).dt.replace_time_zone(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError, pl.exceptions.PolarsError) as exc:
        raise GraphError(f"{call!r}: there is no time zone {name!r}.") from exc
    return name


@rule("dt.to_utc")
def _to_utc(context: Context, call: Call, a: Value) -> Value:
    _refuse(call, a, ("naive_datetime",))
    local = a.expr.dt.replace_time_zone(_zone(call), ambiguous="earliest", non_existent="null")
    context.fails(call, local.is_null() & a.expr.is_not_null(), "the zone has no such time: its clocks go forward then")
    return Value(local.dt.convert_time_zone("UTC"), optional_if(UTC, a))


@rule("dt.to_naive_in_timezone")
def _to_naive(context: Context, call: Call, a: Value) -> Value:
    _refuse(call, a, ("utc_datetime",))
    local = a.expr.dt.convert_time_zone(_zone(call)).dt.replace_time_zone(None)
    return Value(local, optional_if(NAIVE, a))


@rule("dt.floor", "dt.round")
def _floor(context: Context, call: Call, a: Value) -> Value:
    _refuse(call, a, (*_TIMES, "duration"))
    micros, step = a.expr.cast(pl.Int64), call.options["step"]
    # Far from the ends of 64 bits, where dates are.
    shifted = micros + step // 2 if call.op == "dt.round" else micros
    return Value((shifted - shifted % step).cast(a.dtype.polars), a.dtype)


@rule("dt.to_duration")
def _to_duration(context: Context, call: Call, a: Value) -> Value:
    _refuse(call, a, ("int",))
    unit = call.options["unit"]
    limit = (2**63 - 1) // unit
    context.fails(call, (a.expr > limit) | (a.expr < -limit), "the duration does not fit 64 bits of microseconds")
    return Value((a.expr * unit).cast(pl.Duration("us")), optional_if(DURATION, a))
