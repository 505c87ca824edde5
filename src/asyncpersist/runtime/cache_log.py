"""How what is new in caches becomes durable: written one object after the other, and named by a commit later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

import anyio
import anyio.to_thread

from asyncpersist.checkpoint.answers import AnswerPiece, Answers
from asyncpersist.checkpoint.root import Root
from asyncpersist.columnar import codec
from asyncpersist.runtime.cache_book import CacheBook
from asyncpersist.runtime.caches import Caches
from asyncpersist.runtime.segments import StateSegment
from asyncpersist.runtime.store_calls import StoreCalls

__all__ = ["CacheLog"]

_T = TypeVar("_T")


class CacheLog:
    """Of one run, over its claimed root. `active`: it has caches of its own. `bytes`: how many were written."""

    def __init__(self, root: Root, caches: Caches | None, *, calls: StoreCalls, compression: codec.Compression) -> None:
        assert root.head is not None, "a root is claimed before answers are written"
        self._root = root
        self._calls = calls
        self._compression = compression
        self.active = caches is not None
        self._turn = asyncio.Lock()
        # Of its own: who waits for answers to be written may be in every other thread there is.
        self._thread = anyio.CapacityLimiter(1)
        self.book = CacheBook(caches, root.head.caches)
        self.bytes = 0

    async def adopt(self) -> list[Answers]:
        """What earlier runs wrote and did not come to name; the next commit does. Raises `StoreUnavailable`."""
        found = await self._root.adopt()
        self.book.adopt(found)
        return found

    async def put(self, give: Callable[[], Sequence[StateSegment]] | None = None) -> None:
        """Captures what `give` gives, by default what is new in any cache, and returns once it is durable.

        So is all that was captured before. The store is asked again while it is unavailable, until the deadline if
        there is one. Raises `StoreUnavailable` then, and `StateUnwritable`; the next call writes what was captured.
        """
        if give is None and not self.active:
            return
        async with self._turn:
            await self._in_thread(lambda: self.book.capture(give))
            while self.book.captured:
                await self._put(self.book.captured[0])
                self.book.captured.popleft()

    async def _put(self, segments: Sequence[StateSegment]) -> None:
        facts = self.book.facts(segment.stream for segment in segments)

        def encode() -> tuple[bytes, Answers]:
            return self._root.answers([_piece(segment, self._compression) for segment in segments], facts)

        data, answers = await self._in_thread(encode)
        await self._calls.insist(lambda: self._root.put_answers(data, answers))
        self.book.wrote(answers)
        self.bytes += len(data)

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await anyio.to_thread.run_sync(work, limiter=self._thread)


def _piece(segment: StateSegment, compression: codec.Compression) -> AnswerPiece:
    encoded = segment.encode(compression)
    complete = segment.increment.complete
    return AnswerPiece(segment.stream, segment.key, encoded.data, encoded.rows, complete)
