"""``.str``, ``.dt`` and ``.num`` against Python's own methods."""

from __future__ import annotations

import datetime
import math
import zoneinfo
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncpersist.dtypes import DateTimeUtc
from asyncpersist.errors import GraphError, RowError
from asyncpersist.table.this import this
from tests.examples import examples
from tests.table.pieces import table, value_of

texts = st.text(alphabet="aAbB .$é\n😀ß", max_size=8)
positions = st.integers(-9, 9)


@given(s=texts, t=texts, u=texts, i=positions, j=positions)
@examples(40)
def test_text(s: str, t: str, u: str, i: int, j: int) -> None:
    types = {"s": str, "t": str, "u": str, "i": int, "j": int}
    row = {"s": s, "t": t, "u": u, "i": i, "j": j}
    column = this.s.str
    cases: list[tuple[Any, Any]] = [
        (column.len(), len(s)),
        (column.upper(), s.upper()),
        (column.lower(), s.lower()),
        (column.swapcase(), s.swapcase()),
        (column.title(), s.title()),
        (column.strip(), s.strip()),
        (column.strip("a."), s.strip("a.")),
        (column.strip(this.t), s.strip(t)),
        (column.startswith(this.t), s.startswith(t)),
        (column.endswith(t), s.endswith(t)),
        (column.removeprefix(t), s.removeprefix(t)),
        (column.removesuffix(this.t), s.removesuffix(t)),
        (column.count(t), s.count(t)),
        (column.count(this.t), s.count(t)),
        (column.count(t, 1, 5), s.count(t, 1, 5)),
        (column.find(t), s.find(t)),
        (column.find(t, this.i), s.find(t, i)),
        (column.rfind(this.t, i, j), s.rfind(t, i, j)),
        (column.replace(t, u), s.replace(t, u)),
        (column.replace(this.t, this.u), s.replace(t, u)),
        (column.replace(t, u, 1), s.replace(t, u, 1)),
        (column.slice(i, j), s[i:j]),
        (column.slice(this.i, this.j), s[i:j]),
    ]
    if t:
        cases.append((column.split(t), s.split(t)))
    for expression, expected in cases:
        assert value_of(expression, types, row) == expected, expression


@given(s=st.text(alphabet="aé😀", max_size=6))
@examples(20)
def test_reversed(s: str) -> None:
    assert value_of(this.s.str.reversed(), {"s": str}, {"s": s}) == s[::-1]


@pytest.mark.parametrize(
    "expression",
    [
        this.s.str.len(),
        this.s.str.title(),
        this.t.str.startswith(this.s),
        this.s.str.find("a"),
        this.t.str.removeprefix(this.s),
        this.s.str.split(","),
        this.s.str.parse_int(),
        this.s.str.parse_bool(),
        this.t.str.replace(this.s, "x"),
    ],
)
def test_none_stays_none(expression: Any) -> None:
    assert value_of(expression, {"s": str | None, "t": str}, {"s": None, "t": "abc"}) is None


def test_parse_bool() -> None:
    types = {"s": str}
    assert value_of(this.s.str.parse_bool(), types, {"s": "Yes"}) is True
    assert value_of(this.s.str.parse_bool(["ja"], ["nein"]), types, {"s": "NEIN"}) is False
    assert value_of(this.s.str.parse_bool(optional=True), types, {"s": "perhaps"}) is None
    with pytest.raises(RowError, match=r"s='perhaps'"):
        value_of(this.s.str.parse_bool(), types, {"s": "perhaps"})


moments = st.datetimes(datetime.datetime(1800, 1, 1), datetime.datetime(2200, 1, 1))
EPOCH = datetime.datetime(1970, 1, 1)


