"""The paid service that functions ask."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.udfs.server import PaidServer, serving


@pytest.fixture
def paid() -> Iterator[PaidServer]:
    """A service of the test's own."""
    with serving() as server:
        yield server
