"""A store that is asked for no more at once than it can take."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from asyncpersist.objectstore.contract import Entry, ObjectStore, Throttled

__all__ = ["LimitedStore"]

_REGAIN = 16
"""Calls that succeed one after the other, after which one more at once is dared."""


class LimitedStore(ObjectStore):
    """`inner`, with at most `requests` calls under way at once, and at most `bytes_in_flight` bytes being written.

    An object larger than that is written with no other beside it. Who has to wait goes in the order of asking. A
    `Throttled` answer halves the number of requests, down to one; calls that succeed add to it again, one by one.
    """

    def __init__(self, inner: ObjectStore, *, requests: int = 16, bytes_in_flight: int = 64 * 1024 * 1024) -> None:
        if requests < 1 or bytes_in_flight < 1:
            raise ValueError(f"requests and bytes_in_flight must be positive, not {requests} and {bytes_in_flight}")
        self._inner = inner
        self._most = requests
        self._most_bytes = bytes_in_flight
        self._allowed = requests
        self._successes = 0
        self._halvings = 0
        self._running = 0
        self._bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def __repr__(self) -> str:
        return f"LimitedStore({self._inner!r})"

    @property
    def allowed(self) -> int:
        """How many requests may be under way at once now."""
        return self._allowed

    def describe(self) -> str:
        return self._inner.describe()

    async def check_writable(self) -> None:
        async with self._turn():
            await self._inner.check_writable()

    async def get(self, key: str) -> bytes:
        async with self._turn():
            return await self._inner.get(key)

    async def get_range(self, key: str, start: int, stop: int) -> bytes:
        async with self._turn():
            return await self._inner.get_range(key, start, stop)

    async def list(self, prefix: str = "", *, limit: int | None = None) -> list[Entry]:
        async with self._turn():
            return await self._inner.list(prefix, limit=limit)

    async def create(self, key: str, data: bytes) -> None:
        async with self._turn(len(data)):
            await self._inner.create(key, data)

    async def put(self, key: str, data: bytes) -> None:
        async with self._turn(len(data)):
            await self._inner.put(key, data)

    async def delete(self, keys: Iterable[str]) -> None:
        async with self._turn():
            await self._inner.delete(keys)

    async def aclose(self) -> None:
        await self._inner.aclose()

    @asynccontextmanager
    async def _turn(self, size: int = 0) -> AsyncIterator[None]:
        """Waits until a request that writes `size` bytes may be made, and learns from how it ends."""
        await self._enter(size)
        halvings = self._halvings
        try:
            yield
        except Throttled:
            # Those that were under way together are one sign, however many are turned away.
            if halvings == self._halvings:
                self._halvings += 1
                self._allowed = max(1, self._allowed // 2)
            self._successes = 0
            raise
        else:
            self._successes += 1
            if self._successes >= _REGAIN:
                self._successes = 0
                self._allowed = min(self._most, self._allowed + 1)
        finally:
            self._leave(size)

    async def _enter(self, size: int) -> None:
        if not self._waiting and self._fits(size):
            self._running += 1
            self._bytes += size
            return
        admitted = asyncio.get_running_loop().create_future()
        self._waiting.append((size, admitted))
        try:
            await admitted
        except asyncio.CancelledError:
            if not admitted.cancelled():
                self._running -= 1
                self._bytes -= size
            self._admit()
            raise

    def _leave(self, size: int) -> None:
        self._running -= 1
        self._bytes -= size
        self._admit()

    def _admit(self) -> None:
        while self._waiting and (self._waiting[0][1].cancelled() or self._fits(self._waiting[0][0])):
            size, admitted = self._waiting.popleft()
            if admitted.cancelled():
                continue
            self._running += 1
            self._bytes += size
            admitted.set_result(None)

    def _fits(self, size: int) -> bool:
        return self._running < self._allowed and (
            size == 0 or self._bytes == 0 or self._bytes + size <= self._most_bytes
        )
