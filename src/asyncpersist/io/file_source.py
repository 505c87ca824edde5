"""The source of all files: a path, a format, and what to do with records that do not fit.

Files are read one after the other in the order of `scan`, in bounded chunks; small ones share a chunk. While
a batch is consumed the next ones are read and parsed in two threads of the reader's own.
"""

from __future__ import annotations

import asyncio
import glob
import os
from collections.abc import Callable

from asyncpersist.clock import Clock, SystemClock
from asyncpersist.errors import InputError
from asyncpersist.io.dead_letters import DeadLetters
from asyncpersist.io.file_offset import FileOffset
from asyncpersist.io.file_parser import FileParser
from asyncpersist.io.file_reader import FileReader
from asyncpersist.io.formats.format import Format
from asyncpersist.io.opening import Opening
from asyncpersist.io.scan import Listing, covers, not_found, scan
from asyncpersist.io.source import OWN, Needs, Offsets, Source, SourceReader
from asyncpersist.io.walk import Walk
from asyncpersist.io.watch import Rounds, Watch

__all__ = ["CHUNK_BYTES", "FileSource"]

CHUNK_BYTES = 8 << 20
"""About how many bytes of files make a batch."""


class FileSource(Source):
    """Reads what is there; then ends (`mode="static"`), or looks again and again (`"streaming"`).

    A partition is a file's path below the directory that was named (see `scan`), its offset a `FileOffset`; the
    partition "" holds the number given last to a part. A file that only grew is read on; one that was changed in any
    other way is taken back and read anew in one epoch, and a deleted one is taken back. Where a run does not follow
    that (static, without a state root) such a change is `InputChanged`. In streaming mode a last line without a newline
    waits, and what cannot be read for a moment stays as it was.

    `with_metadata` adds the column `METADATA`. `on_error="skip"` leaves out records that do not fit, counts them, and
    appends them to the file `dead_letters` if one is named; that file is never read as input. `mode` and `chunk_bytes`,
    which says how large batches are, are no part of the source's identity. `rounds` says when to look again.
    """

    by_parts = True

    def __init__(
        self,
        path: str,
        format: Format,
        *,
        mode: str = "static",
        with_metadata: bool = False,
        on_error: str = "raise",
        dead_letters: str | None = None,
        chunk_bytes: int = CHUNK_BYTES,
        clock: Clock | None = None,
        rounds: Callable[[str, Clock], Rounds] = Watch,
    ) -> None:
        if mode not in ("static", "streaming"):
            raise ValueError(f'mode must be "static" or "streaming", got {mode!r}')
        if on_error not in ("raise", "skip"):
            raise ValueError(f'on_error must be "raise" or "skip", got {on_error!r}')
        if dead_letters is not None and on_error != "skip":
            raise ValueError('dead_letters names a file for skipped records: it goes with on_error="skip"')
        if chunk_bytes < 1:
            raise ValueError(f"chunk_bytes must be positive, got {chunk_bytes}")
        self.streaming = mode == "streaming"
        self._path = path
        self._format = format
        self._with_metadata = with_metadata
        self._skips = on_error == "skip"
        self._dead_letters = dead_letters
        self._chunk_bytes = chunk_bytes
        self._clock = clock or SystemClock()
        self._rounds = rounds

    @property
    def dead_letters(self) -> str | None:
        """The path of the file that skipped records are appended to."""
        return self._dead_letters

    def retracts(self, *, persistent: bool) -> bool:
        return persistent or self.streaming

    async def check(self, offsets: Offsets | None, *, persistent: bool) -> None:
        await asyncio.to_thread(self._refuse_letters)
        await asyncio.to_thread(self._first_look, offsets or {})

    async def reads(self, path: str) -> bool:
        return os.path.isabs(path) and await asyncio.to_thread(covers, self._path, path)

    async def open(self, offsets: Offsets | None, *, identity: str, needs: Needs) -> SourceReader:
        opening = Opening(
            self._format,
            self._chunk_bytes,
            parts=needs.parts,
            # A single row could not be given with the order or the metadata it was given with before.
            tail_rows=needs.parts and needs.singly and not needs.order and not self._with_metadata,
            waits=self.streaming,
            clock=self._clock,
        )
        parser = FileParser(
            self._format, identity=identity, needs=needs, skips=self._skips, metadata=self._with_metadata
        )
        # Before the first look, so that no change after it goes unnoticed.
        rounds = self._rounds(self._path, self._clock) if self.streaming else None
        try:
            walk = await asyncio.to_thread(self._begun, opening, offsets or {})
        except BaseException:
            if rounds is not None:
                await rounds.aclose()
            raise
        letters = DeadLetters(self._dead_letters) if self._dead_letters else None
        return FileReader(walk, parser, letters, look=self._look, rounds=rounds, clock=self._clock)

    def _begun(self, opening: Opening, offsets: Offsets) -> Walk:
        recorded = {name: FileOffset.from_json(value) for name, value in offsets.items() if name != OWN}
        counted = offsets.get(OWN, {}).get("parts", 0)
        last_part = max([counted, *(offset.part for offset in recorded.values())])
        walk = Walk(opening, recorded, last_part, stays=self.streaming, skips=self._skips)
        walk.begin(self._first_look(offsets))
        return walk

    def _refuse_letters(self) -> None:
        if self._dead_letters is None:
            return
        folder = os.path.dirname(os.path.abspath(self._dead_letters))
        if not os.path.isdir(folder):
            raise InputError(
                f"the dead letters {self._dead_letters!r} cannot be kept: there is no directory {folder!r}"
            )

    def _first_look(self, offsets: Offsets) -> Listing:
        """The files there are at the start. Raises `InputError` for what cannot be there or cannot be read."""
        listing = self._look()
        if listing.unlisted and not self.streaming:
            first = listing.unlisted[0]
            raise InputError(f"cannot read the input {first.path!r}: {first.reason}")
        if not listing.exists and not (glob.has_magic(self._path) and (self.streaming or offsets)):
            raise not_found(self._path)
        return listing

    def _look(self) -> Listing:
        """The files there are, without the one of the dead letters."""
        listing = scan(self._path)
        if self._dead_letters is None:
            return listing
        try:
            own = os.stat(self._dead_letters)
        except OSError:
            return listing
        files = [
            file
            for file in listing.files
            if file.status.inode != own.st_ino or not os.path.samefile(file.path, self._dead_letters)
        ]
        return Listing(files, listing.unlisted, listing.exists)
