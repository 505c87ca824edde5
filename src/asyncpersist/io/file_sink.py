"""A table's change stream in one local file, exactly once.

A position is `{"length": bytes, "tail": SHA-256 of the last 4 KiB before it, in hexadecimal}`: what a snapshot commits
of the file. How the file is taken over and kept is the business of `output_file`, what stands in it that of `render`.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Mapping
from pathlib import Path

from asyncpersist.clock import Clock
from asyncpersist.columnar.delta import Delta
from asyncpersist.disk import Disk
from asyncpersist.dtypes import DType
from asyncpersist.errors import OutputError
from asyncpersist.io.output_file import START, Mark, OutputFile, examine
from asyncpersist.io.render import FileFormat, OnRestart, check_output, header, render
from asyncpersist.io.sink import Position, Sink, SinkWriter

__all__ = ["FileSink", "FileWriter"]

_BUFFERED = 1 << 20
_ATTEMPTS = 3

_STARTING = threading.Lock()
"""Of two runs of this process that start on one output at once, the second finds the first one's file."""


class FileSink(Sink):
    """Writes the changes of a table with `columns` to the file at `path`, each with its `time` and `diff`.

    `on_restart="continue"` goes on where the last snapshot left the file; `"overwrite"` starts a new one in every run,
    as does a run without a state root. Raises `SchemaError` for a table that has columns of these two names.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        format: FileFormat,
        columns: Mapping[str, DType],
        *,
        on_restart: OnRestart = "continue",
    ) -> None:
        check_output(os.fspath(path), columns, on_restart)
        if format not in ("csv", "jsonlines"):
            raise ValueError(f"format={format!r}: an output file is 'csv' or 'jsonlines'")
        try:
            self._path = Path(os.path.realpath(path))
        except ValueError as exc:
            raise ValueError(f"{os.fspath(path)!r} cannot be the path of an output: {exc}") from exc
        self._format: FileFormat = format
        self._columns = dict(columns)
        self._on_restart: OnRestart = on_restart

    @property
    def identity(self) -> str:
        """The absolute path, links resolved."""
        return str(self._path)

    @property
    def output(self) -> str | None:
        return self.identity

    @property
    def overwrites(self) -> bool:
        return self._on_restart == "overwrite"

    def initial(self) -> Position:
        return _position(START)

    async def check(self, position: Position | None, *, persistent: bool, clean: bool = False) -> None:
        anew = self._starts_anew(persistent)
        await asyncio.to_thread(examine, self._path, _mark(position), anew=anew, clean=clean)

    async def open(
        self, position: Position | None, *, persistent: bool, exclusive: bool, disk: Disk, clock: Clock
    ) -> FileWriter:
        """See `Sink.open`. Raises `OutputError` if the file is no longer what `check` saw, and `OSError`."""

        def work() -> OutputFile:
            if not persistent:
                with _STARTING:
                    examine(self._path, None, anew=True)
                    return OutputFile.create(self._path, disk, clock)
            if self.overwrites:
                return OutputFile.create(self._path, disk, clock)
            return OutputFile.resume(self._path, _mark(position), exclusive=exclusive, disk=disk, clock=clock)

        writer = FileWriter(await asyncio.to_thread(work), self._format, self._columns)
        replaced = position is not None and position["length"] > 0 and self._starts_anew(persistent)
        writer.moved = replaced or writer.has_fresh_header
        return writer

    def _starts_anew(self, persistent: bool) -> bool:
        return not persistent or self.overwrites


class FileWriter(SinkWriter):
    """See `SinkWriter`. An `OSError` out of it loses nothing: a later `flush` writes what is missing."""

    def __init__(self, file: OutputFile, format: FileFormat, columns: Mapping[str, DType]) -> None:
        self._file = file
        self._format: FileFormat = format
        self._columns = columns
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._closed = False
        # A cancelled call leaves its thread at work; the next one must wait for it.
        self._lock = threading.Lock()
        if file.written == 0:
            self._take(header(format, columns))
        self.has_fresh_header = self._pending_size > 0
        """Whether there is a header to be written, also if no row ever is."""

    async def write(self, epoch: int, delta: Delta) -> None:
        """See `SinkWriter.write`. The epoch is taken even if an `OSError` is raised: it must not be given again."""
        await asyncio.to_thread(self._write, epoch, delta)

    async def idle(self) -> None:
        """Writes out what is held back, unsynchronised, so that readers see it."""
        if self._pending_size:
            await asyncio.to_thread(self._show)

    async def flush(self) -> Position:
        """See `SinkWriter.flush`. A file that is not at its path any more is put back there, if the `guard` allows it.

        Raises `OutputError` if the file was changed or is being replaced all the time, and `OSError`.
        """
        for _ in range(_ATTEMPTS):
            mark = await asyncio.to_thread(self._sync)
            if mark is not None:
                return _position(mark)
            if self.guard is not None:
                await self.guard()
            await asyncio.to_thread(self._put_back)
        raise OutputError(f"{self._file.path}: another process keeps putting files in its place. End that process.")

    async def aclose(self) -> None:
        await asyncio.to_thread(self._close)

    def _write(self, epoch: int, delta: Delta) -> None:
        lines = render(self._format, self._columns, epoch, delta)
        with self._lock:
            self._take(lines)
            if self._pending_size >= _BUFFERED:
                self._write_out()

    def _show(self) -> None:
        with self._lock:
            self._write_out()

    def _sync(self) -> Mark | None:
        """None if the file is not, or not surely, at its path."""
        with self._lock:
            self._write_out()
            return self._file.mark() if self._file.sync() else None

    def _put_back(self) -> None:
        with self._lock:
            self._file.put_back()

    def _close(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                self._file.close()

    def _take(self, data: bytes) -> None:
        self._pending.append(data)
        self._pending_size += len(data)

    def _write_out(self) -> None:
        if self._closed:
            raise ValueError(f"{self._file.path}: the sink is closed")
        if self._pending_size:
            self._file.append(b"".join(self._pending))
            self._pending.clear()
            self._pending_size = 0


def _mark(position: Position | None) -> Mark | None:
    return None if position is None else Mark(position["length"], position["tail"])


def _position(mark: Mark) -> Position:
    return {"length": mark.length, "tail": mark.tail}
