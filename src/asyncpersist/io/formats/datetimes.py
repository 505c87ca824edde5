"""Columns of ISO 8601 text as columns of date and time."""

from __future__ import annotations

import itertools
import re

import polars as pl

from asyncpersist.dtypes import DType
from asyncpersist.io.formats.format import Broken
from asyncpersist.io.formats.values import from_text

__all__ = ["to_datetimes"]

_DATE = "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?"
_ZONES = {"naive_datetime": [""], "utc_datetime": ["Z", "+00:00"]}


def to_datetimes(column: pl.Series, dtype: DType) -> pl.Series:
    """Text as a column of `dtype`, a kind of date and time; None stays None. Raises `Broken`."""
    for separator, zone in itertools.product("T ", _ZONES[dtype.kind]):
        pattern = f"{_DATE}{separator}{_TIME}{re.escape(zone)}$"
        if column.str.contains(pattern).all():
            try:
                parsed = column.str.strip_suffix(zone) if zone else column
                parsed = parsed.str.to_datetime(f"%Y-%m-%d{separator}%H:%M:%S%.f", time_unit="us", strict=True)
            except pl.exceptions.PolarsError as exc:
                raise Broken from exc
            return parsed.dt.replace_time_zone("UTC") if zone else parsed
    values = [None if text is None else from_text(text, dtype) for text in column.to_list()]
    return pl.Series(column.name, values, dtype=dtype.polars)
