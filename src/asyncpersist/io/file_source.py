"""The source of all files: a path, a format, and what to do with records that do not fit.

Files are read one after the other in the order of `scan`, in bounded chunks; small ones share a chunk. While
a batch is consumed the next ones are read and parsed in two threads of the reader's own.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from asyncpersist.errors import InputError
from asyncpersist.io.chunks import Piece, Walk, rest_of
from asyncpersist.io.dead_letters import DeadLetters
from asyncpersist.io.file_offset import FileOffset
from asyncpersist.io.file_parser import FileParser, ParsedChunk
from asyncpersist.io.formats.format import Format
from asyncpersist.io.scan import FoundFile, covers, scan
from asyncpersist.io.source import Batch, Needs, Offsets, Source, SourceReader

__all__ = ["CHUNK_BYTES", "FileSource"]

CHUNK_BYTES = 8 << 20
"""About how many bytes of files make a batch."""

_AHEAD = 2
"""How many batches are read and parsed ahead of the one given out."""

T = TypeVar("T")


class FileSource(Source):
    """Reads what is there and ends.

    A partition is a file's path below the directory that was named (see `scan`), its offset a `FileOffset`. A
    file that was read is expected to stay as it is, except that lines may be appended; anything else is
    refused (`InputChanged`). `on_error="skip"` leaves out records that do not fit, counts them, and appends
    them to the file `dead_letters` if one is named; that file is never read as input. `chunk_bytes` says how
    large batches are; it is no part of the source's identity.
    """

    def __init__(
        self,
        path: str,
        format: Format,
        *,
        on_error: str = "raise",
        dead_letters: str | None = None,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        if on_error not in ("raise", "skip"):
            raise ValueError(f'on_error must be "raise" or "skip", got {on_error!r}')
        if dead_letters is not None and on_error != "skip":
            raise ValueError('dead_letters names a file for skipped records: it goes with on_error="skip"')
        if chunk_bytes < 1:
            raise ValueError(f"chunk_bytes must be positive, got {chunk_bytes}")
        self._path = path
        self._format = format
        self._skips = on_error == "skip"
        self._dead_letters = dead_letters
        self._chunk_bytes = chunk_bytes

    async def check(self, offsets: Offsets | None, *, persistent: bool) -> None:
        await asyncio.to_thread(self._survey, offsets or {})

    async def reads(self, path: str) -> bool:
        return os.path.isabs(path) and await asyncio.to_thread(covers, self._path, path)

    async def open(self, offsets: Offsets | None, *, identity: str, needs: Needs) -> SourceReader:
        files, recorded = await asyncio.to_thread(self._survey, offsets or {})
        walk = Walk(files, recorded, self._format, self._chunk_bytes)
        parser = FileParser(self._format, identity=identity, ids=needs.ids, skips=self._skips)
        return _FileReader(walk, parser, DeadLetters(self._dead_letters) if self._dead_letters else None)

    def _survey(self, offsets: Mapping[str, Any]) -> tuple[list[FoundFile], dict[str, FileOffset]]:
        """The files there are, and where those that were read before continue. Raises `InputError`."""
        files = scan(self._path)
        if self._dead_letters is not None:
            kept_out = os.path.realpath(self._dead_letters)
            files = [file for file in files if os.path.realpath(file.path) != kept_out]
        recorded = {name: FileOffset.from_json(value) for name, value in offsets.items()}
        return files, rest_of(files, recorded, whole_files=self._format.whole_files)


class _FileReader(SourceReader):
    def __init__(self, walk: Walk, parser: FileParser, dead_letters: DeadLetters | None) -> None:
        self._walk = walk
        self._parser = parser
        self._dead_letters = dead_letters
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
        while len(self._ahead) <= _AHEAD:
            pieces = self._reading.submit(self._walk.next)
            self._ahead.append(self._parsing.submit(_parse, pieces, self._parser.parse))
        chunk = await _result_of(self._ahead.popleft())
        if chunk is None:
            self._ended = True
            return None
        if chunk.bad and self._dead_letters is not None:
            letters = functools.partial(self._dead_letters.append, chunk.bad)
            try:
                await _result_of(self._reading.submit(letters))
            except OSError as exc:
                raise InputError(f"cannot write the dead letters to {self._dead_letters.path!r}: {exc}") from exc
        return chunk.batch

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = self._ended = True
        for future in self._ahead:
            future.cancel()
        await asyncio.shield(asyncio.to_thread(self._shut))

    def _shut(self) -> None:
        self._reading.shutdown(cancel_futures=True)
        self._parsing.shutdown(cancel_futures=True)
        self._walk.close()


def _parse(pieces: Future[list[Piece]], parse: Callable[[list[Piece]], ParsedChunk]) -> ParsedChunk | None:
    found = pieces.result()
    return parse(found) if found else None


async def _result_of(future: Future[T]) -> T:
    """Waits for a thread's result; a cancelled wait leaves the thread at work."""
    return await asyncio.shield(asyncio.wrap_future(future))
