"""Printing that holds nobody up: a terminal that is stopped, or a pipe that nobody reads."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

__all__ = ["PrintingThread"]


class PrintingThread:
    """Does what it is given in order, in a daemon thread; to be used from one thread."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._given = 0
        self._done = 0
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="asyncpersist-printing", daemon=True)
        self._thread.start()

    @property
    def idle(self) -> bool:
        """Whether all that was given is done."""
        return self._done == self._given

    def give(self, job: Callable[[], None]) -> None:
        """Has it done after what was given before; returns at once."""
        self._given += 1
        self._jobs.put(job)

    def raise_failure(self) -> None:
        """Raises what the first job raised that failed, if one did."""
        if self._failure is not None:
            raise self._failure

    def finish(self, seconds: float) -> bool:
        """Waits until all is done, at most so long; whether it is. Nothing may be given after that."""
        self._jobs.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception as exc:
                self._failure = self._failure or exc
            self._done += 1
