"""Where results of a function are kept for equal arguments: what a user says, as values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

__all__ = ["CacheStrategy", "DefaultCache", "DiskCache", "Durability", "InMemoryCache"]

Durability = Literal["snapshot", "each"]

_SIZE_LIMIT = 1 << 30


class CacheStrategy:
    """Where results are kept; one of the classes below."""

    ttl: timedelta | float | None

    @property
    def seconds(self) -> float | None:
        """For how many seconds a result counts; None: for ever."""
        return self.ttl.total_seconds() if isinstance(self.ttl, timedelta) else self.ttl


@dataclass(frozen=True, slots=True, eq=False)
class InMemoryCache(CacheStrategy):
    """Results are kept in memory, for one run: the last used `max_size` of them; None (default): all.

    `ttl`: for how long a result counts, a `timedelta` or seconds; None (default): for ever. Functions that are given
    the same object share its room.
    """

    max_size: int | None = None
    ttl: timedelta | float | None = None

    def __post_init__(self) -> None:
        if self.max_size is not None:
            _check_size("max_size", self.max_size)
        _check_ttl(self.ttl)


@dataclass(frozen=True, slots=True, eq=False)
class DiskCache(CacheStrategy):
    """Results are kept in the run's backend, whatever it is, and found again by later runs.

    `name`: functions and graphs that use the same name share one cache and its limit; None (default): the function's
    own name. `size_limit`, in bytes (default 1 GiB): beyond it the results used least recently are dropped. A cache
    lies in memory while a run uses it. `ttl`: for how long a result counts, a `timedelta` or seconds; None (default):
    for ever. `durable`: a result is safe with the next snapshot (`"snapshot"`, the default), so that a killed run
    repeats at most the calls since the last one; or it is written before it is used (`"each"`), in groups.

    A run without persistence refuses it.
    """

    name: str | None = None
    size_limit: int = _SIZE_LIMIT
    ttl: timedelta | float | None = None
    durable: Durability = "snapshot"

    def __post_init__(self) -> None:
        if self.name is not None and (not isinstance(self.name, str) or not self.name):
            raise TypeError(f"a cache's name must be a text that is not empty, or None, not {self.name!r}")
        _check_size("size_limit", self.size_limit)
        _check_ttl(self.ttl)
        if self.durable not in ("snapshot", "each"):
            raise ValueError(f'durable must be "snapshot" or "each", not {self.durable!r}')


class DefaultCache(DiskCache):
    """As `DiskCache`, save that without persistence there is none: the function is called each time."""

    __slots__ = ()


def _check_size(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")


def _check_ttl(ttl: object) -> None:
    seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    if seconds is not None and (not isinstance(seconds, int | float) or isinstance(seconds, bool) or not seconds > 0):
        raise ValueError(f"ttl must be a timedelta or a number of seconds above 0, or None, not {ttl!r}")
