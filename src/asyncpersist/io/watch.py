"""When to look again at files: a period is the truth, what the system tells of changes is a hint."""

from __future__ import annotations

import asyncio
import glob
import logging
import os
import threading
from typing import Protocol

import watchfiles

from asyncpersist.clock import Clock
from asyncpersist.io.scan import base_of

__all__ = ["Rounds", "Watch"]

logger = logging.getLogger("asyncpersist")

PERIOD = 1.0
"""Seconds between two scans if nothing hints at a change."""

_SHARE = 10
"""A scan takes at most about one part in so many of the time."""

_STEP_MS = 20
_DEBOUNCE_MS = 50


class Rounds(Protocol):
    """When a source looks at its files again. Used from one task of one loop."""

    async def wait(self) -> None:
        """Returns when it is time; called after each scan and what came of it."""
        ...

    def scanned(self, seconds: float) -> None:
        """Says how long a scan took."""
        ...

    async def aclose(self) -> None:
        """Frees what is held. Idempotent."""
        ...


class Watch:
    """`Rounds` by the clock and by what the system tells of changes below `path`, until `aclose`."""

    def __init__(self, path: str, clock: Clock, *, period: float = PERIOD) -> None:
        self._clock = clock
        self._period = period
        self._loop = asyncio.get_running_loop()
        self._hint = asyncio.Event()
        self._stop = threading.Event()
        self._ended = asyncio.Event()
        self._last = clock.monotonic()
        self._pause = 0.0
        self._thread = threading.Thread(target=self._follow, args=(path,), name="asyncpersist-watch", daemon=True)
        self._thread.start()

    async def wait(self) -> None:
        rest = self._last + self._pause - self._clock.monotonic()
        if rest > 0:
            await asyncio.sleep(rest)
        rest = max(self._period, self._pause) - (self._clock.monotonic() - self._last)
        try:
            async with asyncio.timeout(max(rest, 0.0)):
                await self._hint.wait()
        except TimeoutError:
            pass
        self._hint.clear()

    def scanned(self, seconds: float) -> None:
        self._last = self._clock.monotonic()
        self._pause = seconds * (_SHARE - 1)

    async def aclose(self) -> None:
        self._stop.set()
        await asyncio.to_thread(self._thread.join)

    def _follow(self, path: str) -> None:
        directory = path
        try:
            directory, recursive = _watched(path)
            os.stat(directory)  # a missing one would be watched in vain, without a word
            for _ in watchfiles.watch(
                directory,
                watch_filter=None,
                debounce=_DEBOUNCE_MS,
                step=_STEP_MS,
                stop_event=self._stop,
                recursive=recursive,
                raise_interrupt=False,
                ignore_permission_denied=True,
            ):
                self._tell()
        except Exception as exc:  # whatever it is, there is the period
            logger.warning("no hints of changes in %s (%s): it is looked at every %g s", directory, exc, self._period)

    def _tell(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._hint.set)
        except RuntimeError:
            self._stop.set()  # the loop is closed


def _watched(path: str) -> tuple[str, bool]:
    """The directory to watch, and whether what lies below it counts."""
    if os.path.isdir(path):
        return path, True
    if os.path.exists(path) or not glob.has_magic(path):
        return os.path.dirname(path) or ".", False
    return base_of(path) or ".", True
