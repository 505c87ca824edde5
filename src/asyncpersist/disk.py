"""The one door through which durable bytes reach the local disk.

The filesystem store and the file sinks write through a `Disk` and through nothing else, so that a test can put in
its place one that kills the process, loses what was not synchronised, tears a write or runs full. Reading is free.

All calls block and belong into a worker thread; all raise `OSError` as the system does.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["Disk"]


class Disk:
    """The machine's own disk. Subclass it to inject faults: every change of the disk is one call of one method."""

    def mkdir(self, path: Path) -> None:
        """Makes a directory; an existing one is fine. Parents must exist."""
        path.mkdir(exist_ok=True)

    def create(self, path: Path) -> int:
        """Creates an empty file for reading and writing and returns its descriptor; `FileExistsError` if it exists."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def open(self, path: Path) -> int:
        """Opens an existing file for reading and writing at its start."""
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def write(self, fd: int, data: bytes | memoryview) -> None:
        """Writes all of `data` at the descriptor's position."""
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]

    def truncate(self, fd: int, length: int) -> None:
        """Cuts the file to `length` bytes and puts the position there."""
        os.ftruncate(fd, length)
        os.lseek(fd, length, os.SEEK_SET)

    def fsync(self, fd: int) -> None:
        """Returns once the file's bytes are on the medium."""
        os.fsync(fd)

    def close(self, fd: int) -> None:
        os.close(fd)

    def rename(self, source: Path, target: Path) -> None:
        """Puts `source` in the place of `target`, atomically."""
        os.replace(source, target)

    def link(self, source: Path, target: Path) -> None:
        """Gives `source` a second name; `FileExistsError` if `target` exists. The atomic create-if-absent."""
        os.link(source, target)

    def unlink(self, path: Path) -> None:
        """Removes a name; a missing one is fine."""
        path.unlink(missing_ok=True)

    def rmdir(self, path: Path) -> None:
        """Removes an empty directory."""
        path.rmdir()

    def fsync_directory(self, path: Path) -> None:
        """Returns once the names in a directory are on the medium."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
