"""A store that counts what is asked of another."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import NamedTuple, TypeVar

from asyncpersist.clock import Clock, SystemClock
from asyncpersist.objectstore.contract import Entry, KeyExists, KeyMissing, ObjectStore

__all__ = ["Figures", "InstrumentedStore"]

_T = TypeVar("_T")


class Figures(NamedTuple):
    """What became of the calls of one method that have ended.

    `failures`: calls that raised or were cancelled; `KeyExists` and `KeyMissing` are answers. `bytes`: what was read,
    or written by calls that returned. `seconds`: the sum of how long the calls took.
    """

    calls: int = 0
    failures: int = 0
    bytes: int = 0
    seconds: float = 0.0


class InstrumentedStore(ObjectStore):
    """`inner`, with `figures` of every method of the contract that was called."""

    def __init__(self, inner: ObjectStore, clock: Clock | None = None) -> None:
        self._inner = inner
        self._clock = SystemClock() if clock is None else clock
        self._figures: dict[str, Figures] = {}

    def __repr__(self) -> str:
        return f"InstrumentedStore({self._inner!r})"

    def figures(self) -> dict[str, Figures]:
        """By the name of the method, how its calls went until now."""
        return dict(self._figures)

    def describe(self) -> str:
        return self._inner.describe()

    async def check_writable(self) -> None:
        await self._timed("check_writable", self._inner.check_writable())

    async def get(self, key: str) -> bytes:
        return await self._timed("get", self._inner.get(key))

    async def get_range(self, key: str, start: int, stop: int) -> bytes:
        return await self._timed("get_range", self._inner.get_range(key, start, stop))

    async def list(self, prefix: str = "", *, limit: int | None = None) -> list[Entry]:
        return await self._timed("list", self._inner.list(prefix, limit=limit))

    async def create(self, key: str, data: bytes) -> None:
        await self._timed("create", self._inner.create(key, data), len(data))

    async def put(self, key: str, data: bytes) -> None:
        await self._timed("put", self._inner.put(key, data), len(data))

    async def delete(self, keys: Iterable[str]) -> None:
        await self._timed("delete", self._inner.delete(keys))

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _timed(self, method: str, call: Awaitable[_T], size: int = 0) -> _T:
        begun = self._clock.monotonic()
        failed, moved = 1, 0
        try:
            result = await call
            failed, moved = 0, len(result) if isinstance(result, bytes) else size
            return result
        except (KeyExists, KeyMissing):
            failed = 0
            raise
        finally:
            before = self._figures.get(method, Figures())
            self._figures[method] = Figures(
                before.calls + 1,
                before.failures + failed,
                before.bytes + moved,
                before.seconds + self._clock.monotonic() - begun,
            )
