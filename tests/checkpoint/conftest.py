import pytest

from asyncpersist.testing.clocks import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()
