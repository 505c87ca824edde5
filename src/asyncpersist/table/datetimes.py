"""Methods of dates, times and durations: ``this.a.dt``. Everything is exact to the microsecond."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Any

from asyncpersist.errors import GraphError
from asyncpersist.table.expression import Call, ColumnExpression, as_expression

__all__ = ["DateTimeNamespace"]

_UNITS = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "min": 60_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}


@dataclass(frozen=True, slots=True)
class DateTimeNamespace:
    """What a column of `DateTimeNaive`, `DateTimeUtc` or `Duration` can do. Units: ``s``, ``ms``, ``us``, ``ns``."""

    column: ColumnExpression

    def _call(self, op: str, *args: Any, **options: Any) -> ColumnExpression:
        return Call(f"dt.{op}", (self.column, *map(as_expression, args)), options)

    def year(self) -> ColumnExpression:
        """The year."""
        return self._call("year")

    def month(self) -> ColumnExpression:
        """1 to 12."""
        return self._call("month")

    def day(self) -> ColumnExpression:
        """1 to 31."""
        return self._call("day")

    def hour(self) -> ColumnExpression:
        """0 to 23."""
        return self._call("hour")

    def minute(self) -> ColumnExpression:
        """0 to 59."""
        return self._call("minute")

    def second(self) -> ColumnExpression:
        """0 to 59."""
        return self._call("second")

    def millisecond(self) -> ColumnExpression:
        """The milliseconds within the second: 0 to 999."""
        return self._call("millisecond")

    def microsecond(self) -> ColumnExpression:
        """The microseconds within the second: 0 to 999 999."""
        return self._call("microsecond")

    def nanosecond(self) -> ColumnExpression:
        """The nanoseconds within the second, in steps of 1000."""
        return self._call("nanosecond")

    def weekday(self) -> ColumnExpression:
        """0 (Monday) to 6."""
        return self._call("weekday")

    def strftime(self, fmt: str) -> ColumnExpression:
        """As text, by the directives of Python's `strftime`."""
        return self._call("strftime", format=_text(fmt, "strftime"))

    def strptime(self, fmt: str, contains_timezone: bool | None = None) -> ColumnExpression:
        """The date and time that a text spells; an error of the row if it does not.

        With a zone (``%z``) in the format, the result is in UTC; without one, naive.
        """
        fmt = _text(fmt, "strptime")
        zoned = re.search(r"(?<!%)(%%)*%:?z", fmt) is not None
        if contains_timezone is not None and contains_timezone != zoned:
            raise GraphError(
                f"strptime: contains_timezone={contains_timezone}, but the format {fmt!r} has "
                f"{'a' if zoned else 'no'} zone (%z)."
            )
        return self._call("strptime", format=fmt, zoned=zoned)

    def timestamp(self, unit: str | None = None) -> ColumnExpression:
        """The time since 1970 as a float of `unit`; without one, as an int of nanoseconds."""
        return self._call("timestamp", unit=None if unit is None else _unit(unit))

    def from_timestamp(self, unit: str) -> ColumnExpression:
        """The naive date and time at so many `unit` since 1970."""
        return self._call("from_timestamp", unit=_unit(unit))

    def utc_from_timestamp(self, unit: str) -> ColumnExpression:
        """The date and time in UTC at so many `unit` since 1970."""
        return self._call("utc_from_timestamp", unit=_unit(unit))

    def to_utc(self, from_timezone: str) -> ColumnExpression:
        """A naive time, taken as that of a zone, in UTC: the earlier of two; that there is none is an error."""
        return self._call("to_utc", timezone=_text(from_timezone, "to_utc"))

    def to_naive_in_timezone(self, timezone: str) -> ColumnExpression:
        """A UTC time as a clock in the zone shows it."""
        return self._call("to_naive_in_timezone", timezone=_text(timezone, "to_naive_in_timezone"))

    def add_duration_in_timezone(self, duration: Any, timezone: str) -> ColumnExpression:
        """A naive time, taken as that of a zone, so much later."""
        later: ColumnExpression = self.to_utc(timezone) + duration
        return later.dt.to_naive_in_timezone(timezone)

    def subtract_duration_in_timezone(self, duration: Any, timezone: str) -> ColumnExpression:
        """A naive time, taken as that of a zone, so much earlier."""
        earlier: ColumnExpression = self.to_utc(timezone) - duration
        return earlier.dt.to_naive_in_timezone(timezone)

    def subtract_date_time_in_timezone(self, date_time: Any, timezone: str) -> ColumnExpression:
        """The time that passes between two naive times of a zone."""
        return self.to_utc(timezone) - as_expression(date_time).dt.to_utc(timezone)

    def floor(self, duration: datetime.timedelta | str) -> ColumnExpression:
        """The last multiple of `duration` since 1970 that is not later."""
        return self._call("floor", step=_step(duration, "floor"))

    def round(self, duration: datetime.timedelta | str) -> ColumnExpression:
        """The nearest multiple of `duration` since 1970; the later of two."""
        return self._call("round", step=_step(duration, "round"))

    def weeks(self) -> ColumnExpression:
        """The whole weeks of a duration, towards zero."""
        return self._call("total", unit=_UNITS["w"])

    def days(self) -> ColumnExpression:
        """The whole days of a duration, towards zero."""
        return self._call("total", unit=_UNITS["d"])

    def hours(self) -> ColumnExpression:
        """The whole hours of a duration, towards zero."""
        return self._call("total", unit=_UNITS["h"])

    def minutes(self) -> ColumnExpression:
        """The whole minutes of a duration, towards zero."""
        return self._call("total", unit=_UNITS["m"])

    def seconds(self) -> ColumnExpression:
        """The whole seconds of a duration, towards zero."""
        return self._call("total", unit=_UNITS["s"])

    def milliseconds(self) -> ColumnExpression:
        """The whole milliseconds of a duration, towards zero."""
        return self._call("total", unit=_UNITS["ms"])

    def microseconds(self) -> ColumnExpression:
        """The microseconds of a duration."""
        return self._call("total", unit=1)

    def nanoseconds(self) -> ColumnExpression:
        """The nanoseconds of a duration."""
        return self._call("total", unit=1) * 1000

    def to_duration(self, unit: str) -> ColumnExpression:
        """So many `unit` as a duration: ``W``, ``D``, ``h``, ``m``, ``s``, ``ms`` or ``us``."""
        size = _UNITS.get(unit.lower() if isinstance(unit, str) else "")
        if size is None:
            raise GraphError(f"to_duration: {unit!r} is no unit. Use W, D, h, m, s, ms or us.")
        return self._call("to_duration", unit=size)


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise GraphError(f"{where} takes a plain str, the same for every row, not {value!r}.")
    return value


def _unit(unit: str) -> str:
    if unit not in ("s", "ms", "us", "ns"):
        raise GraphError(f"{unit!r} is no unit of a timestamp. Use s, ms, us or ns.")
    return unit


def _step(duration: Any, where: str) -> int:
    """A span in microseconds, given as a timedelta or as text like ``15min``."""
    if isinstance(duration, str):
        parts = re.fullmatch(r"\s*(\d*)\s*([a-zA-Z]+)\s*", duration)
        size = _UNITS.get(parts[2].lower()) if parts else None
        if parts and size:
            duration = datetime.timedelta(microseconds=int(parts[1] or 1) * size)
    if not isinstance(duration, datetime.timedelta) or duration <= datetime.timedelta(0):
        raise GraphError(
            f"{where}: {duration!r} is no span: use a positive timedelta or text like '15min', '1h', '1D'."
        )
    return duration // datetime.timedelta(microseconds=1)
