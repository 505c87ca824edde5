"""Disks that fail on purpose, to be injected where a `Disk` goes.

Every method of `Disk` is one call; faults are placed by the number of the call, counted from 1.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any, Literal, TypeVar

from asyncpersist.disk import Disk

__all__ = ["CHANGES", "Call", "CountingDisk", "FailingDisk", "FullDisk", "KillingDisk"]

_T = TypeVar("_T")

Call = tuple[int, str, Path | None]
"""The number of a call, the method, and the path it is about (None where it takes only a descriptor)."""

CHANGES = frozenset({"mkdir", "create", "write", "truncate", "rename", "link", "unlink", "rmdir"})
"""The methods that change what others see. Between two of them a killed process leaves the same wherever it is killed;
the rest (`open`, `fsync`, `fsync_directory`, `close`) makes a difference only to a power cut."""


class _Numbered(Disk):
    """Passes every call through `_around`, with its number."""

    def __init__(self) -> None:
        self.calls = 0

    def _around(self, call: Call, act: Callable[[], _T], data: memoryview | None = None, fd: int = -1) -> _T:
        raise NotImplementedError

    def _next(self, method: str, path: Path | None = None) -> Call:
        self.calls += 1
        return (self.calls, method, path)

    def mkdir(self, path: Path) -> None:
        self._around(self._next("mkdir", path), lambda: super(_Numbered, self).mkdir(path))

    def create(self, path: Path) -> int:
        return self._around(self._next("create", path), lambda: super(_Numbered, self).create(path))

    def open(self, path: Path) -> int:
        return self._around(self._next("open", path), lambda: super(_Numbered, self).open(path))

    def write(self, fd: int, data: bytes | memoryview) -> None:
        self._around(self._next("write"), lambda: super(_Numbered, self).write(fd, data), memoryview(data), fd)

    def truncate(self, fd: int, length: int) -> None:
        self._around(self._next("truncate"), lambda: super(_Numbered, self).truncate(fd, length))

    def fsync(self, fd: int) -> None:
        self._around(self._next("fsync"), lambda: super(_Numbered, self).fsync(fd))

    def close(self, fd: int) -> None:
        self._around(self._next("close"), lambda: super(_Numbered, self).close(fd))

    def rename(self, source: Path, target: Path) -> None:
        self._around(self._next("rename", target), lambda: super(_Numbered, self).rename(source, target))

    def link(self, source: Path, target: Path) -> None:
        self._around(self._next("link", target), lambda: super(_Numbered, self).link(source, target))

    def unlink(self, path: Path) -> None:
        self._around(self._next("unlink", path), lambda: super(_Numbered, self).unlink(path))

    def rmdir(self, path: Path) -> None:
        self._around(self._next("rmdir", path), lambda: super(_Numbered, self).rmdir(path))

    def fsync_directory(self, path: Path) -> None:
        self._around(self._next("fsync_directory", path), lambda: super(_Numbered, self).fsync_directory(path))


class CountingDisk(_Numbered):
    """Does everything, and remembers what: `log` holds the calls, `bytes_written` the bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Call] = []
        self.bytes_written = 0

    def _around(self, call: Call, act: Callable[[], _T], data: memoryview | None = None, fd: int = -1) -> _T:
        self.log.append(call)
        self.bytes_written += 0 if data is None else len(data)
        return act()


class KillingDisk(_Numbered):
    """Ends its own process with SIGKILL at call number `at`, or at the one of that number among those of `methods`.

    `when`: before the call is done, after it, or halfway through its bytes (a call without bytes: before it).
    """

    def __init__(
        self,
        at: int,
        when: Literal["before", "half", "after"] = "before",
        methods: Container[str] | None = None,
    ) -> None:
        super().__init__()
        self._at = at
        self._when = when
        self._methods = methods
        self._counted = 0

    def _around(self, call: Call, act: Callable[[], _T], data: memoryview | None = None, fd: int = -1) -> _T:
        self._counted += self._methods is None or call[1] in self._methods
        if self._counted != self._at:
            return act()
        if self._when == "after":
            with contextlib.suppress(OSError):
                act()
        elif self._when == "half" and data is not None:
            os.write(fd, data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("survived SIGKILL")


class FailingDisk(_Numbered):
    """Fails the calls that `when(call)` picks with `OSError(error)`; `after`: having done them nevertheless."""

    def __init__(self, when: Callable[[Call], bool], error: int = errno.EIO, *, after: bool = False) -> None:
        super().__init__()
        self._when = when
        self._error = error
        self._after = after

    def _around(self, call: Call, act: Callable[[], _T], data: memoryview | None = None, fd: int = -1) -> _T:
        if not self._when(call):
            return act()
        if self._after:
            act()
        raise OSError(self._error, os.strerror(self._error))


class FullDisk(_Numbered):
    """Has room for `room` more bytes; a write that does not fit writes what does and fails with ENOSPC.

    What is deleted gives no room back; raise `room` for that.
    """

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def _around(self, call: Call, act: Callable[[], _T], data: memoryview | None = None, fd: int = -1) -> Any:
        if data is None:
            return act()
        if len(data) > self.room:
            os.write(fd, data[: self.room])
            self.room = 0
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= len(data)
        return act()
