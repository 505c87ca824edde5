"""What happens after a call has failed: how often it is made again, and after how long."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = [
    "AsyncRetryStrategy",
    "ExponentialBackoffRetryStrategy",
    "FixedDelayRetryStrategy",
    "NoRetryStrategy",
]


class AsyncRetryStrategy(ABC):
    """A strategy of one's own gives the pauses between the attempts; when they end, the failure stands."""

    @abstractmethod
    def delays(self, chance: Callable[[], float]) -> Iterator[float]:
        """For one call: the seconds to wait after its first failure, after its second, and so on.

        `chance` gives a random number from 0 up to but not including 1.
        """


@dataclass(frozen=True, slots=True)
class NoRetryStrategy(AsyncRetryStrategy):
    """A call is made once."""

    def delays(self, chance: Callable[[], float]) -> Iterator[float]:
        return iter(())


@dataclass(frozen=True, slots=True)
class FixedDelayRetryStrategy(AsyncRetryStrategy):
    """A failed call is made again up to `max_retries` times, `delay_ms` milliseconds after it failed.

    Raises `ValueError` for what is negative or no number.
    """

    max_retries: int = 3
    delay_ms: int = 1000

    def __post_init__(self) -> None:
        _check_count("max_retries", self.max_retries)
        _check_milliseconds("delay_ms", self.delay_ms)

    def delays(self, chance: Callable[[], float]) -> Iterator[float]:
        for _ in range(self.max_retries):
            yield self.delay_ms / 1000


@dataclass(frozen=True, slots=True)
class ExponentialBackoffRetryStrategy(AsyncRetryStrategy):
    """A failed call is made again up to `max_retries` times, each time after a longer pause.

    The first pause is `initial_delay` milliseconds, each further one `backoff_factor` times the one before; up to
    `jitter_ms` milliseconds, drawn anew for every pause, are added, so that calls that failed together do not come back
    together. Raises `ValueError` for what is negative or no number.
    """

    max_retries: int = 3
    initial_delay: int = 1000
    backoff_factor: float = 2
    jitter_ms: int = 300

    def __post_init__(self) -> None:
        _check_count("max_retries", self.max_retries)
        _check_milliseconds("initial_delay", self.initial_delay)
        _check_milliseconds("jitter_ms", self.jitter_ms)
        if not (_is_number(self.backoff_factor) and self.backoff_factor > 0):
            raise ValueError(f"backoff_factor must be a number above 0, not {self.backoff_factor!r}")

    def delays(self, chance: Callable[[], float]) -> Iterator[float]:
        delay = self.initial_delay / 1000
        for _ in range(self.max_retries):
            yield delay + chance() * self.jitter_ms / 1000
            delay *= self.backoff_factor


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_count(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{name} must be a whole number of at least 0, not {value!r}")


def _check_milliseconds(name: str, value: object) -> None:
    if not (_is_number(value) and value >= 0):  # type: ignore[operator]
        raise ValueError(f"{name} must be a number of milliseconds of at least 0, not {value!r}")
