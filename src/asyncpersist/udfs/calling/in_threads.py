"""Plain functions as coroutine functions."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from asyncpersist.udfs.calling.threads import Threads

__all__ = ["InThreads"]

_Outcome = asyncio.Future[tuple[Any, BaseException | None]]


class InThreads:
    """Calls plain functions in threads, each in a copy of a context, for coroutines of one loop."""

    def __init__(self, threads: Threads, loop: asyncio.AbstractEventLoop, context: contextvars.Context) -> None:
        self._threads = threads
        self._loop = loop
        self._context = context
        self._settled: deque[tuple[_Outcome, Any, BaseException | None]] = deque()
        self._due = False

    def awaitable(self, call: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        """The function as one to be awaited. Who is cancelled meanwhile no longer waits, while the call goes on."""

        async def called(*values: Any) -> Any:
            outcome: _Outcome = self._loop.create_future()
            self._threads.do(lambda: self._make(outcome, call, values))
            result, raised = await outcome
            if raised is not None:
                raise raised
            return result

        return called

    def _make(self, outcome: _Outcome, call: Callable[..., Any], values: tuple[Any, ...]) -> None:
        if outcome.done():  # nobody waits any more
            return
        result, raised = None, None
        try:
            result = self._context.copy().run(call, *values)
        except BaseException as exc:
            raised = exc
        self._settled.append((outcome, result, raised))
        if not self._due:  # else the loop has been woken up for another one, and finds this one too
            self._due = True
            with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
                self._loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        self._due = False
        while self._settled:
            outcome, result, raised = self._settled.popleft()
            if not outcome.done():
                outcome.set_result((result, raised))
