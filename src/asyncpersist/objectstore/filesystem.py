"""Objects as files below a directory, durable when a call returns.

A write goes to a temporary file beside its target, which is synchronised, linked (create) or renamed (put), and the
directory is synchronised. All writes go through one thread of the store's own; those that wait together share the
synchronisation of their directory. The directory itself is made by the first write.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import queue
import threading
from collections.abc import Iterable, Iterator, Sequence, Set
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from asyncpersist.clock import Clock, SystemClock
from asyncpersist.disk import Disk
from asyncpersist.errors import AsyncPersistError, StateUnwritable, StoreUnavailable
from asyncpersist.objectstore.contract import Entry, KeyExists, KeyMissing, ObjectStore, OutcomeUnknown, check_key

__all__ = ["FilesystemStore"]

_NEVER = {errno.EACCES, errno.EEXIST, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}
_FULL = {errno.ENOSPC, errno.EDQUOT}
_MAX_GROUP = 64


@dataclass(eq=False, slots=True)
class _Write:
    """One write on its way to the writer thread. `data` None: a deletion."""

    key: str
    data: bytes | None
    only_if_absent: bool
    done: Future[None]
    visible: bool = False
    failure: BaseException | None = None


class FilesystemStore(ObjectStore):
    """The files below `root`. Reads run in the loop's default threads, writes in one thread of the store's own."""

    def __init__(self, root: str | os.PathLike[str], disk: Disk | None = None, clock: Clock | None = None) -> None:
        self._root = Path(os.path.abspath(root))
        self._disk = Disk() if disk is None else disk
        token = (SystemClock() if clock is None else clock).token()[:12]
        self._suffixes = (f"{token}{n:x}.partial" for n in itertools.count())
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._directories: set[Path] = set()

    def __repr__(self) -> str:
        return f"FilesystemStore({str(self._root)!r})"

    def describe(self) -> str:
        return str(self._root)

    async def check_writable(self) -> None:
        await asyncio.to_thread(self._check_writable)

    async def get(self, key: str) -> bytes:
        return await asyncio.to_thread(self._read, key, 0, None)

    async def get_range(self, key: str, start: int, stop: int) -> bytes:
        return await asyncio.to_thread(self._read, key, start, max(stop - start, 0))

    async def list(self, prefix: str = "", *, limit: int | None = None) -> list[Entry]:
        return list(await asyncio.to_thread(self._list, prefix, limit))

    async def create(self, key: str, data: bytes) -> None:
        await self._submit(check_key(key), data, only_if_absent=True)

    async def put(self, key: str, data: bytes) -> None:
        await self._submit(check_key(key), data)

    async def delete(self, keys: Iterable[str]) -> None:
        waiting = [self._submit(check_key(key), None) for key in keys]
        if waiting:
            await asyncio.gather(*waiting)

    async def aclose(self) -> None:
        self._closed = True
        thread = self._thread
        if thread is not None:
            self._queue.put(None)
            await asyncio.to_thread(thread.join)
            self._thread = None

    # Reading

    def _read(self, key: str, start: int, length: int | None) -> bytes:
        path = self._root / check_key(key)
        try:
            with path.open("rb") as file:
                if start:
                    file.seek(start)
                return file.read() if length is None else file.read(length)
        except FileNotFoundError as exc:
            raise KeyMissing(f"{self._root}: there is no object {key}") from exc
        except OSError as exc:
            raise self._translate(exc, f"{key} cannot be read") from exc

    def _list(self, prefix: str, limit: int | None) -> Sequence[Entry]:
        start = self._root / prefix.rpartition("/")[0]
        try:
            found = (entry for entry in self._walk(start) if entry.key.startswith(prefix))
            return sorted(itertools.islice(found, limit))
        except OSError as exc:
            raise self._translate(exc, "it cannot be listed") from exc

    def _walk(self, directory: Path) -> Iterator[Entry]:
        try:
            scan = os.scandir(directory)
        except FileNotFoundError:
            return
        except NotADirectoryError:
            if not self._root.is_dir():
                raise
            return  # There is an object of that name, and nothing below it.
        with scan:
            for item in scan:
                if item.is_dir(follow_symlinks=False):
                    yield from self._walk(Path(item.path))
                    continue
                try:
                    size = item.stat(follow_symlinks=False).st_size
                except FileNotFoundError:
                    continue
                yield Entry(Path(item.path).relative_to(self._root).as_posix(), size)

    def _check_writable(self) -> None:
        path = self._root
        try:
            while not path.exists() and path != path.parent:
                path = path.parent
            if not path.is_dir():
                raise StateUnwritable(
                    f"{self._root}: {path} is a file, not a directory. "
                    "Name a directory for the state, or one to be made."
                )
        except OSError as exc:
            raise self._translate(exc, "it cannot be read") from exc
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise StateUnwritable(
                f"{self._root}: the directory {path} may not be read and written by this process. "
                "Change its owner or mode, or name another directory for the state."
            )

    # Writing

    async def _submit(self, key: str, data: bytes | None, *, only_if_absent: bool = False) -> None:
        if self._closed:
            raise StoreUnavailable(f"{self._root}: the store has been closed")
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_forever, name="asyncpersist-writer", daemon=True)
            self._thread.start()
        write = _Write(key, data, only_if_absent, Future())
        self._queue.put(write)
        await asyncio.wrap_future(write.done)

    def _write_forever(self) -> None:
        ends = False
        while not ends:
            first = self._queue.get()
            group = [] if first is None else [first]
            ends = first is None
            while not ends and len(group) < _MAX_GROUP:
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
                ends = item is None
                if item is not None:
                    group.append(item)
            self._write_group([write for write in group if write.done.set_running_or_notify_cancel()])

    def _write_group(self, group: Sequence[_Write]) -> None:
        """Carries out some writes and answers each; never raises."""
        touched: dict[Path, list[_Write]] = {}
        for write in group:
            path = self._root / write.key
            try:
                if write.data is None:
                    self._remove(path)
                else:
                    self._place(write, path, write.data)
            except BaseException as exc:
                write.failure = exc
            # A key that exists is synchronised too: the caller may take it for durable.
            if write.visible or isinstance(write.failure, KeyExists):
                touched.setdefault(path.parent, []).append(write)
        for directory, writes in touched.items():
            try:
                self._disk.fsync_directory(directory)
            except BaseException as exc:
                for write in writes:
                    what = f"{write.key} may not be durable"
                    write.failure = self._lost(exc, what) if isinstance(exc, OSError) else exc
        for write in group:
            if write.failure is None:
                write.done.set_result(None)
            else:
                write.done.set_exception(write.failure)

    def _remove(self, path: Path) -> None:
        # Not synchronised: a deletion that a power cut undoes is repeated by the collector.
        try:
            self._disk.unlink(path)
        except OSError as exc:
            raise self._translate(exc, f"{path.name} cannot be deleted") from exc

    def _place(self, write: _Write, path: Path, data: bytes) -> None:
        try:
            self._make_directory(path.parent)
        except OSError as exc:
            what = f"the directory {path.parent} cannot be made"
            raise self._translate(exc, what, never=_NEVER | {errno.ENOENT}) from exc
        temporary = path.with_name(f"{path.name}.{next(self._suffixes)}")
        try:
            self._fill(temporary, data)
        except BaseException as exc:
            self._discard(temporary)
            if isinstance(exc, OSError):
                raise self._translate(exc, f"{write.key} cannot be written") from exc
            raise
        if not write.only_if_absent:
            try:
                self._disk.rename(temporary, path)
            except OSError as exc:
                self._discard(temporary)
                raise self._lost(exc, f"{write.key} may not have been written") from exc
            write.visible = True
            return
        try:
            self._disk.link(temporary, path)
            write.visible = True
        except FileExistsError as exc:
            raise KeyExists(f"{self._root}: the object {write.key} exists") from exc
        except OSError as exc:
            raise self._lost(exc, f"{write.key} may not have been written") from exc
        finally:
            self._discard(temporary)

    def _fill(self, temporary: Path, data: bytes) -> None:
        fd = self._disk.create(temporary)
        try:
            self._disk.write(fd, data)
            self._disk.fsync(fd)
        finally:
            self._disk.close(fd)

    def _discard(self, temporary: Path) -> None:
        try:
            self._disk.unlink(temporary)
        except OSError:
            return  # It stays as a `.partial`, which the collector finds.

    def _make_directory(self, directory: Path) -> None:
        if directory in self._directories:
            return
        missing = list(itertools.takewhile(lambda p: not p.is_dir(), (directory, *directory.parents)))
        for path in reversed(missing):
            self._disk.mkdir(path)
            self._disk.fsync_directory(path.parent)
        self._directories.add(directory)

    # Errors

    def _lost(self, exc: OSError, what: str) -> AsyncPersistError:
        return OutcomeUnknown(f"{self._root}: {what}: {os.strerror(exc.errno or errno.EIO)}")

    def _translate(self, exc: OSError, what: str, *, never: Set[int] = _NEVER) -> AsyncPersistError:
        reason = os.strerror(exc.errno) if exc.errno else str(exc)
        if exc.errno in _FULL:
            return StoreUnavailable(f"{self._root}: {what}: the disk is full ({reason}). Free some space on it.")
        if exc.errno in never:
            return StateUnwritable(
                f"{self._root}: {what}: {reason}. Check the path, its owner and its mode, or name another directory."
            )
        return StoreUnavailable(f"{self._root}: {what}: {reason}")
