"""A store that lives in a thread with an event loop of its own, so that the caller's loop is left alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

import anyio

from asyncpersist.errors import StoreUnavailable
from asyncpersist.objectstore.contract import Entry, ObjectStore

__all__ = ["ThreadedStore"]

_T = TypeVar("_T")


class ThreadedStore(ObjectStore):
    """`inner`, all of whose calls run in one daemon thread, which the first of them starts.

    A cancelled call is cancelled over there, and returns once it has ended there. `aclose` waits for the calls under
    way, closes `inner` in its thread and ends the thread; after it every call raises `StoreUnavailable`. It has
    to be closed: at the end of the process the thread is cut off, and what `inner` has open is not closed.
    """

    def __init__(self, inner: ObjectStore) -> None:
        self._inner = inner
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._calls: set[asyncio.Task[Any]] = set()
        self._closed: Future[None] | None = None

    def __repr__(self) -> str:
        return f"ThreadedStore({self._inner!r})"

    def describe(self) -> str:
        return self._inner.describe()

    async def check_writable(self) -> None:
        await self._over_there(self._inner.check_writable)

    async def get(self, key: str) -> bytes:
        return await self._over_there(lambda: self._inner.get(key))

    async def get_range(self, key: str, start: int, stop: int) -> bytes:
        return await self._over_there(lambda: self._inner.get_range(key, start, stop))

    async def list(self, prefix: str = "", *, limit: int | None = None) -> list[Entry]:
        return await self._over_there(lambda: self._inner.list(prefix, limit=limit))

    async def create(self, key: str, data: bytes) -> None:
        await self._over_there(lambda: self._inner.create(key, data))

    async def put(self, key: str, data: bytes) -> None:
        await self._over_there(lambda: self._inner.put(key, data))

    async def delete(self, keys: Iterable[str]) -> None:
        chosen = [*keys]
        await self._over_there(lambda: self._inner.delete(chosen))

    async def aclose(self) -> None:
        if self._closed is None:
            closed: Future[None] = Future()
            self._closed = closed
            loop = self._loop or self._start()
            closed.add_done_callback(lambda _: loop.stop())
            loop.call_soon_threadsafe(self._begin, loop, self._close, closed)
        assert self._thread is not None
        await asyncio.to_thread(self._thread.join)
        self._closed.result()

    async def _over_there(self, call: Callable[[], Awaitable[_T]]) -> _T:
        if self._closed is not None:
            raise StoreUnavailable(f"{self.describe()}: the store has been closed")
        loop = self._loop or self._start()
        answer: Future[_T] = Future()
        tasks: list[asyncio.Task[_T]] = []

        def begin() -> None:
            tasks.append(self._begin(loop, call, answer))

        def cancel() -> None:
            tasks[0].cancel()

        loop.call_soon_threadsafe(begin)
        answered = asyncio.wrap_future(answer)
        try:
            await asyncio.wait([answered])
        except asyncio.CancelledError:
            if not answered.done():
                loop.call_soon_threadsafe(cancel)
            with anyio.CancelScope(shield=True):
                while not answered.done():
                    with suppress(asyncio.CancelledError):
                        await asyncio.wait([answered])
            # The caller is gone: how it ended is nobody's business, but must not be called forgotten.
            if not answered.cancelled():
                answered.exception()
            raise
        return answered.result()

    def _start(self) -> asyncio.AbstractEventLoop:
        self._loop = loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_run, args=[loop], name="asyncpersist-store", daemon=True)
        self._thread.start()
        return loop

    # In the thread

    def _begin(
        self, loop: asyncio.AbstractEventLoop, call: Callable[[], Awaitable[_T]], answer: Future[_T]
    ) -> asyncio.Task[_T]:
        async def carried_out() -> _T:
            return await call()

        task = loop.create_task(carried_out())
        self._calls.add(task)
        task.add_done_callback(lambda done: self._end(done, answer))
        return task

    def _end(self, task: asyncio.Task[_T], answer: Future[_T]) -> None:
        self._calls.discard(task)
        if task.cancelled():
            answer.cancel()
        elif (failure := task.exception()) is not None:
            answer.set_exception(failure)
        else:
            answer.set_result(task.result())

    async def _close(self) -> None:
        if others := self._calls - {asyncio.current_task()}:
            await asyncio.wait(others)
        await self._inner.aclose()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
