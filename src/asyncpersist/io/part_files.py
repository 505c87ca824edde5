"""A directory of numbered files that only grows, continues where it was committed, and never shows what a deposed
writer wrote.

A file is written under another name in a *workshop*, a hidden directory of the writer's own, and then linked into the
directory under the next number. Whoever continues first takes over the workshops of others, by renaming them: from then
on nothing can be finished in them, neither a file that is being written nor a new one. Only then the files beyond
the committed ones are removed. So what is in the directory is what was committed, and what its present writer added.

All of this blocks and belongs into a worker thread. Every change of the disk goes through a `Disk`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asyncpersist.clock import Clock
from asyncpersist.disk import Disk
from asyncpersist.errors import OutputChanged, OutputError, OutputNotEmpty

__all__ = ["NOTHING", "PartFiles", "Parts", "examine", "part_name"]

_NAME = re.compile(r"part-([0-9]{9,})\.parquet")
_TAIL = 4096
_LONGEST_NAME = 200
_REMEDY = 'Put back what was there, or say on_restart="overwrite" to start anew with what is new from now on.'


@dataclass(frozen=True, slots=True)
class Parts:
    """Files 1 to `files`: a digest over the sizes of all, and one of the last 4 KiB of the last, in hexadecimal."""

    files: int
    sizes: str
    tail: str

    def after(self, size: int, tail: str) -> Parts:
        """With one more file."""
        return Parts(self.files + 1, hashlib.sha256(f"{self.sizes} {size}".encode()).hexdigest(), tail)


NOTHING = Parts(0, "", "")
"""Before the first file."""


def examine(path: Path, parts: Parts | None, *, anew: bool, clean: bool = False) -> None:
    """Raises `OutputError` if a run cannot write to the directory `path`; changes nothing.

    `anew`: the numbered files there will be replaced. Otherwise it must go on after `parts`, or be absent or empty if
    None; hidden names do not count. Who never wrote there (`parts` is None) is refused while another run writes there.
    `clean`: no file was written there after `parts` that may be removed.
    """
    if not path.exists():
        if not path.parent.is_dir():
            raise OutputError(f"{path}: there is no directory {path.parent}. Make it first.")
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise OutputError(f"{path}: it cannot be made in {path.parent}. Change its permissions.")
        if parts is not None and parts.files and not anew:
            raise OutputChanged(
                f"{path}: there is no such directory, but {parts.files} files were committed. {_REMEDY}"
            )
        return
    if not path.is_dir():
        raise OutputError(f"{path} is no directory, which this output needs. Give it another path.")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise OutputError(f"{path} cannot be read and written. Change its permissions.")
    if parts is None:
        _refuse_if_held(path)
    if parts is None or anew:
        _refuse_foreign(path, own=not anew)
    else:
        _verify(path, parts, clean=clean)


class PartFiles:
    """An open directory of numbered files, made by `open`. Not thread-safe.

    Calls may raise `OSError`, and may then be repeated.
    """

    def __init__(self, path: Path, lock: int, parts: Parts, disk: Disk, clock: Clock) -> None:
        self._path = path
        self._lock = lock
        self._parts = parts
        self._disk = disk
        self._clock = clock
        self._workshop: Path | None = None
        self._unsynced = True
        self._newest = 0

    @staticmethod
    def open(path: Path, parts: Parts | None, *, anew: bool, exclusive: bool, disk: Disk, clock: Clock) -> PartFiles:
        """The directory, made if there is none. Nothing in it is changed before `take_over`.

        `exclusive` says that whoever wrote there before is known to be gone. Raises `OutputError`.
        """
        examine(path, parts, anew=anew)
        disk.mkdir(path)
        start = NOTHING if parts is None or anew else parts
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        # Who goes on after files of its own may find a deposed writer that still runs.
        if not _lock(lock) and exclusive and not start.files:
            os.close(lock)
            raise _contested(path)
        return PartFiles(path, lock, start, disk, clock)

    @property
    def path(self) -> Path:
        return self._path

    @property
    def parts(self) -> Parts:
        """The files that count: those committed before and those added since."""
        return self._parts

    def take_over(self) -> None:
        """Deposes whoever wrote before and removes what lies beyond the files that count. Idempotent.

        Only to be called by the owner, and before the first `add`.
        """
        place = self._place()
        workshop = place / f"{_prefix(self._path)}{self._clock.token()}.tmp"
        taken = [other for other in _workshops(self._path) if other.parent == place]
        for other in taken:
            # In the place of an empty one.
            with contextlib.suppress(FileNotFoundError):
                self._disk.rename(other, workshop)
            self._clear(workshop)
        for other in _workshops(self._path):
            if other.parent != place:
                self._clear(other)
                self._disk.rmdir(other)
        self._disk.mkdir(workshop)
        for name, number in _numbered(self._path):
            if number > self._parts.files:
                self._disk.unlink(self._path / name)
        self._disk.fsync_directory(self._path)
        self._disk.fsync_directory(self._path.parent)
        self._workshop = workshop

    @property
    def is_deposed(self) -> bool:
        """Whether there is no workshop of its own: it has not taken over, or another has, or somebody removed it."""
        return self._workshop is None or not self._workshop.is_dir()

    def add(self, data: bytes | memoryview) -> None:
        """Adds a file of this content. If it raises, none was added."""
        assert self._workshop is not None
        path = self._path / part_name(self._parts.files + 1)
        temporary = self._workshop / path.name
        self._disk.unlink(temporary)
        fd = self._disk.create(temporary)
        try:
            self._disk.write(fd, data)
            self._disk.fsync(fd)
        finally:
            self._disk.close(fd)
        try:
            self._disk.link(temporary, path)
        except FileExistsError as exc:
            raise OutputChanged(
                f"{path}: somebody else put it there. Move it away, and give each run an output of its own."
            ) from exc
        except OSError:
            if not _is_same(temporary, path):
                raise
        self._unsynced = True
        self._newest = len(data)
        self._parts = self._parts.after(len(data), hashlib.sha256(bytes(data[-_TAIL:])).hexdigest())
        with contextlib.suppress(OSError):
            self._disk.unlink(temporary)

    def sync(self) -> None:
        """Makes durable what was added. Raises `OutputChanged` if somebody else changed the directory."""
        if not _is_same(self._path, self._lock):
            raise OutputChanged(f"{self._path}: it was removed or replaced while a run wrote there. {_REMEDY}")
        if not self._unsynced:
            return
        self._disk.fsync_directory(self._path)
        newest = self._path / part_name(self._parts.files)
        if self._newest and not (newest.is_file() and newest.stat().st_size == self._newest):
            raise OutputChanged(f"{newest}: it was changed or removed after it had been written. {_REMEDY}")
        self._unsynced = False

    def close(self) -> None:
        """Lets go of the directory."""
        if self._workshop is not None:
            with contextlib.suppress(OSError):
                self._clear(self._workshop)
                self._disk.rmdir(self._workshop)
        os.close(self._lock)

    def _place(self) -> Path:
        """Where the workshop is: beside the directory, where no reader looks; else in it, where it can be linked."""
        parent = self._path.parent
        if os.access(parent, os.W_OK | os.X_OK) and parent.stat().st_dev == self._path.stat().st_dev:
            return parent
        return self._path

    def _clear(self, directory: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(directory):
                self._disk.unlink(directory / name)


def part_name(number: int) -> str:
    """The name of a file, the first of which has the number 1."""
    return f"part-{number:09}.parquet"


def _workshops(path: Path) -> list[Path]:
    """Those of this directory, in both places where they can be."""
    own = re.compile(re.escape(_prefix(path)) + r"[0-9a-f]{32}\.tmp")
    return [place / name for place in (path.parent, path) for name in sorted(os.listdir(place)) if own.fullmatch(name)]


def _numbered(path: Path) -> list[tuple[str, int]]:
    """The names with their numbers, the highest number first."""
    found = [(name, int(match[1])) for name in os.listdir(path) if (match := _NAME.fullmatch(name))]
    return sorted(found, key=lambda pair: -pair[1])


def _prefix(path: Path) -> str:
    name = path.name
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return f".{name}.parts-"


def _refuse_foreign(path: Path, *, own: bool) -> None:
    """Raises `OutputNotEmpty` for anything that is not hidden and, unless they count (`own`), no numbered file."""
    names = [name for name in sorted(os.listdir(path)) if not name.startswith(".")]
    foreign: Sequence[str] = names if own else [name for name in names if not _NAME.fullmatch(name)]
    if foreign:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        remedy = ', or say on_restart="overwrite" to replace it' if own and all(map(_NAME.fullmatch, names)) else ""
        raise OutputNotEmpty(f"{path} holds {foreign[0]!r}{more}, which is not of this output. Move it away{remedy}.")


def _refuse_if_held(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not _lock(fd):
            raise _contested(path)
    finally:
        os.close(fd)


def _lock(fd: int) -> bool:
    """False if another has it, as far as the file system knows."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _contested(path: Path) -> OutputError:
    return OutputError(
        f"{path}: another run is writing there. Give each run an output of its own, or end the other run."
    )


