"""Input files as a sequence of pieces: whole records of one file, with where the file continues after them.

The files are read one after the other, each from where it was left. Everything here blocks and is called by
one thread.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from asyncpersist.errors import InputError, MalformedInput
from asyncpersist.io.byte_counts import count_byte
from asyncpersist.io.compression import InputFile
from asyncpersist.io.file_offset import TAIL, FileOffset, TailRow, changed, digest, resume
from asyncpersist.io.formats.format import Broken, Format, Head
from asyncpersist.io.scan import FoundFile

__all__ = ["LONGEST_RECORD", "Piece", "Walk", "rest_of"]

LONGEST_RECORD = 64 << 20
"""Bytes that a record may have. A longer one is refused, so that memory stays bounded."""

_LEAST = 64 << 10
"""Bytes read at once, at least, except where smaller chunks are asked for."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole records of one file: `data`, each with its newline.

    `line` counts the newlines before them in the file. `after` is the offset after them, but for its `rows`
    (those before the piece if `rows` is set, else the ones of the piece before of this file): only the parser
    can count. `is_tail`: it is the last record, which had no newline in the file.
    """

    partition: str
    path: str
    data: bytes
    layout: Any
    line: int
    after: FileOffset
    rows: int | None
    is_tail: bool = False


class Walk:
    """The rest of some files, `size` bytes at a time."""

    def __init__(
        self, files: Sequence[FoundFile], recorded: Mapping[str, FileOffset], format: Format, size: int
    ) -> None:
        self._files = deque(files)
        self._recorded = recorded
        self._format = format
        self._size = size
        self._open: _OpenFile | None = None

    def next(self) -> list[Piece]:
        """The next pieces, together about `size` bytes; empty at the end.

        Raises `InputChanged` if a file was changed meanwhile, `MalformedInput` for what cannot be cut into
        records, `InputError` if a file cannot be read.
        """
        pieces: list[Piece] = []
        left = self._size
        while left > 0:
            if self._open is None and not self._open_next():
                break
            assert self._open is not None
            found = self._open.read(left)
            pieces += found
            left -= sum(len(piece.data) for piece in found)
            if self._open.ended:
                self._open.close()
                self._open = None
        return pieces

    def _open_next(self) -> bool:
        while self._files:
            file = self._files.popleft()
            recorded = self._recorded.get(file.partition)
            if recorded is not None and recorded.done:
                continue
            try:
                self._open = _OpenFile(file, recorded, self._format, min(self._size, _LEAST))
            except FileNotFoundError as exc:
                if recorded is not None:
                    raise changed(file.path, "it was deleted") from exc
                continue  # gone since it was found, and nothing of it was read
            except OSError as exc:
                raise _unreadable(file.path, exc) from exc
            return True
        return False

    def close(self) -> None:
        """Idempotent."""
        self._files.clear()
        if self._open is not None:
            self._open.close()
            self._open = None


class _OpenFile:
    """One file being read. `_buffer` holds the bytes from `_offset` on that were not given out yet."""

    def __init__(self, found: FoundFile, recorded: FileOffset | None, format: Format, least: int) -> None:
        self._found = found
        self._format = format
        self._least = least
        self._file = InputFile(found.path)
        self.ended = False
        try:
            status = self._file.status()
            if recorded is not None and (
                status.st_ino != recorded.inode or (self._file.compressed and not recorded.is_of(status))
            ):
                raise changed(found.path, "it was replaced while the run began")
            self._limit = status.st_size if recorded is None else recorded.size
            self._state = _of(status) if recorded is None else recorded
            self._rows: int | None = 0 if recorded is None else recorded.rows
            self._buffer = b""
            self._position = 0
            self._head = self._read_head()
            self._tail = b""
            self._offset = 0
            self._line = 0
            if recorded is not None and recorded.offset >= self._head.length:
                start = max(recorded.offset - TAIL, 0)
                self._file.seek(start)
                self._tail = self._file.read(recorded.offset - start)
                self._position, self._buffer = recorded.offset, b""
                self._offset, self._line = recorded.offset, recorded.lines
            else:
                # Also where a header that had no newline has grown: it is longer than the offset now.
                self._consume(self._head.length)
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        self._file.close()

    def read(self, size: int) -> list[Piece]:
        """The next records, about `size` bytes; `ended` is true once there are no more. The last call may
        give nothing new.
        """
        try:
            while True:
                at_end = self._fill(max(size, self._least))
                if at_end and self._grew_within_a_record():
                    at_end = False
                cut = self._format.cut(self._buffer)
                if at_end:
                    return self._finish(cut)
                if cut:
                    return [self._piece(cut, done=False)]
                if len(self._buffer) > LONGEST_RECORD:
                    raise MalformedInput(
                        f"{self._found.path!r}, line {self._line + 1}: a record of more than "
                        f"{LONGEST_RECORD >> 20} MiB, beginning with {self._buffer[:80]!r}. Is this the right format?"
                    )
        except OSError as exc:
            if isinstance(exc, InputError):
                raise
            raise _unreadable(self._found.path, exc) from exc

    def _read_head(self) -> Head:
        while True:
            at_end = self._fill(self._least)
            try:
                head = self._format.head(self._buffer, complete=at_end)
            except Broken as exc:
                raise MalformedInput(f"{self._found.path!r}, line 1: {exc}") from exc
            if head is not None:
                return head
            if len(self._buffer) > LONGEST_RECORD:
                raise MalformedInput(f"{self._found.path!r}, line 1: a header of more than {LONGEST_RECORD >> 20} MiB")

    def _fill(self, size: int) -> bool:
        """Reads up to `size` more bytes; True at the end of the file (as it was when it was opened)."""
        if self._file.compressed:
            block = self._file.read(size)
            at_end = len(block) < size
        else:
            wanted = min(size, self._limit - self._position)
            at_end = self._position + wanted == self._limit
            block = self._read_at(self._position - len(self._buffer), len(self._buffer) + wanted)
            self._position += wanted
            self._buffer = block
            return at_end
        self._position += len(block)
        self._buffer = self._buffer + block if self._buffer else block
        return at_end

    def _read_at(self, start: int, length: int) -> bytes:
        """Bytes of a file that is not compressed, read again where they were read before.

        A copy made by the system lets other threads go on; one of `bytes` holds them up for milliseconds.
        """
        self._file.seek(start)
        data = self._file.read(length)
        if len(data) < length:
            raise changed(self._found.path, "it was truncated while it was read")
        return data

    def _first(self, length: int) -> bytes:
        """The first bytes of the buffer."""
        if length == len(self._buffer) or self._file.compressed or length < _LEAST:
            return self._buffer[:length]
        data = self._read_at(self._offset, length)
        self._file.seek(self._position)
        return data

    def _grew_within_a_record(self) -> bool:
        """At the end: whether the last record is being written just now. Then more is read, until it is
        whole.
        """
        if self._file.compressed or self._buffer.endswith(b"\n") or not self._buffer:
            return False
        status = self._file.status()
        if status.st_size <= self._limit:
            return False
        self._limit = status.st_size
        self._state = _of(status, self._state)
        return True

    def _finish(self, cut: int) -> list[Piece]:
        status = self._file.status()
        why = None
        if status.st_size < self._limit:
            why = "it was truncated while it was read"
        elif not self._state.is_of(status) and (status.st_size == self._limit or self._file.compressed):
            why = "it was modified while it was read"
        if why:
            raise changed(self._found.path, why)
        self.ended = True
        pieces = [self._piece(cut, done=True)]
        if self._buffer or self._format.whole_files:
            pieces.append(self._tail_piece())
        return pieces

    def _piece(self, length: int, *, done: bool) -> Piece:
        data, line, rows = self._first(length), self._line, self._rows
        self._consume(length)
        self._rows = None
        return Piece(self._found.partition, self._found.path, data, self._head.layout, line, self._after(done), rows)

    def _tail_piece(self) -> Piece:
        data, self._buffer = self._buffer, b""
        after = replace(self._after(True), tail_row=TailRow(len(data), digest(data)))
        whole = data if self._format.whole_files else data + b"\n"
        return Piece(
            self._found.partition, self._found.path, whole, self._head.layout, self._line, after, None, is_tail=True
        )

    def _after(self, done: bool) -> FileOffset:
        return replace(
            self._state, offset=self._offset, lines=self._line, tail=digest(self._tail), done=done, tail_row=None
        )

    def _consume(self, length: int) -> None:
        consumed = memoryview(self._buffer)[:length]
        self._line += count_byte(consumed, b"\n")
        self._tail = (self._tail + bytes(consumed[-TAIL:]))[-TAIL:]
        self._offset += length
        self._buffer = self._buffer[length:]


def _of(status: os.stat_result, offset: FileOffset | None = None) -> FileOffset:
    base = offset or FileOffset(0, 0, 0, 0)
    return replace(
        base,
        inode=status.st_ino,
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
    )


def _unreadable(path: str, exc: OSError) -> InputError:
    return InputError(f"cannot read the input file {path!r}: {exc.strerror or exc}")


def rest_of(
    files: Sequence[FoundFile], recorded: Mapping[str, FileOffset], *, whole_files: bool
) -> dict[str, FileOffset]:
    """Where each recorded file continues, judged against what is there now.

    Raises `InputChanged` for a file that is gone or was changed in another way than by appending.
    """
    there = {file.partition: file.path for file in files}
    gone = sorted(set(recorded) - set(there))
    if gone:
        more = f", and {len(gone) - 1} more" if len(gone) > 1 else ""
        raise changed(gone[0], f"it was deleted or is left out now{more}")
    return {name: resume(offset, there[name], whole_files=whole_files) for name, offset in recorded.items()}
