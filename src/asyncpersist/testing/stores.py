"""A store whose answers are scripted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from enum import Enum
from typing import TypeVar

from asyncpersist.errors import AsyncPersistError, StoreUnavailable
from asyncpersist.objectstore.contract import Entry, ObjectStore, OutcomeUnknown, Throttled

__all__ = ["FaultyStore", "Outcome"]

_T = TypeVar("_T")


class Outcome(Enum):
    """What becomes of one call."""

    DONE = "done"
    REFUSED = "refused"
    """Not done, and said so."""
    THROTTLED = "throttled"
    """Not done, and asked to be slower."""
    LOST_ANSWER = "lost answer"
    """Done, but reported as unknown (a read: not answered)."""
    LOST_REQUEST = "lost request"
    """Not done, but reported as unknown (a read: not answered)."""
    LATE = "late"
    """Reported as unknown, and done some time afterwards (a read: not answered)."""
    SHORT_READ = "short read"
    """A read gives a part of the bytes from the front, never all, without an error; any other call is done."""
    FLIPPED_BIT = "flipped bit"
    """A read gives bytes one bit of which is wrong, without an error; any other call is done."""


_UNANSWERED = {Outcome.REFUSED, Outcome.LOST_ANSWER, Outcome.LOST_REQUEST, Outcome.LATE}
"""What keeps a read from being answered."""


class FaultyStore(ObjectStore):
    """Another store, where `decide(method, key)` says for every call what becomes of it.

    `method`: get, get_range, create, put, list or delete; `key`: what it is about, the prefix for list, empty for
    delete. A conflict of a call whose answer is lost is lost as well. `calls` remembers every call.

    `latency(method, key)` is awaited on the way to the store and, of a call that was carried out, on the way back:
    turns of the loop, a sleep on a clock, or whatever the test waits for. What is late is done after one more.
    """

    def __init__(
        self,
        inner: ObjectStore,
        decide: Callable[[str, str], Outcome],
        *,
        latency: Callable[[str, str], Awaitable[None]] | None = None,
    ) -> None:
        self._inner = inner
        self._decide = decide
        self._latency = latency
        self._late: set[asyncio.Task[None]] = set()
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
        outcome = await self._read("get", key)
        return await self._back("get", key, self._altered(await self._inner.get(key), outcome))

    async def get_range(self, key: str, start: int, stop: int) -> bytes:
        outcome = await self._read("get_range", key)
        data = await self._inner.get_range(key, start, stop)
        return await self._back("get_range", key, self._altered(data, outcome))

    async def list(self, prefix: str = "", *, limit: int | None = None) -> list[Entry]:
        await self._read("list", prefix)
        return await self._back("list", prefix, await self._inner.list(prefix, limit=limit))

    async def create(self, key: str, data: bytes) -> None:
        await self._write("create", key, lambda: self._inner.create(key, data))

    async def put(self, key: str, data: bytes) -> None:
        await self._write("put", key, lambda: self._inner.put(key, data))

    async def delete(self, keys: Iterable[str]) -> None:
        chosen = [*keys]
        await self._write("delete", "", lambda: self._inner.delete(chosen))

    async def settle(self) -> None:
        """Waits until everything that is late is done."""
        while self._late:
            await asyncio.wait(self._late)

    async def aclose(self) -> None:
        await self.settle()
        await self._inner.aclose()

    async def _begin(self, method: str, key: str) -> Outcome:
        self.calls.append((method, key))
        outcome = self._decide(method, key)
        if self._latency is not None:
            await self._latency(method, key)
        if outcome is Outcome.THROTTLED:
            raise Throttled(f"{self.describe()}: {method} {key}: asked too often (scripted)")
        return outcome

    async def _back(self, method: str, key: str, answer: _T) -> _T:
        if self._latency is not None:
            await self._latency(method, key)
        return answer

    async def _read(self, method: str, key: str) -> Outcome:
        outcome = await self._begin(method, key)
        if outcome in _UNANSWERED:
            raise StoreUnavailable(f"{self.describe()}: {method} {key}: no answer (scripted)")
        return outcome

    def _altered(self, data: bytes, outcome: Outcome) -> bytes:
        # Which byte, and which bit, follows from how many calls there were.
        place = len(self.calls) * 2_654_435_761
        if outcome is Outcome.SHORT_READ:
            return data[: place % max(len(data), 1)]
        if outcome is Outcome.FLIPPED_BIT and data:
            altered = bytearray(data)
            altered[place % len(data)] ^= 1 << place // len(data) % 8
            return bytes(altered)
        return data

    async def _write(self, method: str, key: str, act: Callable[[], Awaitable[None]]) -> None:
        outcome = await self._begin(method, key)
        await asyncio.sleep(0)
        if outcome is Outcome.REFUSED:
            raise StoreUnavailable(f"{self.describe()}: refused (scripted)")
        if outcome is Outcome.LOST_REQUEST:
            raise OutcomeUnknown(f"{self.describe()}: the request was lost (scripted)")
        if outcome is Outcome.LATE:
            late = asyncio.create_task(self._do_late(method, key, act))
            self._late.add(late)
            late.add_done_callback(self._late.discard)
            raise OutcomeUnknown(f"{self.describe()}: the request is late (scripted)")
        try:
            await act()
        except Exception as exc:
            if outcome is Outcome.LOST_ANSWER:
                raise OutcomeUnknown(f"{self.describe()}: the answer was lost (scripted)") from exc
            raise
        await self._back(method, key, None)
        if outcome is Outcome.LOST_ANSWER:
            raise OutcomeUnknown(f"{self.describe()}: the answer was lost (scripted)")

    async def _do_late(self, method: str, key: str, act: Callable[[], Awaitable[None]]) -> None:
        await asyncio.sleep(0)
        await self._back(method, key, None)
        with contextlib.suppress(AsyncPersistError):
            await act()
