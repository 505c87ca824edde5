"""How much of a run no committed snapshot covers yet, and since when."""

from __future__ import annotations

from asyncpersist.clock import Clock

__all__ = ["Uncommitted"]


class Uncommitted:
    """What came since the last barrier is *fresh*; what a snapshot covers that is still being written is *captured*."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._fresh = self._captured = 0
        self._fresh_since: float | None = None
        self._captured_since: float | None = None

    def add(self, size: int) -> None:
        """Takes in so many bytes of input."""
        self._fresh += size

    def change(self) -> None:
        """Says that something has changed that a snapshot would hold."""
        if self._fresh_since is None:
            self._fresh_since = self._clock.monotonic()

    def capture(self) -> None:
        """Says that all that is fresh was captured."""
        self._captured, self._fresh = self._fresh, 0
        self._captured_since, self._fresh_since = self._fresh_since, None

    def commit(self) -> None:
        """Says that what was captured is committed."""
        self._captured, self._captured_since = 0, None

    @property
    def bytes(self) -> int:
        return self._fresh + self._captured

    @property
    def is_being_written(self) -> bool:
        """Whether a snapshot is under way that will make it less."""
        return bool(self._captured)

    @property
    def age(self) -> float:
        """Seconds since what is committed was the present; 0 if it is."""
        since = self._fresh_since if self._captured_since is None else self._captured_since
        return 0.0 if since is None else self._clock.monotonic() - since
