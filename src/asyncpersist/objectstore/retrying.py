"""A store that asks again while another does not answer, for so long as is worth waiting."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from asyncpersist.clock import Clock
from asyncpersist.errors import StoreUnavailable
from asyncpersist.objectstore.contract import Entry, KeyExists, KeyMissing, ObjectStore, OutcomeUnknown, Throttled

__all__ = ["RetryingStore"]

logger = logging.getLogger("asyncpersist")

_T = TypeVar("_T")

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_SILENT = 3.0
"""Seconds for which asking again is nobody's business."""


class RetryingStore(ObjectStore):
    """`inner`, asked again where it was `StoreUnavailable`, until `deadline` seconds after the call began.

    The pauses are random, up to 0.1 s first and doubling up to 5 s, besides what a store that throttles asks for. One
    that would last longer ends at the deadline, and then it is asked a last time. The deadline ends the asking and not
    an attempt under way. Then the last error is raised; if a write may have happened in any of the attempts, it is an
    `OutcomeUnknown`.

    Reads, deletions and `put` are simply repeated. A `create` that meets `KeyExists` after an attempt whose outcome is
    unknown may have met itself: the bytes are compared, and if they are the same it has succeeded. So who creates must
    create what nobody else does, or not care who did.
    """

    def __init__(self, inner: ObjectStore, *, deadline: float = 30.0, clock: Clock) -> None:
        self._inner = inner
        self._deadline = deadline
        self._clock = clock
        self._complained = False

    def __repr__(self) -> str:
        return f"RetryingStore({self._inner!r})"

    def describe(self) -> str:
        return self._inner.describe()

    async def check_writable(self) -> None:
        await self._insist(self._inner.check_writable)

    async def get(self, key: str) -> bytes:
        return await self._insist(lambda: self._inner.get(key))

    async def get_range(self, key: str, start: int, stop: int) -> bytes:
        return await self._insist(lambda: self._inner.get_range(key, start, stop))

    async def list(self, prefix: str = "", *, limit: int | None = None) -> list[Entry]:
        return await self._insist(lambda: self._inner.list(prefix, limit=limit))

    async def put(self, key: str, data: bytes) -> None:
        await self._insist(lambda: self._inner.put(key, data))

    async def delete(self, keys: Iterable[str]) -> None:
        chosen = [*keys]
        await self._insist(lambda: self._inner.delete(chosen))

    async def create(self, key: str, data: bytes) -> None:
        in_doubt = False

        async def attempt() -> None:
            nonlocal in_doubt
            try:
                await self._inner.create(key, data)
            except OutcomeUnknown:
                in_doubt = True
                raise
            except KeyExists:
                if not (in_doubt and await self._holds(key, data)):
                    raise

        await self._insist(attempt)

    async def _holds(self, key: str, data: bytes) -> bool:
        """Whether these bytes are under the key. Raises `OutcomeUnknown` if that cannot be found out now."""
        try:
            return await self._inner.get(key) == data
        except KeyMissing as exc:
            raise OutcomeUnknown(f"{self.describe()}: {key} was created and deleted meanwhile") from exc
        except StoreUnavailable as exc:
            raise OutcomeUnknown(f"{self.describe()}: whether {key} was created cannot be read: {exc}") from exc

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _insist(self, call: Callable[[], Awaitable[_T]]) -> _T:
        begun = self._clock.monotonic()
        end = begun + self._deadline
        ceiling = _FIRST_PAUSE
        doubt: OutcomeUnknown | None = None
        while True:
            try:
                result = await call()
            except StoreUnavailable as exc:
                if isinstance(exc, OutcomeUnknown):
                    doubt = exc
                pause = ceiling * self._clock.chance()
                if isinstance(exc, Throttled) and exc.retry_after is not None:
                    pause += exc.retry_after
                now = self._clock.monotonic()
                if now >= end:
                    if doubt is None or doubt is exc:
                        raise
                    raise OutcomeUnknown(f"{exc} (An earlier attempt may have been carried out: {doubt})") from exc
                pause = min(pause, end - now)
                self._complain(exc, now - begun)
            else:
                self._complained = False
                return result
            await self._clock.sleep(pause)
            ceiling = min(2 * ceiling, _LONGEST_PAUSE)

    def _complain(self, exc: StoreUnavailable, waited: float) -> None:
        if waited >= _SILENT and not self._complained:
            self._complained = True
            logger.warning("%s (It is asked again, for up to %g seconds each time.)", exc, self._deadline)
