"""What a path of a read names: a file, a directory or a glob, and the files in it, in order.

A directory is read recursively, symbolic links followed (a link back to a directory above it is not entered
again). Left out below it, and among the matches of a glob: hidden names (a leading dot), temporary names (`~`
at the end, `#...#`, and the endings .tmp, .temp, .swp, .part, .partial, .crdownload), dangling links, and all
that is neither file nor directory. A glob whose last part has such a name itself asks for it. A path that
exists is that path, also if it looks like a glob.
"""

from __future__ import annotations

import errno
import fnmatch
import glob
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from asyncpersist.errors import InputError, InputNotFound

__all__ = ["FileStatus", "FoundFile", "Listing", "Unlisted", "base_of", "covers", "not_found", "scan"]

_TEMPORARY = (".tmp", ".temp", ".swp", ".part", ".partial", ".crdownload", "~")
_GONE = (errno.ENOENT, errno.ENOTDIR)


class FileStatus(NamedTuple):
    """What tells one version of a file from another without opening it; times in nanoseconds since the epoch."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @staticmethod
    def of(status: os.stat_result) -> FileStatus:
        return FileStatus(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file of a read.

    `partition` is its path relative to the directory that was named (for a glob, the directory before the
    first wildcard; for a file, the one it lies in), so it stays when the whole input moves. It is valid
    Unicode: "%" and bytes that are not UTF-8 are written as "%" and two hexadecimal digits. `path` is absolute.
    """

    partition: str
    path: str
    status: FileStatus


@dataclass(frozen=True, slots=True)
class Unlisted:
    """A directory or file that is there and could not be looked at.

    `partition` is that of the file or, ended by a slash, of the directory (empty: of all).
    """

    partition: str
    path: str
    reason: str

    def hides(self, partition: str) -> bool:
        """Whether the file of that partition may be there unseen."""
        return partition == self.partition or (
            self.partition[-1:] in ("", "/") and partition.startswith(self.partition)
        )


@dataclass(frozen=True, slots=True)
class Listing:
    """The files that were found, sorted by the bytes of their relative paths, and what could not be looked at.

    `exists`: whether the path names anything; of a glob, whether it matches anything.
    """

    files: Sequence[FoundFile]
    unlisted: Sequence[Unlisted] = ()
    exists: bool = True


def not_found(path: str) -> InputNotFound:
    """The error for a path that names nothing."""
    return InputNotFound(f"the input {path!r} {'matches no file' if glob.has_magic(path) else 'does not exist'}")


def scan(path: str) -> Listing:
    """The files `path` names, whatever is missing or cannot be looked at. Blocks.

    Raises `InputError` if the path is neither a regular file nor a directory.
    """
    walk = _Walk()
    exists = True
    try:
        status = os.stat(path)
    except OSError as exc:
        if exc.errno not in _GONE:
            walk.failed("", path, exc)
        elif glob.has_magic(path):
            base = base_of(path)
            parts = path[len(base) :].strip("/").split("/")
            wanted = _is_left_out(parts[-1])
            walk.expand(base, "", parts, wanted)
            exists = bool(walk.found or walk.unlisted)
        else:
            exists = False
    else:
        if stat.S_ISDIR(status.st_mode):
            walk.below(path, "", (), status)
        elif stat.S_ISREG(status.st_mode):
            walk.found[os.path.basename(path)] = (path, status)
        else:
            raise InputError(f"the input {path!r} is neither a regular file nor a directory")
    here = os.getcwd()
    names = sorted(walk.found, key=os.fsencode)
    files = [
        FoundFile(_printable(name), os.path.join(here, full), FileStatus.of(status))
        for name, (full, status) in ((name, walk.found[name]) for name in names)
    ]
    return Listing(files, tuple(walk.unlisted), exists)


def covers(path: str, file: str) -> bool:
    """Whether `scan(path)` would find `file`, an absolute path without links, once it is there. Blocks."""
    parts = os.path.abspath(path).split("/")
    wild = [] if os.path.exists(path) else [i for i, part in enumerate(parts) if glob.has_magic(part)]
    plain = wild[0] if wild else len(parts)
    inside = os.path.relpath(file, os.path.realpath("/".join(parts[:plain]) or "/")).split("/")
    if inside == ["."]:
        return not wild
    return inside[0] != ".." and not any(map(_is_left_out, inside)) and _matches(inside, parts[plain:])


def base_of(pattern: str) -> str:
    """The directory before the first wildcard of a glob; empty for the working directory."""
    parts = pattern.split("/")
    plain = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    return "/".join(parts[:plain]) or ("/" if pattern.startswith("/") else "")


