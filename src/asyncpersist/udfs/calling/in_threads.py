"""Plain functions as coroutine functions."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from asyncpersist.udfs.calling.failures import TookTooLong
from asyncpersist.udfs.calling.threads import Threads

__all__ = ["InThreads"]

_Outcome = asyncio.Future[tuple[Any, BaseException | None]]


class InThreads:
    """Calls plain functions in threads, each in a copy of a context, for coroutines of one loop.

    A call may take `timeout` seconds from when its thread has begun it: then nobody waits for it any more, and its
    thread is lost to others until it ends; see `Threads`. If no thread may take its place, a call that has not begun
    within that time is given up, too.
    """

    def __init__(
        self,
        threads: Threads,
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context,
        timeout: float | None = None,
    ) -> None:
        self._threads = threads
        self._loop = loop
        self._context = context
        self._timeout = timeout
        self._lock = threading.Lock()
        self._hanging = 0  # calls whose threads are lost, and have not been replaced
        self._settled: deque[tuple[_Job, Any, BaseException | None]] = deque()
        self._due = False

    def awaitable(self, call: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        """The function as one to be awaited. Who is cancelled meanwhile no longer waits, while the call goes on."""

        async def called(*values: Any) -> Any:
            job = _Job(self._loop.create_future())
            self._threads.do(lambda: self._make(job, call, values))
            if self._timeout is not None:
                job.timer = self._loop.call_later(self._timeout, self._check, job, self._timeout)
            result, raised = await job.outcome
            if raised is not None:
                raise raised
            return result

        return called

    def _make(self, job: _Job, call: Callable[..., Any], values: tuple[Any, ...]) -> None:
        if job.outcome.done():  # nobody waits any more
            return
        job.began = self._loop.time()
        result, raised = None, None
        try:
            result = self._context.copy().run(call, *values)
        except BaseException as exc:
            raised = exc
        with self._lock:
            job.over = True
            self._hanging -= job.hangs
        if job.replaced:
            self._threads.found()
        self._settled.append((job, result, raised))
        if not self._due:  # else the loop has been woken up for another one, and finds this one too
            self._due = True
            with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
                self._loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        self._due = False
        while self._settled:
            job, result, raised = self._settled.popleft()
            job.settle(result, raised)

    def _check(self, job: _Job, seconds: float) -> None:
        """After a call may have taken its time."""
        with self._lock:
            if job.over:  # and is about to be settled
                return
            left = seconds if job.began is None else job.began + seconds - self._loop.time()
            if left <= 0:
                job.replaced = self._threads.lost()
                job.hangs = not job.replaced
                self._hanging += job.hangs
        if left <= 0:
            job.settle(None, TookTooLong(f"no answer within {seconds:g} s"))
        elif job.began is None and self._hanging:
            job.settle(None, TookTooLong(f"no thread was free within {seconds:g} s, as earlier calls have not ended"))
        elif job.began is not None or not job.outcome.done():
            job.timer = self._loop.call_later(left, self._check, job, seconds)


class _Job:
    """One call on its way through a thread."""

    def __init__(self, outcome: _Outcome) -> None:
        self.outcome = outcome
        self.timer: asyncio.TimerHandle | None = None
        self.began: float | None = None
        """When, by the loop's time."""
        self.over = False
        self.replaced = self.hangs = False
        """Whether it has taken too long, and another thread is there instead, or is not."""

    def settle(self, result: Any, raised: BaseException | None) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if not self.outcome.done():
            self.outcome.set_result((result, raised))
