"""The clock of logical time."""

from __future__ import annotations

import anyio

from asyncpersist.clock import Clock

__all__ = ["EpochClock"]


class EpochClock:
    """Gives epochs: even ints, milliseconds of wall time, each at least the last one + 2.

    The base is the larger of the wall clock and `last + 2`; from there the monotonic clock advances it, so that a wall
    clock set back changes nothing within a run and never makes an epoch come twice over runs.
    """

    def __init__(self, clock: Clock, last: int) -> None:
        self._clock = clock
        self._base = max(int(clock.wall() * 1000), last + 2)
        self._origin = clock.monotonic()
        self.last = last

    def pause(self) -> float:
        """The seconds to wait before the next epoch may start: never before its own number on the clock."""
        return max(0.0, (self.last + 2 - self._now()) / 1000)

    def next(self) -> int:
        """The next epoch; after `pause`."""
        self.last = max(int(self._now()) // 2 * 2, self.last + 2)
        return self.last

    async def next_one(self) -> int:
        """The next epoch, once it may start."""
        if pause := self.pause():
            await anyio.sleep(pause)
        return self.next()

    def _now(self) -> float:
        return self._base + (self._clock.monotonic() - self._origin) * 1000
