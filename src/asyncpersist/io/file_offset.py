"""Where the reading of a file continues, and whether the file is still the one that was read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from asyncpersist.errors import InputChanged, InputError
from asyncpersist.io.compression import InputFile

__all__ = ["TAIL", "FileOffset", "TailRow", "changed", "digest", "resume"]

TAIL = 4096
"""How many bytes before an offset are compared when a file has grown."""


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
    (decompressed) bytes, `lines` the newlines before it, `rows` the records before it: the ordinal of the
    next. `tail` is the SHA-256 of the last `TAIL` bytes before `offset`. `done`: the file was read to its
    end.
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

    def to_json(self) -> dict[str, Any]:
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> FileOffset:
        return msgspec.convert(value, FileOffset)

    def is_of(self, status: os.stat_result) -> bool:
        """Whether the file is as it was, as far as its metadata tell."""
        return (self.inode, self.size, self.mtime_ns, self.ctime_ns) == (
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
        )


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def resume(recorded: FileOffset, path: str, *, whole_files: bool) -> FileOffset:
    """Where to go on in a file that was read before; `.done` if nothing of it is left.

    Only a file that grew and whose bytes before the offset are unchanged has more to give. Blocks.
    Raises `InputChanged` for any other change, `InputError` if the file cannot be read. `whole_files`: the
    file is one row, which growth changes.
    """
    try:
        status = os.stat(path)
        if recorded.is_of(status):
            return recorded
        why = _difference(recorded, status)
        if why is None and whole_files:
            why = "it grew, which changes its row"
        if why is None:
            with InputFile(path) as file:
                return _continue_grown(recorded, file, path)
    except FileNotFoundError:
        why = "it was deleted"
    except InputError:
        raise
    except OSError as exc:
        raise InputError(f"cannot read the input file {path!r}: {exc.strerror or exc}") from exc
    raise changed(path, why)


def changed(path: str, why: str) -> InputChanged:
    return InputChanged(
        f"the input file {path!r} was changed after it had been read: {why}. Taking back the rows of a changed "
        "file is not built yet: start with an empty state directory, and in future append lines or add files."
    )


def _difference(recorded: FileOffset, status: os.stat_result) -> str | None:
    """Why the file is not the recorded one with something appended; None if it may be."""
    if status.st_ino != recorded.inode:
        return "another file is in its place (the inode differs)"
    if status.st_size < recorded.size:
        return f"it was truncated from {recorded.size} to {status.st_size} bytes"
    if status.st_size == recorded.size:
        which = "mtime" if status.st_mtime_ns != recorded.mtime_ns else "ctime"
        return f"it was modified (its {which} differs, its size does not)"
    return None


def _continue_grown(recorded: FileOffset, file: InputFile, path: str) -> FileOffset:
    start = max(recorded.offset - TAIL, 0)
    file.seek(start)
    if digest(file.read(recorded.offset - start)) != recorded.tail:
        raise changed(path, "it grew, and the bytes before the new ones differ from those that were read")
    status = file.status()
    grown = replace(
        recorded,
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
        done=False,
        tail_row=None,
    )
    row = recorded.tail_row
    if row is None or row.rows == 0:
        return grown
    text = file.read(row.length)
    ending = file.read(2)
    if digest(text) == row.sha256:
        for newline in (b"\n", b"\r\n"):
            # What was appended only ends the row that was already taken.
            if ending.startswith(newline):
                end = recorded.offset + row.length + len(newline)
                return replace(grown, offset=end, lines=grown.lines + 1, rows=grown.rows + row.rows)
    raise changed(path, "it grew, and its last line, which had been read without a newline at its end, is another now")
