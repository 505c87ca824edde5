"""Work done ahead of whoever uses its results, in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import TypeVar

import anyio

__all__ = ["in_order"]

_T = TypeVar("_T")


async def in_order(jobs: Iterable[Callable[[], Awaitable[_T]]], *, at_once: int) -> AsyncGenerator[_T, None]:
    """What the jobs return, in their order; up to `at_once` run while a result is used. Raises what they raise."""
    waiting = iter(jobs)
    begun: deque[asyncio.Future[_T]] = deque()

    def begin() -> None:
        while len(begun) < at_once and (job := next(waiting, None)) is not None:
            begun.append(asyncio.ensure_future(job()))

    try:
        begin()
        while begun:
            result = await begun[0]
            begun.popleft()
            begin()
            yield result
    finally:
        for job in begun:
            job.cancel()
        with anyio.CancelScope(shield=True):
            # What they raise, nobody waits for any more.
            await asyncio.gather(*begun, return_exceptions=True)
