"""The only user of time, randomness and unique tokens, so that tests can turn them by hand."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from typing import Protocol

__all__ = ["Clock", "SystemClock", "give_way"]


class Clock(Protocol):
    """What the package knows of the world's time and chance."""

    def wall(self) -> float:
        """Seconds since the Unix epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    def token(self) -> str:
        """A new 128-bit token in 32 hexadecimal digits, never given before."""
        ...

    def chance(self) -> float:
        """A random number from 0 up to but not including 1."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Returns when so many seconds have passed on the monotonic clock."""
        ...


class SystemClock:
    """The machine's own clock and entropy."""

    def wall(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def token(self) -> str:
        return secrets.token_hex(16)

    def chance(self) -> float:
        return random.random()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def give_way() -> None:
    """Lets another thread have the interpreter now, and not when its switch interval has passed. Takes some 60 µs.

    The shortest sleep that is one: who gives the interpreter up and takes it again at once mostly gets it itself.
    """
    time.sleep(1e-6)
