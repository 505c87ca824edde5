"""What a path of a read names: a file, a directory or a glob, and the files in it, in order.

A directory is read recursively, symbolic links followed (a link back to a directory above it is not entered
again). Left out below it, and among the matches of a glob: hidden names (a leading dot), temporary names (`~`
at the end, `#...#`, and the endings .tmp, .temp, .swp, .part, .partial, .crdownload), dangling links, and all
that is neither file nor directory. A glob whose last part has such a name itself asks for it. A path that
exists is that path, also if it looks like a glob.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from asyncpersist.errors import InputError, InputNotFound

__all__ = ["FoundFile", "covers", "scan"]

_TEMPORARY = (".tmp", ".temp", ".swp", ".part", ".partial", ".crdownload", "~")


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file of a read.

    `partition` is its path relative to the directory that was named (for a glob, the directory before the
    first wildcard; for a file, the one it lies in), so it stays when the whole input moves. It is valid
    Unicode: "%" and bytes that are not UTF-8 are written as "%" and two hexadecimal digits. `path` is absolute.
    """

    partition: str
    path: str


def scan(path: str) -> list[FoundFile]:
    """The files `path` names, sorted by the bytes of their relative paths. Blocks.

    Raises `InputNotFound` for a missing path and for a glob without a match, `InputError` for what cannot be
    listed or is no regular file. An empty directory is no error.
    """
    try:
        found = _found(path)
    except OSError as exc:
        if isinstance(exc, InputError):
            raise
        raise InputError(f"cannot list the input {path!r}: {exc.strerror or exc}") from exc
    found.sort(key=lambda pair: os.fsencode(pair[0]))
    here = os.getcwd()
    return [FoundFile(_printable(relative), os.path.join(here, full)) for relative, full in found]


def covers(path: str, file: str) -> bool:
    """Whether `scan(path)` would find `file`, an absolute path without links, once it is there. Blocks."""
    parts = os.path.abspath(path).split("/")
    wild = [] if os.path.exists(path) else [i for i, part in enumerate(parts) if glob.has_magic(part)]
    plain = wild[0] if wild else len(parts)
    inside = os.path.relpath(file, os.path.realpath("/".join(parts[:plain]) or "/")).split("/")
    if inside == ["."]:
        return not wild
    return inside[0] != ".." and not any(map(_is_left_out, inside)) and _matches(inside, parts[plain:])


def _matches(parts: list[str], pattern: list[str]) -> bool:
    if not pattern or not parts:
        return not pattern
    if pattern[0] == "**":
        return any(_matches(parts[i:], pattern[1:]) for i in range(len(parts) + 1))
    return fnmatch.fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _found(path: str) -> list[tuple[str, str]]:
    """(relative path, path) of every file."""
    if os.path.exists(path):
        if os.path.isdir(path):
            return list(_below(path, "", ()))
        if not os.path.isfile(path):
            raise InputError(f"the input {path!r} is neither a regular file nor a directory")
        return [(os.path.basename(path), path)]
    if not glob.has_magic(path):
        raise InputNotFound(f"the input {path!r} does not exist")
    base = _base(path)
    wanted = _is_left_out(os.path.basename(path.rstrip("/")))
    found: dict[str, str] = {}
    for match in glob.iglob(path, recursive=True):
        full = match.rstrip("/") or match
        relative = os.path.relpath(full, base) if base else os.path.normpath(full)
        if os.path.isdir(full):
            # "**" also matches the directories, whose files it matches anyway.
            found.update(_below(full, "" if relative == "." else relative, ()))
        elif os.path.isfile(full) and (wanted or not _is_left_out(os.path.basename(full))):
            found[relative] = full
    if not found:
        raise InputNotFound(f"the input {path!r} matches no file")
    return list(found.items())


def _base(pattern: str) -> str:
    """The directory before the first wildcard of a glob."""
    parts = pattern.split("/")
    plain = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    return "/".join(parts[:plain]) or ("/" if pattern.startswith("/") else "")


def _below(directory: str, relative: str, above: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, str]]:
    status = os.stat(directory)
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    with os.scandir(directory) as entries:
        listed = [entry for entry in entries if not _is_left_out(entry.name)]
    for entry in listed:
        name = f"{relative}/{entry.name}" if relative else entry.name
        try:
            mode = entry.stat().st_mode
        except FileNotFoundError:
            continue
        except OSError as exc:
            if entry.is_symlink():
                continue  # a link to itself
            raise InputError(f"cannot read the input {entry.path!r}: {exc.strerror}") from exc
        if stat.S_ISDIR(mode):
            yield from _below(entry.path, name, (*above, here))
        elif stat.S_ISREG(mode):
            yield name, entry.path


def _is_left_out(name: str) -> bool:
    return name.startswith(".") or name.lower().endswith(_TEMPORARY) or (len(name) > 1 and name[0] == name[-1] == "#")


def _printable(path: str) -> str:
    text = path.replace("%", "%25")
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join(f"%{ord(c) - 0xDC00:02X}" if "\udc80" <= c <= "\udcff" else c for c in text)
    return text
