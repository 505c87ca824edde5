"""Columns of Parquet files as columns of a schema, without loss.

| kind | from |
|---|---|
| int | any integer that fits 64 bits |
| float | any float; integers that are exact as a float |
| bool, bytes | the same |
| str | text; categories |
| naive_datetime | dates; dates and times without a zone, in whole microseconds |
| utc_datetime | dates and times with a zone, in whole microseconds |
| duration | durations in whole microseconds |
| json | text that is JSON |
| list | lists of any and of fixed length |
| tuple | structs with the fields f0, f1, ... |
| array | structs of `data` and `shape`; lists of numbers, which have one dimension |

A column without a value, which Parquet may write without a type, is one of any kind. Everything else is refused by its
type, before a value is read.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from asyncpersist.dtypes import DType
from asyncpersist.io.formats.format import Broken
from asyncpersist.io.formats.text_columns import YEARS, from_texts
from asyncpersist.io.formats.values import from_text

__all__ = ["Misfit", "accepts", "fitted"]

_EXACT = 2**53
"""Every integer up to this one is exact as a float."""


class Misfit(Broken):
    """`row` is the place of the value in its column."""

    def __init__(self, row: int, message: str) -> None:
        super().__init__(message)
        self.row = row


def accepts(dtype: DType, found: pl.DataType) -> bool:
    """Whether values of the Polars type can be those of the column, judged by the types alone."""
    if isinstance(found, pl.Null):
        return True
    match dtype.kind:
        case "int":
            return found.is_integer()
        case "float":
            return found.is_float() or found.is_integer()
        case "str":
            return isinstance(found, (pl.String, pl.Categorical, pl.Enum))
        case "naive_datetime":
            return isinstance(found, pl.Date) or (isinstance(found, pl.Datetime) and found.time_zone is None)
        case "utc_datetime":
            return isinstance(found, pl.Datetime) and found.time_zone is not None
        case "duration":
            return isinstance(found, pl.Duration)
        case "list":
            inner = _inner(found)
            return inner is not None and accepts(dtype.args[0], inner)
        case "tuple":
            if not isinstance(found, pl.Struct) or [f.name for f in found.fields] != _field_names(dtype):
                return False
            return all(accepts(arg, _instance(f.dtype)) for arg, f in zip(dtype.args, found.fields, strict=True))
        case "array":
            inner = _inner(found)
            return found == dtype.polars or (inner is not None and (inner.is_float() or inner.is_integer()))
        case "pointer":
            return False
    return found == dtype.polars


def fitted(column: pl.Series, dtype: DType, default: pl.Series | None = None) -> pl.Series:
    """The column, whose type is accepted, as one of `dtype`. Where it is None and must not be, `default`'s one value.

    Raises `Misfit`.
    """
    missing = column.is_null()
    fills = default if not dtype.optional else None
    if not missing.any():
        return _converted(column, dtype)
    if not dtype.optional and fills is None:
        raise Misfit(missing.arg_max() or 0, f"expected {dtype}, got None")
    try:
        present = _converted(column.filter(~missing), dtype)
    except Misfit as exc:
        raise Misfit((~missing).arg_true()[exc.row], str(exc)) from exc
    places = pl.Series((~missing).cum_sum() - 1).cast(pl.Int64)
    if fills is not None:
        present = present.append(fills.alias(present.name))
        return present.gather(places.set(missing, len(present) - 1))
    return _at(present, places.set(missing, None))


def _converted(column: pl.Series, dtype: DType) -> pl.Series:
    """As `fitted`, of a column without None; the column itself if there is nothing to convert."""
    if isinstance(column.dtype, pl.Null):
        return column.cast(dtype.polars)
    match dtype.kind:
        case "int" if column.dtype != pl.Int64:
            return _checked(column.cast(pl.Int64, strict=False), column, dtype, "which does not fit 64 bits")
        case "float" if column.dtype.is_integer():
            exact = column.is_between(-_EXACT, _EXACT)
            return _checked(column.cast(pl.Float64).set(~exact, None), column, dtype, "which no float holds exactly")
        case "float" | "str" if column.dtype != dtype.polars:
            return column.cast(dtype.polars)
        case "naive_datetime" | "utc_datetime" | "duration":
            return _whole_microseconds(column, dtype)
        case "json":
            return _json(column, dtype)
        case "list":
            return _list(column, dtype)
        case "tuple":
            return _tuple(column, dtype)
        case "array":
            return _array(column, dtype)
    return column


def _checked(converted: pl.Series, column: pl.Series, dtype: DType, why: str) -> pl.Series:
    """Raises `Misfit` for the first value that became None."""
    if converted.null_count():
        row = converted.is_null().arg_max() or 0
        # Of a moment the number behind it: it may be out of the range of Python's.
        value = column.slice(row, 1).to_physical() if column.dtype.is_temporal() else column.slice(row, 1)
        raise Misfit(row, f"expected {dtype}, got {value[0]} as {column.dtype}, {why}")
    return converted


def _whole_microseconds(column: pl.Series, dtype: DType) -> pl.Series:
    if dtype.kind == "utc_datetime":
        column = column.dt.convert_time_zone("UTC")
    converted = column.cast(dtype.polars, strict=False)
    wrong = converted.to_physical().is_between(*YEARS).not_() if dtype.kind != "duration" else converted.is_null()
    if column.dtype != dtype.polars:
        wrong |= converted.cast(column.dtype, strict=False).ne_missing(column)
    elif not wrong.any():
        return column
    return _checked(converted.set(wrong, None), column, dtype, "which is not in whole microseconds or out of range")


def _json(column: pl.Series, dtype: DType) -> pl.Series:
    try:
        return from_texts(column, dtype)
    except Broken:
        for row in range(len(column)):
            try:
                from_text(column[row], dtype)
            except Broken as exc:
                raise Misfit(row, f"expected {dtype}: {exc}") from exc
        raise


def _list(column: pl.Series, dtype: DType) -> pl.Series:
    if isinstance(column.dtype, pl.Array):
        column = column.arr.to_list()
    lengths = column.list.len()
    full = lengths > 0
    rows = pl.arange(0, len(column), eager=True).filter(full).repeat_by(lengths.filter(full)).explode()
    before = column.filter(full).explode()
    try:
        items = fitted(before, dtype.args[0])
    except Misfit as exc:
        raise Misfit(rows[exc.row], f"in a list: {exc}") from exc
    if items is before:
        return column
    grouped = pl.DataFrame({"row": rows, "items": items}).group_by("row", maintain_order=True).agg("items")["items"]
    lists = grouped.append(pl.Series([[]], dtype=dtype.polars))
    places = (full.cum_sum() - 1).cast(pl.Int64).set(~full, len(lists) - 1)
    return lists.gather(places).alias(column.name)


def _tuple(column: pl.Series, dtype: DType) -> pl.Series:
    fields = []
    for name, arg in zip(_field_names(dtype), dtype.args, strict=True):
        try:
            fields.append(fitted(column.struct.field(name), arg).alias(name))
        except Misfit as exc:
            raise Misfit(exc.row, f"in a tuple: {exc}") from exc
    return pl.DataFrame(fields).to_struct(column.name)


def _array(column: pl.Series, dtype: DType) -> pl.Series:
    lists = {"data": DType("list", args=(DType("float"),)), "shape": DType("list", args=(DType("int"),))}
    if not isinstance(column.dtype, pl.Struct):
        data = _converted(column, lists["data"]).alias("data")
        shape = data.list.len().cast(pl.Int64).alias("shape").reshape((-1, 1)).arr.to_list()
        return pl.DataFrame([data, shape]).to_struct(column.name)
    data, shape = (fitted(column.struct.field(name), kind) for name, kind in lists.items())
    sizes = shape.list.eval(pl.element().product()).list.first()
    wrong = (sizes != data.list.len()) | (shape.list.min() < 0)
    if wrong.any():
        raise Misfit(wrong.arg_max() or 0, f"expected {dtype}, got a shape that its data does not have")
    return column


def _at(values: pl.Series, places: pl.Series) -> pl.Series:
    """The values at these places, None where there is none."""
    if not len(values):
        return pl.Series(values.name, [None], dtype=values.dtype).new_from_index(0, len(places))
    return values.gather(places)


def _inner(found: pl.DataType) -> pl.DataType | None:
    return _instance(found.inner) if isinstance(found, (pl.List, pl.Array)) and found.inner is not None else None


def _instance(dtype: Any) -> pl.DataType:
    instance: pl.DataType = dtype() if isinstance(dtype, type) else dtype
    return instance


def _field_names(dtype: DType) -> list[str]:
    return [f"f{i}" for i in range(len(dtype.args))]
