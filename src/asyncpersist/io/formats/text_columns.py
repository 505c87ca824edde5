"""Columns of text as columns of other types, which may never read a text otherwise than `from_text` does."""

from __future__ import annotations

import polars as pl

from asyncpersist.dtypes import DType
from asyncpersist.io.formats.format import Broken
from asyncpersist.io.formats.slices import slices
from asyncpersist.io.formats.values import from_text

__all__ = ["YEARS", "from_texts"]

YEARS = (-62_135_596_800_000_000, 253_402_300_799_999_999)
"""The first and the last microsecond of Python's years 1 to 9999, counted from 1970."""

_DATE = "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?"
_OFFSET = "[+-]([01][0-9]|2[0-3]):[0-5][0-9]"
_DAY = "%Y-%m-%d"
_CLOCK = "%H:%M:%S%.f"
_NANOSECONDS = "^[+-]?[0-9]{1,18}$"


def from_texts(column: pl.Series, dtype: DType) -> pl.Series:
    """Texts as a column of `dtype`; None stays None. Raises `Broken`."""
    try:
        converted = _at_once(column, dtype)
    except pl.exceptions.PolarsError as exc:
        raise Broken from exc
    return _value_by_value(column, dtype) if converted is None else converted


def _at_once(column: pl.Series, dtype: DType) -> pl.Series | None:
    """None if the type or one of the texts is not common enough."""
    match dtype.kind:
        case "str":
            return column
        case "bool":
            return _bools(column)
        case "naive_datetime":
            return _in_years(_naive_datetimes(column))
        case "utc_datetime":
            return _in_years(_utc_datetimes(column))
        case "duration" if _are(column, _NANOSECONDS):
            return (column.str.strip_prefix("+").cast(pl.Int64) // 1000).cast(dtype.polars)
        case "bytes":
            return _bytes(column)
    return None


def _value_by_value(column: pl.Series, dtype: DType) -> pl.Series:
    parts = [pl.Series(column.name, [], dtype=dtype.polars)]
    lengths = column.str.len_bytes().fill_null(0).cast(pl.Int64)
    for i, j in slices(lengths.cum_sum().to_numpy()):
        values = [None if text is None else from_text(text, dtype) for text in column.slice(i, j - i).to_list()]
        parts.append(pl.Series(column.name, values, dtype=dtype.polars))
    return pl.concat(parts, rechunk=True)


def _bools(column: pl.Series) -> pl.Series:
    lower = column.str.to_lowercase()
    true, false = lower.is_in(["true", "1"]), lower.is_in(["false", "0"])
    if not (true | false).all():
        raise Broken
    return true


def _bytes(column: pl.Series) -> pl.Series | None:
    try:
        return column.str.decode("base64", strict=True)
    except pl.exceptions.PolarsError:
        return None  # it is stricter


def _naive_datetimes(column: pl.Series) -> pl.Series | None:
    for separator in "T ":
        if _are(column, f"{_DATE}{separator}{_TIME}$"):
            return _parsed(column, f"{_DAY}{separator}{_CLOCK}")
    return _parsed(column, _DAY) if _are(column, f"{_DATE}$") else None


def _utc_datetimes(column: pl.Series) -> pl.Series | None:
    for separator in "T ":
        if _are(column, f"{_DATE}{separator}{_TIME}(Z|[+]00:00)$"):
            parsed = _parsed(column.str.replace(r"(Z|\+00:00)$", ""), f"{_DAY}{separator}{_CLOCK}")
            return parsed.dt.replace_time_zone("UTC")
        if _are(column, f"{_DATE}{separator}{_TIME}(Z|{_OFFSET})$"):
            return _parsed(column.str.replace("Z$", "+00:00"), f"{_DAY}{separator}{_CLOCK}%z")
    return None


def _are(column: pl.Series, pattern: str) -> bool:
    return column.str.contains(pattern).all()


def _parsed(column: pl.Series, format: str) -> pl.Series:
    return column.str.to_datetime(format, time_unit="us", strict=True)


def _in_years(column: pl.Series | None) -> pl.Series | None:
    if column is not None and not column.to_physical().is_between(*YEARS).all():
        raise Broken
    return column