def _verify(path: Path, parts: Parts, *, clean: bool) -> None:
    sizes = {}
    with os.scandir(path) as entries:
        for entry in entries:
            if match := _NAME.fullmatch(entry.name):
                sizes[int(match[1])] = entry.stat().st_size
    found = NOTHING
    for number in range(1, parts.files + 1):
        if number not in sizes:
            raise OutputChanged(
                f"{path}: there is no {part_name(number)}, but {parts.files} files were committed. {_REMEDY}"
            )
        found = found.after(sizes[number], "")
    if found.sizes != parts.sizes:
        raise OutputChanged(f"{path}: its files have other sizes than those that were committed. {_REMEDY}")
    if parts.files:
        last = path / part_name(parts.files)
        with open(last, "rb") as file:
            file.seek(max(0, sizes[parts.files] - _TAIL))
            if hashlib.sha256(file.read()).hexdigest() != parts.tail:
                raise OutputChanged(f"{last}: it is not what was committed: it was edited. {_REMEDY}")
    if clean and sizes and (newest := max(sizes)) > parts.files:
        raise OutputChanged(
            f"{path}: there is a {part_name(newest)}, but {parts.files} files were committed when the last run ended: "
            f"somebody else put it there. {_REMEDY}"
        )


def _is_same(path: Path, other: Path | int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.stat(other))
    except OSError:
        return False
