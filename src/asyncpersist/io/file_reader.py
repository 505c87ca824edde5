"""An open source of files: scans, reads and parses in two threads of its own, a few batches ahead."""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from asyncpersist.clock import Clock
from asyncpersist.errors import InputError
from asyncpersist.io.chunks import Chunk
from asyncpersist.io.dead_letters import DeadLetters
from asyncpersist.io.file_parser import FileParser, ParsedChunk
from asyncpersist.io.scan import Listing
from asyncpersist.io.source import Batch, SourceReader
from asyncpersist.io.walk import Walk
from asyncpersist.io.watch import Rounds

__all__ = ["FileReader"]

_AHEAD = 2
"""How many batches are read and parsed ahead of the one given out."""

T = TypeVar("T")


class FileReader(SourceReader):
    """Reads on from a walk that has begun. With `rounds` it looks again after each end of the walk, forever.

    `look` lists the files there are. Owns `walk` and `rounds`.
    """

    def __init__(
        self,
        walk: Walk,
        parser: FileParser,
        dead_letters: DeadLetters | None,
        *,
        look: Callable[[], Listing],
        rounds: Rounds | None,
        clock: Clock,
    ) -> None:
        self._walk = walk
        self._parser = parser
        self._dead_letters = dead_letters
        self._look = look
        self._rounds = rounds
        self._clock = clock
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="asyncpersist-read")
        self._parsing = ThreadPoolExecutor(1, thread_name_prefix="asyncpersist-parse")
        self._ahead: deque[Future[ParsedChunk | None]] = deque()
        self._failure: BaseException | None = None
        self._ended = False
        self._closed = False

    async def read(self) -> Batch | None:
        if self._failure is not None:
            raise self._failure
        if self._ended:
            return None
        try:
            return await self._next()
        except BaseException as exc:
            self._failure = exc
            raise

    async def _next(self) -> Batch | None:
        while (parsed := await self._parsed()) is None:
            if self._rounds is None:
                self._ended = True
                return None
            # Nothing is under way any more: the walk stays at its end until it is begun anew.
            while self._ahead:
                await _result_of(self._ahead.popleft())
            await self._rounds.wait()
            self._rounds.scanned(await _result_of(self._reading.submit(self._scan)))
        self._walk.took(parsed.offsets)
        if parsed.bad and self._dead_letters is not None:
            letters = functools.partial(self._dead_letters.append, parsed.bad)
            try:
                await _result_of(self._reading.submit(letters))
            except OSError as exc:
                raise InputError(f"cannot write the dead letters to {self._dead_letters.path!r}: {exc}") from exc
        return parsed.batch

    async def _parsed(self) -> ParsedChunk | None:
        while len(self._ahead) <= _AHEAD:
            chunk = self._reading.submit(self._walk.next)
            self._ahead.append(self._parsing.submit(_parse, chunk, self._parser.parse))
        return await _result_of(self._ahead.popleft())

    def _scan(self) -> float:
        began = self._clock.monotonic()
        self._walk.begin(self._look())
        return self._clock.monotonic() - began

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = self._ended = True
        for future in self._ahead:
            future.cancel()
        await asyncio.shield(self._shut())

    async def _shut(self) -> None:
        if self._rounds is not None:
            await self._rounds.aclose()
        await asyncio.to_thread(self._shut_threads)

    def _shut_threads(self) -> None:
        self._reading.shutdown(cancel_futures=True)
        self._parsing.shutdown(cancel_futures=True)
        self._walk.close()


def _parse(chunk: Future[Chunk | None], parse: Callable[[Chunk], ParsedChunk]) -> ParsedChunk | None:
    found = chunk.result()
    return parse(found) if found is not None else None


async def _result_of(future: Future[T]) -> T:
    """Waits for a thread's result; a cancelled wait leaves the thread at work."""
    waiting = asyncio.wrap_future(future)
    # Nobody waits any more after a cancelled wait: what it raises then is not asyncio's to report.
    waiting.add_done_callback(lambda done: done.cancelled() or done.exception())
    return await asyncio.shield(waiting)
