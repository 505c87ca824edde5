"""A store whose answers are scripted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from enum import Enum

from asyncpersist.errors import StoreUnavailable
from asyncpersist.objectstore.contract import Entry, ObjectStore, OutcomeUnknown

__all__ = ["FaultyStore", "Outcome"]


class Outcome(Enum):
    """What becomes of one call."""

    DONE = "done"
    REFUSED = "refused"
    """Not done, and said so."""
    LOST_ANSWER = "lost answer"
    """Done, but reported as unknown (a read: not answered)."""
    LOST_REQUEST = "lost request"
    """Not done, but reported as unknown (a read: not answered)."""


class FaultyStore(ObjectStore):
    """Another store, where `decide(method, key)` says for every call what becomes of it.

    `method`: get, create, put, list or delete; `key`: what it is about, the prefix for list, empty for delete. A
    conflict of a call whose answer is lost is lost as well. `calls` remembers every call.
    """

    def __init__(self, inner: ObjectStore, decide: Callable[[str, str], Outcome]) -> None:
        self._inner = inner
        self._decide = decide
        self.calls: list[tuple[str, str]] = []

    @classmethod
    def scripted(cls, inner: ObjectStore, *outcomes: Outcome, method: str = "create") -> FaultyStore:
        """One whose calls of `method` meet `outcomes` in turn; all others, and later ones, are done."""
        script = iter(outcomes)
        return cls(inner, lambda name, _: next(script, Outcome.DONE) if name == method else Outcome.DONE)

    def describe(self) -> str:
        return self._inner.describe()

    async def check_writable(self) -> None:
        await self._inner.check_writable()

    async def get(self, key: str) -> bytes:
        self._read("get", key)
        return await self._inner.get(key)

    async def list(self, prefix: str = "", *, limit: int | None = None) -> list[Entry]:
        self._read("list", prefix)
        return await self._inner.list(prefix, limit=limit)

    async def create(self, key: str, data: bytes) -> None:
        outcome = self._begin("create", key)
        await self._write(outcome, lambda: self._inner.create(key, data))

    async def put(self, key: str, data: bytes) -> None:
        outcome = self._begin("put", key)
        await self._write(outcome, lambda: self._inner.put(key, data))

    async def delete(self, keys: Iterable[str]) -> None:
        outcome = self._begin("delete", "")
        await self._write(outcome, lambda: self._inner.delete(keys))

    async def aclose(self) -> None:
        await self._inner.aclose()

    def _begin(self, method: str, key: str) -> Outcome:
        self.calls.append((method, key))
        return self._decide(method, key)

    def _read(self, method: str, key: str) -> None:
        if self._begin(method, key) is not Outcome.DONE:
            raise StoreUnavailable(f"{self.describe()}: {method} {key}: no answer (scripted)")

    async def _write(self, outcome: Outcome, act: Callable[[], Awaitable[None]]) -> None:
        await asyncio.sleep(0)
        if outcome is Outcome.REFUSED:
            raise StoreUnavailable(f"{self.describe()}: refused (scripted)")
        if outcome is Outcome.LOST_REQUEST:
            raise OutcomeUnknown(f"{self.describe()}: the request was lost (scripted)")
        if outcome is Outcome.LOST_ANSWER:
            try:
                await act()
            except Exception as exc:
                raise OutcomeUnknown(f"{self.describe()}: the answer was lost (scripted)") from exc
            raise OutcomeUnknown(f"{self.describe()}: the answer was lost (scripted)")
        await act()
