"""When snapshots are due."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from asyncpersist.runtime.pace import Pace

SECONDS = st.floats(0.001, 1e4)


def test_without_an_interval_there_are_no_ticks() -> None:
    pace = Pace(0, began=5.0)
    assert pace.remaining(5.0) == math.inf
    pace.took(6.0)
    assert pace.remaining(1e9) == math.inf


def test_the_grid_does_not_drift() -> None:
    """A snapshot that comes late is followed by one that is on time."""
    pace = Pace(10, began=100.0)
    assert pace.remaining(100.0) == 10
    assert pace.remaining(109.0) == 1
    assert pace.remaining(112.0) == 0
    pace.took(112.0)
    assert pace.remaining(112.0) == 8


def test_what_comes_between_ticks_does_not_move_them() -> None:
    pace = Pace(10, began=0.0)
    pace.took(4.0)
    assert pace.remaining(4.0) == 6


def test_missed_ticks_count_as_one() -> None:
    pace = Pace(10, began=0.0)
    assert pace.remaining(57.0) == 0
    pace.took(57.0)
    assert pace.remaining(57.0) == 3


@given(SECONDS, st.floats(0, 1e6), st.lists(SECONDS, max_size=20))
def test_the_next_tick_is_never_further_than_an_interval(interval: float, began: float, steps: list[float]) -> None:
    pace, now = Pace(interval, began=began), began
    for step in steps:
        now += step
        due = pace.remaining(now) == 0
        assert due == (pace._next <= now)
        pace.took(now)
        assert 0 < pace.remaining(now) <= interval + 1e-6 * (1 + now)
