"""Processes that are killed, and threads that keep no schedule from repeating itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from asyncpersist.objectstore.contract import Entry, ObjectStore

__all__ = ["Inline", "Killed", "Mortal"]

_T = TypeVar("_T")


class Killed(BaseException):
    """The process is gone: nothing of it runs any more."""


class Mortal(ObjectStore):
    """A process's way to the store. It is killed now and then, before a call or after; what it sent still arrives."""

    def __init__(self, inner: ObjectStore, dies: Callable[[], bool]) -> None:
        self._inner = inner
        self._dies = dies
        self._dead = False

    def describe(self) -> str:
        return self._inner.describe()

    async def get(self, key: str) -> bytes:
        return await self._alive(lambda: self._inner.get(key))

    async def get_range(self, key: str, start: int, stop: int) -> bytes:
        return await self._alive(lambda: self._inner.get_range(key, start, stop))

    async def list(self, prefix: str = "", *, limit: int | None = None) -> list[Entry]:
        return await self._alive(lambda: self._inner.list(prefix, limit=limit))

    async def create(self, key: str, data: bytes) -> None:
        await self._alive(lambda: self._inner.create(key, data))

    async def put(self, key: str, data: bytes) -> None:
        await self._alive(lambda: self._inner.put(key, data))

    async def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            await self._alive(lambda key=key: self._inner.delete([key]))

    async def _alive(self, call: Callable[[], Awaitable[_T]]) -> _T:
        self._live_on()
        result = await call()
        self._live_on()
        return result

    def _live_on(self) -> None:
        self._dead = self._dead or self._dies()
        if self._dead:
            raise Killed


class Inline(ThreadPoolExecutor):
    """Threads would interleave as the machine likes; a schedule is to be the same each time."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        answer: Future[Any] = Future()
        try:
            answer.set_result(fn(*args, **kwargs))
        except Exception as exc:
            answer.set_exception(exc)
        return answer
