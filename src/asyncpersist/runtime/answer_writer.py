"""Making answers durable before they are used, for threads that wait for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future

from asyncpersist.runtime.segments import StateSegment
from asyncpersist.udfs.calling.runner import CallsCancelled

__all__ = ["AnswerWriter"]

Put = Callable[[Callable[[], Sequence[StateSegment]]], Awaitable[None]]


class AnswerWriter:
    """`write` is for worker threads, `run` a task of the run's. Made in the loop.

    `put` is `Snapshots.put_answers`; `capture` gives what is new in the tables that are written so, as
    `Caches.capture` does: in a thread, never by two at once.
    """

    def __init__(self, put: Put, capture: Callable[[], Sequence[StateSegment]]) -> None:
        self._put = put
        self._capture = capture
        self._loop = asyncio.get_running_loop()
        self._asked = asyncio.Event()
        self._lock = threading.Lock()
        self._next: Future[None] | None = None
        self._over = False

    def write(self) -> None:
        """Returns once all that was put into the tables before the call is durable; not from the loop.

        What is asked for while a write is under way goes into the next one, together. Raises what the store raises for
        good, and `CallsCancelled` if the run ends first.
        """
        with self._lock:
            if self._over:
                raise CallsCancelled("the run has ended")
            group, first = self._next, self._next is None
            if group is None:
                group = self._next = Future()
        if first:
            self._loop.call_soon_threadsafe(self._asked.set)
        group.result()

    async def run(self) -> None:
        """Writes what is asked for until it is cancelled."""
        group: Future[None] | None = None
        try:
            while True:
                await self._asked.wait()
                self._asked.clear()
                # From here on who asks waits for the next one: the tables are captured after this.
                group = self._take()
                if group is None:
                    continue
                try:
                    await self._put(self._capture)
                except Exception as exc:
                    group.set_exception(exc)
                else:
                    group.set_result(None)
        finally:
            with self._lock:
                self._over = True
            for waiting in (group, self._take()):
                if waiting is not None and not waiting.done():
                    waiting.set_exception(CallsCancelled("the run ends before its answers were written"))

    def _take(self) -> Future[None] | None:
        with self._lock:
            group, self._next = self._next, None
        return group
