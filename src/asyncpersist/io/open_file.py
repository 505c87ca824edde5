"""A file that is being read by bytes: cut into whole records, with where it continues after them.

Everything here blocks and is called by one thread.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from asyncpersist.errors import MalformedInput
from asyncpersist.io.byte_counts import count_byte
from asyncpersist.io.chunks import Piece
from asyncpersist.io.compression import InputFile
from asyncpersist.io.file_offset import SMALL, TAIL, FileOffset, TailRow, changed, digest
from asyncpersist.io.formats.format import Broken, Format, Head
from asyncpersist.io.scan import FileStatus, FoundFile

__all__ = ["LEAST", "LONGEST_RECORD", "ByteFile", "OpenFile", "Start"]

LONGEST_RECORD = 64 << 20
"""Bytes that a record may have. A longer one is refused, so that memory stays bounded."""

LEAST = 64 << 10
"""Bytes read at once, at least, except where smaller chunks are asked for."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where the reading of a file begins. `resumed`: something of this part was read before.

    `taken_back` is the text of a last record that has to be given with weight -1.
    """

    offset: FileOffset
    resumed: bool = False
    taken_back: bytes | None = None


class OpenFile:
    """A file between its opening and its end.

    `given`: chunks with pieces of it are out already. `atomic`: all of it belongs to one change.
    """

    def __init__(self, found: FoundFile, start: Start) -> None:
        self.found = found
        self.part = start.offset.part
        self.status = FileStatus(*(getattr(start.offset, name) for name in FileStatus._fields))
        self.given = start.resumed
        self.atomic = False
        self.ended = False

    def read(self, size: int) -> list[Piece]:
        """The next records, about `size` bytes; `ended` is true once there are no more. The last call may give
        nothing new.

        Raises `InputChanged` if the file was changed meanwhile, `MalformedInput` for what cannot be cut into
        records, `OSError`.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Idempotent."""
        raise NotImplementedError


class ByteFile(OpenFile):
    """`_buffer` holds the bytes from `_offset` on that were not given out yet. Owns `file`.

    `waits`: a last record without a newline is left for later. `doubts`: a file that is read while it is written is
    marked as one that may change without a trace.
    """

    def __init__(
        self, found: FoundFile, file: InputFile, start: Start, format: Format, *, least: int, waits: bool, doubts: bool
    ) -> None:
        super().__init__(found, start)
        self._format = format
        self._least = least
        self._waits = waits and not format.whole_files
        self._doubts = doubts
        self._file = file
        self._start = start
        self._limit = start.offset.size
        self._state = start.offset
        self._rows: int | None = start.offset.rows
        self._buffer = b""
        self._position = 0
        self._tail = b""
        self._offset = 0
        self._line = 0
        file.seek(0)
        self._head = self._read_head()
        if self._head is not None and start.resumed and start.offset.offset >= self._head.length:
            at = max(start.offset.offset - TAIL, 0)
            file.seek(at)
            self._tail = file.read(start.offset.offset - at)
            self._position, self._buffer = start.offset.offset, b""
            self._offset, self._line = start.offset.offset, start.offset.lines
        elif self._head is not None:
            # Also where a header that had no newline has grown: it is longer than the offset now.
            self._consume(self._head.length)

    def close(self) -> None:
        self._file.close()

    def read(self, size: int) -> list[Piece]:
        pieces = self._taken_back()
        while True:
            if self._head is None:
                return [*pieces, *self._finish(0)]
            at_end = self._fill(max(size, self._least))
            if at_end and self._grew_within_a_record():
                at_end = False
            cut = self._format.cut(self._buffer)
            if at_end:
                return [*pieces, *self._finish(cut)]
            if cut:
                return [*pieces, self._piece(cut, done=False)]
            if len(self._buffer) > LONGEST_RECORD:
                raise MalformedInput(
                    f"{self.found.path!r}, line {self._line + 1}: a record of more than "
                    f"{LONGEST_RECORD >> 20} MiB, beginning with {self._buffer[:80]!r}. Is this the right format?"
                )

    def _taken_back(self) -> list[Piece]:
        text = self._start.taken_back
        if text is None:
            return []
        self._start = replace(self._start, taken_back=None)
        layout = None if self._head is None else self._head.layout
        return [
            Piece(
                self.found.partition,
                self.found.path,
                text + b"\n",
                layout,
                self._line,
                self._after(False),
                self._rows,
                weight=-1,
            )
        ]

    def _read_head(self) -> Head | None:
        """None if the file ends within it, and more may come."""
        while True:
            at_end = self._fill(self._least)
            try:
                head = self._format.head(self._buffer, complete=at_end and not self._waits)
            except Broken as exc:
                raise MalformedInput(f"{self.found.path!r}, line 1: {exc}") from exc
            if head is not None or at_end:
                return head
            if len(self._buffer) > LONGEST_RECORD:
                raise MalformedInput(f"{self.found.path!r}, line 1: a header of more than {LONGEST_RECORD >> 20} MiB")

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
            raise changed(self.found.path, "it was truncated while it was read")
        return data

    def _first(self, length: int) -> bytes:
        """The first bytes of the buffer."""
        if length == len(self._buffer) or self._file.compressed or length < LEAST:
            return self._buffer[:length]
        data = self._read_at(self._offset, length)
        self._file.seek(self._position)
        return data

    def _grew_within_a_record(self) -> bool:
        """At the end: whether the last record is being written just now. Then more is read, until it is
        whole.
        """
        if self._waits or self._file.compressed or self._buffer.endswith(b"\n") or not self._buffer:
            return False
        status = FileStatus.of(self._file.status())
        if status.size <= self._limit:
            return False
        self._limit = status.size
        doubtful = self._doubts and status.size <= SMALL
        doubt = self._file.digest_on_disk(status.size) if doubtful else ""
        self._state = replace(self._state.at(status), doubt=doubt)
        return True

    def _finish(self, cut: int) -> list[Piece]:
        status = FileStatus.of(self._file.status())
        why = None
        if status.size < self._limit:
            why = "it was truncated while it was read"
        elif not self._state.is_of(status) and (status.size == self._limit or self._file.compressed):
            why = "it was modified while it was read"
        if why:
            raise changed(self.found.path, why)
        self.ended = True
        pieces = [self._piece(cut, done=True)]
        if self._waits and self._buffer:
            return [replace(pieces[0], after=replace(pieces[0].after, waiting=True))]
        if self._buffer or self._format.whole_files:
            pieces.append(self._tail_piece())
        return pieces

    def _piece(self, length: int, *, done: bool) -> Piece:
        data, line, rows = self._first(length), self._line, self._rows
        self._consume(length)
        self._rows = None
        layout = None if self._head is None else self._head.layout
        return Piece(self.found.partition, self.found.path, data, layout, line, self._after(done), rows)

    def _tail_piece(self) -> Piece:
        data, self._buffer = self._buffer, b""
        after = replace(self._after(True), tail_row=TailRow(len(data), digest(data)))
        whole = data if self._format.whole_files else data + b"\n"
        layout = None if self._head is None else self._head.layout
        return Piece(self.found.partition, self.found.path, whole, layout, self._line, after, None, is_tail=True)

    def _after(self, done: bool) -> FileOffset:
        return replace(
            self._state,
            offset=self._offset,
            lines=self._line,
            tail=digest(self._tail),
            done=done,
            tail_row=None,
            waiting=False,
        )

    def _consume(self, length: int) -> None:
        consumed = memoryview(self._buffer)[:length]
        self._line += count_byte(consumed, b"\n")
        self._tail = (self._tail + bytes(consumed[-TAIL:]))[-TAIL:]
        self._offset += length
        self._buffer = self._buffer[length:]
