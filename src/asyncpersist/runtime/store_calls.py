"""How long a run waits for its store: as long as it goes on, and at its end until a deadline."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import anyio

from asyncpersist.clock import Clock
from asyncpersist.errors import StoreUnavailable
from asyncpersist.objectstore.contract import ObjectStore, OutcomeUnknown, Throttled

__all__ = ["StoreCalls"]

logger = logging.getLogger("asyncpersist")

_T = TypeVar("_T")

_LONGEST_PAUSE = 5.0


class StoreCalls:
    """Of one run. `deadline`: seconds on the monotonic clock after which an unavailable store is an error."""

    def __init__(self, store: ObjectStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self.deadline: float | None = None
        self._failure: StoreUnavailable | None = None
        self._cut = math.inf
        self._running: set[anyio.CancelScope] = set()
        self._tidying: set[anyio.CancelScope] = set()

    def end_within(self, seconds: float, *, cut: bool) -> None:
        """Says that the run ends: from then on an unavailable store is an error; with `cut` one that is slow, too, and
        what is done under `tidying` is cancelled."""
        self.deadline = self._clock.monotonic() + seconds
        if cut:
            self._cut = anyio.current_time() + seconds
            for call in self._running:
                call.deadline = self._cut
            for work in self._tidying:
                work.cancel()

    async def insist(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """Repeats a call while the store is unavailable, until `deadline` if there is one; raises that then."""
        pause = 0.05
        while True:
            try:
                result = await self.cuttable(call)
            except StoreUnavailable as exc:
                # Who asks for time is given it.
                pause = max(pause, exc.retry_after or 0.0 if isinstance(exc, Throttled) else 0.0)
                if self.deadline is not None and self._clock.monotonic() + pause > self.deadline:
                    raise
                if self._failure is None:
                    logger.warning("%s (The run goes on, and the snapshot is tried again.)", exc)
                self._failure = exc
                await anyio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                self._failure = None
                return result

    async def cuttable(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """Raises `StoreUnavailable` where the call takes longer than the end of the run may."""
        with anyio.CancelScope(deadline=self._cut) as scope:
            self._running.add(scope)
            try:
                return await call()
            finally:
                self._running.discard(scope)
        raise self._failure or OutcomeUnknown(
            f"{self._store.describe()} gave no answer before the run had to end. What is not committed is "
            "not lost: the next run reads it again"
        )

    @contextlib.contextmanager
    def time_out(self) -> Iterator[None]:
        """What is done meanwhile does not count against `deadline`."""
        began = self._clock.monotonic()
        yield
        if self.deadline is not None:
            self.deadline += self._clock.monotonic() - began

    @contextlib.contextmanager
    def tidying(self) -> Iterator[None]:
        """Work that may be left undone: cancelled, without an error, where the run has to end soon."""
        with anyio.CancelScope() as scope:
            self._tidying.add(scope)
            if self._cut < math.inf:
                scope.cancel()
            try:
                yield
            finally:
                self._tidying.discard(scope)
