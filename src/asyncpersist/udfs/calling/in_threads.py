"""A plain function as a coroutine function."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Awaitable, Callable
from typing import Any

from asyncpersist.udfs.calling.threads import Threads

__all__ = ["in_threads"]


def in_threads(
    call: Callable[..., Any], threads: Threads, loop: asyncio.AbstractEventLoop, context: contextvars.Context
) -> Callable[..., Awaitable[Any]]:
    """Calls it in one of these threads, in a copy of this context; to be awaited in this loop.

    Who is cancelled meanwhile no longer waits, while the call goes on.
    """

    async def called(*values: Any) -> Any:
        outcome: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()

        def job() -> None:
            if outcome.done():  # nobody waits any more
                return
            result, raised = None, None
            try:
                result = context.copy().run(call, *values)
            except BaseException as exc:
                raised = exc
            with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
                loop.call_soon_threadsafe(_settle, outcome, result, raised)

        threads.do(job)
        result, raised = await outcome
        if raised is not None:
            raise raised
        return result

    return called


def _settle(
    outcome: asyncio.Future[tuple[Any, BaseException | None]], result: Any, raised: BaseException | None
) -> None:
    if not outcome.done():
        outcome.set_result((result, raised))
