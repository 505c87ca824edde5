"""A local file that only grows, continues where it was committed, and never shows what a deposed writer wrote.

A writer holds its file open and locked. Whoever continues cuts the file in place only if it got that lock and knows
the writer before it to be gone; otherwise it copies the committed bytes to a new file that it puts in the place of
the old one. A writer that finds another file in its place copies its own back.

All of this blocks and belongs into a worker thread. Every change of the disk goes through a `Disk`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from asyncpersist.clock import Clock
from asyncpersist.disk import Disk
from asyncpersist.errors import OutputChanged, OutputError, OutputNotEmpty

__all__ = ["START", "Mark", "OutputFile", "examine"]

_TAIL = 4096
_COPIED_AT_ONCE = 1 << 20
_LONGEST_NAME = 200
_REMEDY = 'Put back what was there, or say on_restart="overwrite" to start a new file with what is new from now on.'


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a file: the bytes before it, and the SHA-256 of the last 4 KiB of them in hexadecimal."""

    length: int
    tail: str


START = Mark(0, hashlib.sha256(b"").hexdigest())
"""The beginning of every file."""


def examine(path: Path, mark: Mark | None, *, anew: bool, clean: bool = False) -> None:
    """Raises `OutputError` if a run cannot write to `path`; changes nothing.

    `anew`: whatever is there will be replaced. Otherwise it must go on at `mark`, or be absent or empty if None. Who
    never wrote there (`mark` is None) is refused while another run writes there: neither would know of the other.
    `clean`: nothing was written there after `mark` that may be cut.
    """
    try:
        _examine(path, mark, anew=anew, clean=clean)
    except OSError as exc:
        raise OutputError(f"{path} cannot be an output: {exc}. Give the output another path.") from exc


def _examine(path: Path, mark: Mark | None, *, anew: bool, clean: bool) -> None:
    if not path.parent.is_dir():
        raise OutputError(f"{path}: there is no directory {path.parent}. Make it first.")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: new files cannot be made in {path.parent}. Change its permissions.")
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if mark is not None and mark.length and not anew:
            raise OutputChanged(_missing(path, mark)) from None
        return
    if not stat.S_ISREG(mode):
        what = "a directory" if stat.S_ISDIR(mode) else "no regular file"
        raise OutputError(f"{path} is {what}. Give the output another path.")
    if not os.access(path, os.R_OK | os.W_OK):
        raise OutputError(f"{path} cannot be read and written. Change its permissions.")
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if mark is None and _is_held(fd):
            raise _contested(path)
        if not anew:
            _verify(path, fd, mark)
            size = os.fstat(fd).st_size
            if clean and mark is not None and size > mark.length:
                raise OutputChanged(
                    f"{path}: {size} bytes, but {mark.length} were committed when the last run ended: it was appended "
                    f"to, perhaps by a run that goes on with another copy of the state. {_REMEDY}"
                )
    finally:
        os.close(fd)


class OutputFile:
    """An open output file, made by `create` or `resume`. Not thread-safe.

    All calls may raise `OSError`, and may then be repeated.
    """

    def __init__(self, path: Path, fd: int, written: int, disk: Disk, clock: Clock) -> None:
        self._path = path
        self._fd = fd
        self._written = written
        self._disk = disk
        self._clock = clock
        self._torn = False
        self._doubtful = False

    @staticmethod
    def create(path: Path, disk: Disk, clock: Clock, *, replacing: bool = True) -> OutputFile:
        """A new, empty file in the place of what is at `path`. Not `replacing`: if a file is there, `OutputError`."""
        fd = _put_in_place(path, None, 0, disk, clock, replacing=replacing)
        _remove_leftovers(path, disk)
        return OutputFile(path, fd, 0, disk, clock)

    @staticmethod
    def resume(path: Path, mark: Mark | None, *, exclusive: bool, disk: Disk, clock: Clock) -> OutputFile:
        """The file at `path`, without what lies beyond `mark` (None: a first claim, of an empty or absent file).

        `exclusive` says that whoever wrote it before is known to be gone. Raises `OutputError` if the file is not
        what was committed, and then has changed nothing.
        """
        length = mark.length if mark is not None else 0
        try:
            fd = disk.open(path)
        except FileNotFoundError:
            if mark is not None and length:
                raise OutputChanged(_missing(path, mark)) from None
            return OutputFile.create(path, disk, clock, replacing=False)
        try:
            if exclusive and not length and _is_held(fd):
                raise _contested(path)
            locked = _lock(fd)
            _verify(path, fd, mark)
            if exclusive and locked and _is_at(path, fd):
                disk.truncate(fd, length)
            else:
                old, fd = fd, _put_in_place(path, fd, length, disk, clock)
                disk.close(old)
        except BaseException:
            disk.close(fd)
            raise
        _remove_leftovers(path, disk)
        return OutputFile(path, fd, length, disk, clock)

    @property
    def path(self) -> Path:
        return self._path

    @property
    def written(self) -> int:
        """Bytes appended so far, those before it was opened included."""
        return self._written

    def append(self, data: bytes) -> None:
        """Writes all of `data` or, if it raises, as good as nothing: a later call cuts off what a failed one left."""
        if self._torn:
            self._disk.truncate(self._fd, self._written)
        self._torn = True
        self._disk.write(self._fd, data)
        self._written += len(data)
        self._torn = False

    def sync(self) -> bool:
        """Makes durable what was appended. Whether readers of the path see it; if not, `put_back` is to be called.

        Raises `OutputChanged` if somebody else changed the file.
        """
        # After a failed fsync the system may have dropped bytes and call them clean: only a new file can be trusted.
        if not self._doubtful:
            self._doubtful = True
            self._disk.fsync(self._fd)
            self._doubtful = False
        size = os.fstat(self._fd).st_size
        if size != self._written and not self._torn:
            raise OutputChanged(
                f"{self._path}: {size} bytes, but {self._written} were written: it was changed meanwhile. {_REMEDY}"
            )
        return not self._doubtful and _is_at(self._path, self._fd)

    def put_back(self) -> None:
        """Puts a durable copy of what was written in the place of whatever is at the path."""
        fd = _put_in_place(self._path, self._fd, self._written, self._disk, self._clock)
        old, self._fd = self._fd, fd
        self._torn = self._doubtful = False
        self._disk.close(old)

    def mark(self) -> Mark:
        """The place after all that was appended."""
        return Mark(self._written, _tail_digest(self._fd, self._written))

    def close(self) -> None:
        """Lets go of the file and its lock."""
        self._disk.close(self._fd)


