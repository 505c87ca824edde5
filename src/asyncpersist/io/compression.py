"""Input files as plain bytes: `.gz` and `.zst` are decompressed while they are read."""

from __future__ import annotations

import gzip
import hashlib
import os
import sys
import zlib
from types import TracebackType
from typing import IO, Any, cast

from asyncpersist.errors import MalformedInput

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["InputFile"]


class InputFile:
    """An open file, read from its beginning. All positions are those of the decompressed bytes.

    Raises `OSError` as the system does, and `MalformedInput` where compressed data is broken. Blocks.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._raw = open(path, "rb", buffering=0)  # noqa: SIM115
        name = path.lower()
        self.compressed = name.endswith((".gz", ".zst", ".zstd"))
        opened: Any = self._raw
        if name.endswith(".gz"):
            opened = gzip.GzipFile(fileobj=cast("Any", self._raw), mode="rb")
        elif self.compressed:
            opened = zstd.ZstdFile(cast("Any", self._raw), mode="r")
        self._file: IO[bytes] = opened

    def status(self) -> os.stat_result:
        """The metadata of the file as it lies on the disk."""
        return os.fstat(self._raw.fileno())

    def digest_on_disk(self, size: int) -> str:
        """The SHA-256 of the first `size` bytes of the file as it lies on the disk; moves no position."""
        found = hashlib.sha256()
        at = 0
        while at < size and (data := os.pread(self._raw.fileno(), size - at, at)):
            found.update(data)
            at += len(data)
        return found.hexdigest()

    def read(self, size: int) -> bytes:
        """The next `size` bytes; fewer only at the end of the file."""
        try:
            data = self._file.read(size)
            while len(data) < size and (more := self._file.read(size - len(data))):
                data += more
        except (EOFError, zlib.error, gzip.BadGzipFile, zstd.ZstdError) as exc:
            raise MalformedInput(f"the input file {self._path!r} holds broken compressed data: {exc}") from exc
        return data

    def seek(self, offset: int) -> None:
        """Goes to a position; in compressed files by decompressing up to it."""
        try:
            self._file.seek(offset)
        except (EOFError, zlib.error, gzip.BadGzipFile, zstd.ZstdError) as exc:
            raise MalformedInput(f"the input file {self._path!r} holds broken compressed data: {exc}") from exc

    def close(self) -> None:
        """Idempotent."""
        self._file.close()
        self._raw.close()

    def __enter__(self) -> InputFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
