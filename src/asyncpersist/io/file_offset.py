"""Where the reading of a file continues, and whether the file is still the one that was read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from asyncpersist.errors import InputChanged
from asyncpersist.io.compression import InputFile
from asyncpersist.io.scan import FileStatus

__all__ = ["SMALL", "TAIL", "Continued", "FileOffset", "TailRow", "changed", "continue_grown", "digest", "is_fresh"]

TAIL = 4096
"""How many bytes before an offset are compared when a file has grown."""

SMALL = 1 << 20
"""Up to how many bytes a file is read once more if it may have changed without a trace."""

_TICK_NS = 20_000_000
"""Within this a kernel may give two changes the same time."""


@dataclass(frozen=True, slots=True)
class TailRow:
    """An unterminated last record that was taken although the offset stays at its beginning.

    `rows` is 0 if it gave no row: it was blank or left out as malformed.
    """

    length: int
    sha256: str
    rows: int = 0


@dataclass(frozen=True, slots=True)
class FileOffset:
    """A position in a file, as it lies in a snapshot.

    `inode`, `size` (bytes), `mtime_ns` and `ctime_ns` are the file's when it was opened. `offset` counts
    (decompressed) bytes, or rows in a format that is read by rows; `lines` the newlines before it, `rows` the
    records before it: the ordinal of the next. `tail` is the SHA-256 of the last `TAIL` bytes before `offset`.
    `done`: the file was read to its end; `waiting`: but for a last line that has no newline yet. `part` is the
    number of this version of the file. `doubt`, if set, is the SHA-256 of its `size` bytes as they lay on the disk:
    it was opened so soon after its last change that another one might show no other time.
    """

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    offset: int = 0
    lines: int = 0
    rows: int = 0
    tail: str = ""
    done: bool = False
    tail_row: TailRow | None = None
    part: int = 0
    waiting: bool = False
    doubt: str = ""

    def to_json(self) -> dict[str, Any]:
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> FileOffset:
        return msgspec.convert(value, FileOffset)

    def is_of(self, status: FileStatus) -> bool:
        """Whether the file is as it was, as far as its metadata tell."""
        return (self.inode, self.size, self.mtime_ns, self.ctime_ns) == status

    def at(self, status: FileStatus) -> FileOffset:
        """The same position in the file as it is now."""
        return replace(self, inode=status.inode, size=status.size, mtime_ns=status.mtime_ns, ctime_ns=status.ctime_ns)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def is_fresh(status: FileStatus, now_ns: int) -> bool:
    """Whether a change after `now_ns` might leave the file's times as they are."""
    return abs(now_ns - status.mtime_ns) < _TICK_NS or abs(now_ns - status.ctime_ns) < _TICK_NS


def changed(path: str, why: str) -> InputChanged:
    return InputChanged(
        f"the input file {path!r} was changed after it had been read: {why}. A static run without a "
        "state directory cannot take back the rows of a changed file: run again when it is at rest, or with "
        "persistence, where files may change at any time."
    )


@dataclass(frozen=True, slots=True)
class Continued:
    """Where a file that grew goes on. `taken_back`: the text of the tail row, if that is another row now."""

    offset: FileOffset
    taken_back: bytes | None = None


def continue_grown(recorded: FileOffset, file: InputFile, status: FileStatus) -> Continued | str:
    """Where to go on in an open file that grew and is the same inode; why not, if the rest of it is not as it was.

    Blocks. Raises `MalformedInput`, `OSError`.
    """
    if recorded.doubt and file.digest_on_disk(recorded.size) != recorded.doubt:
        return "it grew, and the bytes before the new ones differ from those that were read"
    start = max(recorded.offset - TAIL, 0)
    file.seek(start)
    if digest(file.read(recorded.offset - start)) != recorded.tail:
        return "it grew, and the bytes before the new ones differ from those that were read"
    grown = replace(recorded.at(status), done=False, waiting=False, tail_row=None, doubt="")
    row = recorded.tail_row
    if row is None or row.rows == 0:
        return Continued(grown)
    text = file.read(row.length)
    ending = file.read(2)
    if digest(text) != row.sha256:
        return "it grew, and its last line, which had been read without a newline at its end, is another now"
    for newline in (b"\n", b"\r\n"):
        # What was appended only ends the row that was already taken.
        if ending.startswith(newline):
            end = recorded.offset + row.length + len(newline)
            lines = grown.lines + text.count(b"\n") + 1
            return Continued(replace(grown, offset=end, lines=lines, rows=grown.rows + row.rows))
    return Continued(grown, text)