def _put_in_place(
    path: Path, source: int | None, length: int, disk: Disk, clock: Clock, *, replacing: bool = True
) -> int:
    """A new file with the first `length` bytes of `source`, durable, locked, at `path`: its descriptor, at the end."""
    temporary = path.with_name(f"{_prefix(path)}{clock.token()}.tmp")
    fd = disk.create(temporary)
    try:
        with contextlib.suppress(OSError):
            os.fchmod(fd, stat.S_IMODE(path.stat().st_mode))
        copied = 0
        while source is not None and copied < length:
            data = os.pread(source, min(_COPIED_AT_ONCE, length - copied), copied)
            if not data:
                raise OutputChanged(f"{path}: {copied} bytes, but {length} were committed. {_REMEDY}")
            disk.write(fd, data)
            copied += len(data)
        disk.fsync(fd)
        _lock(fd)
        if replacing:
            disk.rename(temporary, path)
        else:
            _link(temporary, path, disk)
        disk.fsync_directory(path.parent)
    except BaseException:
        disk.close(fd)
        with contextlib.suppress(OSError):
            disk.unlink(temporary)
        raise
    return fd


def _link(temporary: Path, path: Path, disk: Disk) -> None:
    """As a rename, but only if there is nothing at `path`."""
    try:
        disk.link(temporary, path)
    except (FileExistsError, FileNotFoundError):
        # Not found is the temporary file: whoever was first has removed it as a leftover.
        if os.path.lexists(path):
            raise _contested(path) from None
        raise
    disk.unlink(temporary)


def _remove_leftovers(path: Path, disk: Disk) -> None:
    """Removes the copies that killed writers left. One that only sleeps can then no longer put its copy in place."""
    leftover = re.compile(re.escape(_prefix(path)) + r"[0-9a-f]{32}\.tmp")
    with contextlib.suppress(OSError):
        for name in os.listdir(path.parent):
            if leftover.fullmatch(name):
                disk.unlink(path.parent / name)


def _prefix(path: Path) -> str:
    name = path.name
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return f".{name}."


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_held(fd: int) -> bool:
    """Whether another run has the file open and locked, as far as the file system knows."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def _contested(path: Path) -> OutputError:
    return OutputError(
        f"{path}: another run is writing there. Give each run an output of its own, or end the other run."
    )


def _is_at(path: Path, fd: int) -> bool:
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(fd))


def _tail_digest(fd: int, length: int) -> str:
    start = max(0, length - _TAIL)
    data = b""
    while part := os.pread(fd, length - start - len(data), start + len(data)):
        data += part
    return hashlib.sha256(data).hexdigest()


def _verify(path: Path, fd: int, mark: Mark | None) -> None:
    size = os.fstat(fd).st_size
    if mark is None:
        if size:
            raise OutputNotEmpty(
                f"{path} holds {size} bytes that are not of this output. Move it away, or say "
                'on_restart="overwrite" to replace it.'
            )
    elif size < mark.length:
        raise OutputChanged(
            f"{path}: {size} bytes, but {mark.length} were committed: it was cut or replaced. {_REMEDY}"
        )
    elif _tail_digest(fd, mark.length) != mark.tail:
        raise OutputChanged(
            f"{path}: the bytes before byte {mark.length} are not those that were committed: it was edited. {_REMEDY}"
        )


def _missing(path: Path, mark: Mark) -> str:
    return f"{path}: there is no such file, but {mark.length} bytes of it were committed. {_REMEDY}"