@given(t=moments)
@examples(30)
def test_parts_of_dates(t: datetime.datetime) -> None:
    types, row = {"t": datetime.datetime}, {"t": t}
    since = t - EPOCH
    micros = since // datetime.timedelta(microseconds=1)
    hour = datetime.timedelta(hours=1)
    for expression, expected in [
        (this.t.dt.year(), t.year),
        (this.t.dt.month(), t.month),
        (this.t.dt.day(), t.day),
        (this.t.dt.hour(), t.hour),
        (this.t.dt.minute(), t.minute),
        (this.t.dt.second(), t.second),
        (this.t.dt.millisecond(), t.microsecond // 1000),
        (this.t.dt.microsecond(), t.microsecond),
        (this.t.dt.nanosecond(), t.microsecond * 1000),
        (this.t.dt.weekday(), t.weekday()),
        (this.t.dt.timestamp(), micros * 1000),
        (this.t.dt.timestamp("us"), float(micros)),
        (this.t.dt.strftime("%Y-%m-%d %H:%M:%S.%f %%f"), t.strftime("%Y-%m-%d %H:%M:%S.%f %%f")),
        (this.t.dt.strftime("%Y%m%d%H%M%S%f").dt.strptime("%Y%m%d%H%M%S%f"), t),
        (this.t.dt.strftime("%Y-%m-%d %H:%M:%S.%f").dt.strptime("%Y-%m-%d %H:%M:%S.%f"), t),
        (this.t.dt.floor("1h"), t - since % hour),
        (this.t.dt.floor(datetime.timedelta(hours=1)), t - since % hour),
        (this.t.dt.round("1h"), t - since % hour + (hour if since % hour * 2 >= hour else hour * 0)),
    ]:
        assert value_of(expression, types, row) == expected, expression
    assert value_of(this.t.dt.timestamp("s"), types, row) == pytest.approx(since.total_seconds())


@given(d=st.timedeltas(datetime.timedelta(-(10**4)), datetime.timedelta(10**4)))
@examples(30)
def test_parts_of_durations(d: datetime.timedelta) -> None:
    micros = d // datetime.timedelta(microseconds=1)
    for method, unit in [
        ("weeks", 604_800_000_000),
        ("days", 86_400_000_000),
        ("hours", 3_600_000_000),
        ("minutes", 60_000_000),
        ("seconds", 1_000_000),
        ("milliseconds", 1000),
        ("microseconds", 1),
    ]:
        towards_zero = abs(micros) // unit * (1 if micros >= 0 else -1)
        assert value_of(getattr(this.d.dt, method)(), {"d": datetime.timedelta}, {"d": d}) == towards_zero
    assert value_of(this.d.dt.nanoseconds(), {"d": datetime.timedelta}, {"d": d}) == micros * 1000


@given(n=st.integers(-(10**9), 10**9))
@examples(15)
def test_dates_from_numbers(n: int) -> None:
    types, row = {"n": int}, {"n": n}
    assert value_of(this.n.dt.from_timestamp("ms"), types, row) == EPOCH + datetime.timedelta(milliseconds=n)
    utc = EPOCH.replace(tzinfo=datetime.UTC) + datetime.timedelta(seconds=n)
    assert value_of(this.n.dt.utc_from_timestamp("s"), types, row) == utc
    assert value_of(this.n.dt.to_duration("ms"), types, row) == datetime.timedelta(milliseconds=n)


def test_dates_that_are_too_far() -> None:
    with pytest.raises(RowError):
        value_of(this.n.dt.from_timestamp("s"), {"n": int}, {"n": 2**60})
    with pytest.raises(RowError):
        value_of(this.n.dt.to_duration("W"), {"n": int}, {"n": 2**60})


def test_zones() -> None:
    types = {"t": datetime.datetime, "u": DateTimeUtc}
    paris = zoneinfo.ZoneInfo("Europe/Paris")
    local = datetime.datetime(2024, 7, 1, 12, 30)
    utc = local.replace(tzinfo=paris).astimezone(datetime.UTC)
    row = {"t": local, "u": utc}
    assert value_of(this.t.dt.to_utc("Europe/Paris"), types, row) == utc
    assert value_of(this.u.dt.to_naive_in_timezone("Europe/Paris"), types, row) == local
    day = datetime.timedelta(days=1)
    assert value_of(this.t.dt.add_duration_in_timezone(day, "Europe/Paris"), types, row) == local + day
    gap = {"t": datetime.datetime(2024, 3, 31, 2, 30), "u": utc}
    with pytest.raises(RowError, match="no such time"):
        value_of(this.t.dt.to_utc("Europe/Paris"), types, gap)


def test_strptime() -> None:
    types = {"s": str}
    zoned = this.s.dt.strptime("%Y-%m-%dT%H:%M:%S%z")
    assert str(table(**types).select(x=zoned).columns["x"]) == "utc_datetime"
    expected = datetime.datetime(2024, 1, 1, 11, tzinfo=datetime.UTC)
    assert value_of(zoned, types, {"s": "2024-01-01T12:00:00+0100"}) == expected
    assert value_of(this.s.dt.strptime("%d.%m.%Y"), types, {"s": "02.01.2024"}) == datetime.datetime(2024, 1, 2)
    with pytest.raises(RowError, match="no date of the form"):
        value_of(this.s.dt.strptime("%d.%m.%Y"), types, {"s": "2024"})


@pytest.mark.parametrize("value", [math.nan, None, 2.5, -0.0])
def test_fill_na(value: float | None) -> None:
    expected = 7.0 if value is None or math.isnan(value) else value
    assert value_of(this.f.num.fill_na(7), {"f": float | None}, {"f": value}) == expected


@given(f=st.floats(-1e6, 1e6))
@examples(15)
def test_round(f: float) -> None:
    assert value_of(this.f.num.round(2), {"f": float}, {"f": f}) == pytest.approx(round(f, 2), abs=0.0100001)
    assert value_of(this.f.num.round(), {"f": float}, {"f": f}) == round(f)


@pytest.mark.parametrize(
    "build",
    [
        lambda: this.t.dt.floor("soon"),
        lambda: this.t.dt.floor(datetime.timedelta(0)),
        lambda: this.t.dt.timestamp("fortnights"),
        lambda: this.a.dt.to_duration("x"),
        lambda: table(t=datetime.datetime).select(x=this.t.dt.to_utc("Nowhere/None")),
        lambda: table(t=datetime.datetime).select(x=this.t.dt.hours()),
        lambda: table(s=str).select(x=this.s.dt.year()),
        lambda: table(s=str).select(x=this.s.str.find(1)),
        lambda: table(s=str).select(x=this.s.num.abs()),
        lambda: this.s.dt.strptime("%Y", contains_timezone=True),
    ],
)
def test_wrong_arguments_are_refused(build: Any) -> None:
    with pytest.raises(GraphError):
        build()
