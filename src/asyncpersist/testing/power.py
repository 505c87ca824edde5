"""A disk that can lose what was not synchronised, as a power cut would."""

from __future__ import annotations

import itertools
import os
import random
import shutil
from pathlib import Path

from asyncpersist.disk import Disk

__all__ = ["LossyDisk", "PowerCut"]


class PowerCut(BaseException):
    """The machine went off in the middle of a call."""


class LossyDisk(Disk):
    """Works below `root` like any disk, and keeps what would survive a power cut beside it.

    Two things are tracked: of every file the content at its last `fsync`, of every directory its names at its last
    `fsync_directory`. A cut keeps, of each file, the synchronised content or any state it went through since, torn at
    the end; of each directory, the synchronised names with any first part of the changes since. `cut_at` is the number,
    counted from 1, of the call that raises `PowerCut`, as does every later one; if it is a write, half of it is done.
    Then `lose` turns the tree into what is left.
    """

    def __init__(self, root: Path, cut_at: int | None = None) -> None:
        self._root = root
        self._cut_at = cut_at
        self.calls = 0
        self._files = itertools.count()
        self._open: dict[int, int] = {}
        self._live: dict[Path, int] = {}
        self._durable: dict[int, bytes] = {}
        self._written: dict[int, list[bytes]] = {}
        self._names: dict[Path, dict[str, int | None]] = {}
        self._changes: dict[Path, list[tuple[str, int | None, bool]]] = {}
        for directory, directories, files in os.walk(root):
            here = Path(directory)
            self._names[here] = dict.fromkeys(directories)
            for name in files:
                file = next(self._files)
                self._durable[file] = (here / name).read_bytes()
                self._names[here][name] = self._live[here / name] = file

    # The disk

    def mkdir(self, path: Path) -> None:
        self._step()
        existed = path.is_dir()
        super().mkdir(path)
        if not existed:
            self._names[path] = {}
            self._change(path, None, present=True)

    def create(self, path: Path) -> int:
        self._step()
        fd = super().create(path)
        file = next(self._files)
        self._durable[file] = b""
        self._open[fd] = self._live[path] = file
        self._change(path, file, present=True)
        return fd

    def open(self, path: Path) -> int:
        self._step()
        fd = super().open(path)
        self._open[fd] = self._live[path]
        return fd

    def write(self, fd: int, data: bytes | memoryview) -> None:
        self._step(fd, data)
        super().write(fd, data)
        self._remember(fd)

    def truncate(self, fd: int, length: int) -> None:
        self._step()
        super().truncate(fd, length)
        self._remember(fd)

    def fsync(self, fd: int) -> None:
        self._step()
        file = self._open[fd]
        self._durable[file] = _content(fd)
        self._written[file] = []

    def close(self, fd: int) -> None:
        # Goes through after the cut as well, so that no descriptor is left open.
        self._open.pop(fd, None)
        super().close(fd)
        self._step()

    def rename(self, source: Path, target: Path) -> None:
        self._step()
        super().rename(source, target)
        self._live[target] = file = self._live.pop(source)
        self._change(target, file, present=True)
        self._change(source, None, present=False)

    def link(self, source: Path, target: Path) -> None:
        self._step()
        super().link(source, target)
        self._live[target] = file = self._live[source]
        self._change(target, file, present=True)

    def unlink(self, path: Path) -> None:
        self._step()
        super().unlink(path)
        if self._live.pop(path, None) is not None:
            self._change(path, None, present=False)

    def fsync_directory(self, path: Path) -> None:
        self._step()
        names = self._names.setdefault(path, {})
        for change in self._changes.pop(path, []):
            _apply(names, change)

    # The cut

    def lose(self, rng: random.Random) -> None:
        """Turns the tree below the root into one that a power cut now could leave; the disk is of no use afterwards."""
        left: dict[Path, bytes | None] = {}
        self._survey(self._root, rng, left)
        shutil.rmtree(self._root)
        self._root.mkdir()
        for path, content in left.items():
            if content is None:
                path.mkdir()
            else:
                path.write_bytes(content)

    def _survey(self, directory: Path, rng: random.Random, left: dict[Path, bytes | None]) -> None:
        names = dict(self._names.get(directory, {}))
        changes = self._changes.get(directory, [])
        for change in changes[: rng.randint(0, len(changes))]:
            _apply(names, change)
        for name, file in sorted(names.items()):
            path = directory / name
            if file is None:
                left[path] = None
                self._survey(path, rng, left)
            else:
                left[path] = self._torn(file, rng)

    def _torn(self, file: int, rng: random.Random) -> bytes:
        states = [self._durable.get(file, b""), *self._written.get(file, [])]
        index = rng.randrange(len(states))
        content = states[index]
        if index == 0:
            return content
        shorter = min(len(states[0]), len(content))
        common = next((i for i in range(shorter) if states[0][i] != content[i]), shorter)
        torn = content[: rng.randint(common, len(content))]
        if len(torn) > common and rng.random() < 0.5:
            hole = rng.randrange(common, len(torn))
            torn = torn[:hole] + bytes(len(torn) - hole)
        return torn

    def _step(self, fd: int = -1, data: bytes | memoryview | None = None) -> None:
        self.calls += 1
        if self._cut_at is None or self.calls < self._cut_at:
            return
        if data is not None and self.calls == self._cut_at:
            super().write(fd, memoryview(data)[: len(data) // 2])
            self._remember(fd)
        raise PowerCut(f"power cut at call {self.calls}")

    def _remember(self, fd: int) -> None:
        self._written.setdefault(self._open[fd], []).append(_content(fd))

    def _change(self, path: Path, file: int | None, *, present: bool) -> None:
        self._changes.setdefault(path.parent, []).append((path.name, file, present))


def _apply(names: dict[str, int | None], change: tuple[str, int | None, bool]) -> None:
    name, file, present = change
    if present:
        names[name] = file
    else:
        names.pop(name, None)


def _content(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)
