"""For how long answers are gathered before they are given out together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

__all__ = ["Gathering"]


class Gathering:
    """`seconds` after the first answer it is `due`, and `wake` is called in the loop; with 0 or None at once."""

    def __init__(self, seconds: float | None, *, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
        self._seconds = seconds
        self._loop = loop
        self._wake = wake
        self._timer: asyncio.TimerHandle | None = None
        self.due = False
        """For the loop's thread."""

    def answered(self, *, at_once: bool = False) -> None:
        """There is an answer. `at_once`: it waits for no others. From any thread."""
        self._post(self._begin, at_once)

    def take(self) -> None:
        """What has been answered is about to be given out. From any thread."""
        self._post(self._reset)

    def _post(self, step: Callable[..., None], *given: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
            self._loop.call_soon_threadsafe(step, *given)

    def _begin(self, at_once: bool) -> None:
        if at_once or not self._seconds:
            self._end()
        elif self._timer is None and not self.due:
            self._timer = self._loop.call_later(self._seconds, self._end)

    def _end(self) -> None:
        self._reset()
        self.due = True
        self._wake()

    def _reset(self) -> None:
        self.due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
