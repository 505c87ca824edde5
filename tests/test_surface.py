"""What the package offers under which names, and what it says of names that are documented but not there yet."""

from __future__ import annotations

import pytest

import asyncpersist as ap
from asyncpersist import errors


def test_everything_that_is_listed_is_there() -> None:
    for module in (ap, ap.io, ap.errors, ap.reducers, ap.persistence, ap.udfs):
        assert [name for name in module.__all__ if not hasattr(module, name)] == []


@pytest.mark.parametrize("name", ["coerce_async", "with_capacity", "with_cache_strategy"])
def test_ways_to_say_things_of_functions_that_are_not_built(name: str) -> None:
    assert not hasattr(ap.udfs, name)
    with pytest.raises(errors.Unsupported, match=f"udfs.{name} is not built: say it with executor="):
        getattr(ap.udfs, name)


@pytest.mark.parametrize("name", ["view"])
def test_connectors_that_are_not_built_yet(name: str) -> None:
    assert not hasattr(ap.io, name)
    with pytest.raises(errors.Unsupported, match=f"io.{name} is not built yet; there are csv, fs"):
        getattr(ap.io, name)


def test_other_names_are_plainly_not_there() -> None:
    for module in (ap, ap.io, ap.udfs):
        with pytest.raises(AttributeError, match="has no attribute 'nonsense'") as caught:
            module.nonsense  # noqa: B018
        assert not isinstance(caught.value, errors.Unsupported)
