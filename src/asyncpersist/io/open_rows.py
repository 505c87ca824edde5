"""A file that is being read by rows, in slices. Any change of it is a change of all of it."""

from __future__ import annotations

import os
from dataclasses import replace

from asyncpersist.errors import MalformedInput
from asyncpersist.io.chunks import Piece
from asyncpersist.io.file_offset import changed
from asyncpersist.io.formats.format import Broken, Format
from asyncpersist.io.open_file import OpenFile, Start
from asyncpersist.io.scan import FileStatus, FoundFile

__all__ = ["SlicedFile"]


class SlicedFile(OpenFile):
    """Raises `MalformedInput` when it is made if it cannot be read in this format, `OSError`."""

    def __init__(self, found: FoundFile, start: Start, format: Format) -> None:
        super().__init__(found, start)
        self._state = start.offset
        self._at = start.offset.offset
        try:
            self._file = format.open_rows(found.path)
        except Broken as exc:
            raise self._malformed(exc) from exc

    def read(self, size: int) -> list[Piece]:
        count = min(max(1, size // self._file.row_bytes), self._file.height - self._at)
        try:
            rows = self._file.rows(self._at, count)
        except Broken as exc:
            raise self._malformed(exc) from exc
        first, self._at = self._at, self._at + rows.height
        self.ended = self._at >= self._file.height
        if self.ended and not self._is_still_there():
            raise changed(self.found.path, "it was modified while it was read")
        after = replace(self._state, offset=self._at, done=self.ended)
        return [
            Piece(
                self.found.partition,
                self.found.path,
                b"",
                None,
                first,
                after,
                first,
                frame=rows,
                frame_bytes=rows.height * self._file.row_bytes,
            )
        ]

    def _is_still_there(self) -> bool:
        try:
            return self._state.is_of(FileStatus.of(os.stat(self.found.path)))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        self._file.close()

    def _malformed(self, exc: Exception) -> MalformedInput:
        return MalformedInput(
            f"{self.found.path!r}: {exc}. Mend the file or take it away, "
            'or pass on_error="skip" to leave such files out.'
        )