def _matches(parts: list[str], pattern: list[str]) -> bool:
    if not pattern or not parts:
        return not pattern
    if pattern[0] == "**":
        return any(_matches(parts[i:], pattern[1:]) for i in range(len(parts) + 1))
    return fnmatch.fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


@dataclass(slots=True)
class _Walk:
    """`found`: relative path -> path and status."""

    found: dict[str, tuple[str, os.stat_result]] = field(default_factory=dict)
    unlisted: list[Unlisted] = field(default_factory=list)

    def below(
        self, directory: str, relative: str, above: tuple[tuple[int, int], ...], status: os.stat_result | None = None
    ) -> None:
        """Every file below a directory."""
        status = status or self._status(directory, f"{relative}/")
        if status is None or (here := (status.st_dev, status.st_ino)) in above:
            return
        for entry, name, of in self._entries(directory, relative):
            if _is_left_out(entry):
                continue
            if stat.S_ISDIR(of.st_mode):
                self.below(os.path.join(directory, entry), name, (*above, here), of)
            elif stat.S_ISREG(of.st_mode):
                self.found[name] = (os.path.join(directory, entry), of)

    def expand(
        self, directory: str, relative: str, parts: Sequence[str], wanted: bool, above: tuple[tuple[int, int], ...] = ()
    ) -> None:
        """Every file that the rest of a glob matches. `wanted`: its last part asks for names that are left out."""
        part, rest = parts[0], parts[1:]
        if part == "**":
            status = self._status(directory or ".", f"{relative}/" if relative else "")
            if status is None or (here := (status.st_dev, status.st_ino)) in above:
                return
            if not rest:
                self.below(directory or ".", relative, ())
                return
            self.expand(directory, relative, rest, wanted)
            for entry, name, of in self._entries(directory, relative):
                if stat.S_ISDIR(of.st_mode) and not entry.startswith("."):
                    self.expand(os.path.join(directory, entry), name, parts, wanted, (*above, here))
            return
        for entry, name, of in self._matching(directory, relative, part):
            full = os.path.join(directory, entry)
            if stat.S_ISDIR(of.st_mode):
                if rest:
                    self.expand(full, name, rest, wanted)
                else:
                    self.below(full, name, ())
            elif not rest and stat.S_ISREG(of.st_mode) and (wanted or not _is_left_out(entry)):
                self.found[name] = (full, of)

    def _matching(self, directory: str, relative: str, part: str) -> Iterator[tuple[str, str, os.stat_result]]:
        if glob.has_magic(part):
            for entry, name, of in self._entries(directory, relative):
                if fnmatch.fnmatchcase(entry, part) and (part.startswith(".") or not entry.startswith(".")):
                    yield entry, name, of
            return
        name = os.path.normpath(f"{relative}/{part}") if relative else part
        status = self._status(os.path.join(directory, part), name)
        if status is not None:
            yield part, name, status

    def _entries(self, directory: str, relative: str) -> Iterator[tuple[str, str, os.stat_result]]:
        try:
            with os.scandir(directory or ".") as entries:
                listed = list(entries)
        except OSError as exc:
            self.failed(f"{relative}/" if relative else "", directory or ".", exc)
            return
        for entry in listed:
            name = f"{relative}/{entry.name}" if relative else entry.name
            try:
                yield entry.name, name, entry.stat()
            except OSError as exc:
                if not _is_left_out(entry.name):
                    self.failed(name, entry.path, exc)

    def _status(self, path: str, partition: str) -> os.stat_result | None:
        try:
            return os.stat(path)
        except OSError as exc:
            self.failed(partition, path, exc)
            return None

    def failed(self, partition: str, path: str, exc: OSError) -> None:
        """Notes what cannot be looked at, unless it is gone or leads nowhere."""
        if exc.errno in (*_GONE, errno.ELOOP):
            return
        partition = _printable(partition)
        # It may be a directory: then what is below it is hidden, too.
        self.unlisted.append(Unlisted(partition, path, exc.strerror or str(exc)))
        if partition and not partition.endswith("/"):
            self.unlisted.append(Unlisted(f"{partition}/", path, exc.strerror or str(exc)))


def _is_left_out(name: str) -> bool:
    return name.startswith(".") or name.lower().endswith(_TEMPORARY) or (len(name) > 1 and name[0] == name[-1] == "#")


def _printable(path: str) -> str:
    text = path.replace("%", "%25")
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join(f"%{ord(c) - 0xDC00:02X}" if "\udc80" <= c <= "\udcff" else c for c in text)
    return text
