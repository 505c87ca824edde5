"""Making answers durable before they are used, for threads that wait for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future

from asyncpersist.runtime.segments import StateSegment
from asyncpersist.udfs.calling.runner import CallsCancelled

__all__ = ["AnswerWriter"]

_SOON = 0.02
"""Seconds within which answers that nobody waits for yet are gathered into one write."""

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
        self._news = asyncio.Event()
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

    def answered(self) -> None:
        """Says that there is something new, which is written soon, also if nobody waits for it. From any thread."""
        if not self._news.is_set():
            self._loop.call_soon_threadsafe(self._news.set)

    async def run(self) -> None:
        """Writes what is asked for, and what is new, until it is cancelled."""
        group: Future[None] | None = None
        try:
            while True:
                await self._due()
                # From here on who asks waits for the next one: the tables are captured after this.
                group = self._take()
                try:
                    await self._put(self._capture)
                except Exception as exc:
                    if group is None:
                        raise
                    group.set_exception(exc)
                else:
                    if group is not None:
                        group.set_result(None)
        finally:
            with self._lock:
                self._over = True
            for waiting in (group, self._take()):
                if waiting is not None and not waiting.done():
                    waiting.set_exception(CallsCancelled("the run ends before its answers were written"))

    async def _due(self) -> None:
        """Returns when somebody asks for a write, or some time after there was something new."""
        asked = asyncio.ensure_future(self._asked.wait())
        news = asyncio.ensure_future(self._news.wait())
        try:
            await asyncio.wait([asked, news], return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                await asyncio.wait([asked], timeout=_SOON)
        finally:
            asked.cancel()
            news.cancel()
        self._asked.clear()
        self._news.clear()

    def _take(self) -> Future[None] | None:
        with self._lock:
            group, self._next = self._next, None
        return group
