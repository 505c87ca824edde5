"""A table's change stream in a directory of Parquet files, exactly once.

Every barrier ends a file if anything changed, and so does every so many rows between barriers; in a run without a state
root, which has no barriers but the last, so does a second after the first row of a file. A position is
`{"files": count, "sizes": digest over the sizes of all, "tail": digest of the last 4 KiB of the last}`. How the
directory is taken over and kept is the business of `part_files`.

The files hold the table's columns as they lie in memory (`dtypes`), pointers as `^` and 32 hexadecimal digits, futures
as their values (null while they are pending), then `time` (the epoch) and `diff` (1 or -1), both Int64. Within an epoch
retractions come first.
"""

from __future__ import annotations

import asyncio
import io
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl

from asyncpersist.clock import Clock
from asyncpersist.columnar.delta import Delta
from asyncpersist.disk import Disk
from asyncpersist.dtypes import DType
from asyncpersist.errors import OutputError
from asyncpersist.io.part_files import NOTHING, PartFiles, Parts, examine, part_name
from asyncpersist.io.render import OnRestart, change_rows, check_output, pointer_text, written_types
from asyncpersist.io.sink import Position, Sink, SinkWriter

__all__ = ["ParquetSink", "ParquetWriter"]

_MOST_ROWS = 1 << 20
_MOST_BYTES = 64 << 20
"""A file has about so many rows, and so many bytes in memory, at most."""
_GROUP_ROWS = 1 << 17
_SMALL_ROWS = 4096
_MOST_SMALL = 256
"""So many small frames in a row become one: each takes a kilobyte besides."""
_SHOWN_AFTER = 1.0
"""Seconds after which rows become a file where no barrier makes one of them."""
_ATTEMPTS = 3


class ParquetSink(Sink):
    """Writes the changes of a table with `columns` to files in the directory `path`, each with its `time` and `diff`.

    `on_restart="continue"` goes on after the files that the last snapshot counted; `"overwrite"` starts anew in every
    run, as does a run without a state root. Raises `SchemaError` for a table that has columns of these two names.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        columns: Mapping[str, DType],
        *,
        on_restart: OnRestart = "continue",
        file_rows: int = _MOST_ROWS,
    ) -> None:
        check_output(os.fspath(path), columns, on_restart)
        self._path = Path(os.path.realpath(path))
        self._columns = dict(columns)
        self._overwrites = on_restart == "overwrite"
        self._file_rows = file_rows

    @property
    def identity(self) -> str:
        """The absolute path of the directory, links resolved."""
        return str(self._path)

    @property
    def output(self) -> str | None:
        return self.identity

    @property
    def overwrites(self) -> bool:
        return self._overwrites

    @property
    def written_file(self) -> str:
        return str(self._path / part_name(1))

    def initial(self) -> Position:
        return _position(NOTHING)

    async def check(self, position: Position | None, *, persistent: bool, clean: bool = False) -> None:
        anew = self._overwrites or not persistent
        await asyncio.to_thread(examine, self._path, _parts(position), anew=anew, clean=clean)

    async def open(
        self, position: Position | None, *, persistent: bool, exclusive: bool, disk: Disk, clock: Clock
    ) -> ParquetWriter:
        """See `Sink.open`. What lies beyond the position is removed by `ParquetWriter.begin`.

        Raises `OutputError` if the directory is no longer what `check` saw, and `OSError`.
        """
        anew = self._overwrites or not persistent
        files = await asyncio.to_thread(
            PartFiles.open, self._path, _parts(position), anew=anew, exclusive=exclusive, disk=disk, clock=clock
        )
        writer = ParquetWriter(files, self._columns, self._file_rows, clock, shows=not persistent)
        writer.moved = anew and position is not None and position["files"] > 0
        return writer


class ParquetWriter(SinkWriter):
    """See `SinkWriter`. An `OSError` out of it loses nothing: a later `flush` writes what is missing.

    With `shows`, rows wait only so long for others to be in one file with them.
    """

    def __init__(
        self, files: PartFiles, columns: Mapping[str, DType], file_rows: int, clock: Clock, *, shows: bool
    ) -> None:
        self._files = files
        self._columns = columns
        self._file_rows = file_rows
        self._clock = clock
        self._shows = shows
        self._showing: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        self._pending: list[pl.DataFrame] = []
        self._small = 0
        self._rows = 0
        self._bytes = 0
        self._closed = False
        # A cancelled call leaves its thread at work; the next one must wait for it.
        self._lock = threading.Lock()

    async def begin(self, epoch: int | None) -> None:
        """See `SinkWriter.begin`. Deposes who wrote before and removes what does not count, if the `guard` agrees."""
        await self._own()

    async def write(self, epoch: int, delta: Delta) -> None:
        """See `SinkWriter.write`. The epoch is taken even if an `OSError` is raised: it must not be given again."""
        if await asyncio.to_thread(self._take, epoch, delta):
            await self._settled(self._write_full)
        if (failure := self._failure) is not None:
            self._failure = None
            raise failure
        if self._shows and self._showing is None and self._rows:
            self._showing = asyncio.create_task(self._show(), name=f"show {self._files.path}")

    async def flush(self) -> Position:
        """See `SinkWriter.flush`. Raises `OutputError` if somebody else changed the directory, and `OSError`."""
        self._failure = None
        await self._settled(self._write_all)
        return _position(self._files.parts)

    async def aclose(self) -> None:
        if self._showing is not None:
            self._showing.cancel()
            await asyncio.wait({self._showing})
        await asyncio.to_thread(self._close)

    async def _show(self) -> None:
        """Makes files of what is there after so long. Where it fails, the next `write` says so; `flush` tries again."""
        try:
            while self._rows:
                await self._clock.sleep(_SHOWN_AFTER)
                await self._settled(self._write_all)
        except Exception as exc:
            self._failure = exc
        finally:
            self._showing = None

    async def _own(self) -> None:
        if self.guard is not None:
            await self.guard()
        await asyncio.to_thread(self._take_over)

    async def _settled(self, write: Callable[[], bool]) -> None:
        """Calls `write` until it could, taking over where somebody is in the way."""
        for _ in range(_ATTEMPTS):
            if await asyncio.to_thread(write):
                return
            await self._own()
        raise OutputError(f"{self._files.path}: another process keeps taking it over. End that process.")

    def _take_over(self) -> None:
        with self._lock:
            self._refuse_closed()
            self._files.take_over()

    def _take(self, epoch: int, delta: Delta) -> bool:
        """Whether there is enough for a file."""
        rows = change_rows(self._columns, epoch, delta)
        pointers = [name for name, dtype in written_types(self._columns).items() if dtype.kind == "pointer"]
        rows = rows.with_columns(pl.col(pointers).map_batches(pointer_text, return_dtype=pl.String))
        with self._lock:
            self._pending.append(rows)
            self._small = self._small + 1 if rows.height < _SMALL_ROWS else 0
            if self._small == _MOST_SMALL:
                self._pending[-_MOST_SMALL:] = [pl.concat(self._pending[-_MOST_SMALL:], rechunk=True)]
                self._small = 0
            self._rows += rows.height
            self._bytes += int(rows.estimated_size())
            return self._is_full()

    def _is_full(self) -> bool:
        return self._rows >= self._file_rows or self._bytes >= _MOST_BYTES

    def _write_full(self) -> bool:
        """False if somebody else has taken over."""
        with self._lock:
            self._refuse_closed()
            while self._is_full():
                if self._files.is_deposed:
                    return False
                self._add_file()
            return True

    def _write_all(self) -> bool:
        with self._lock:
            self._refuse_closed()
            while self._pending:
                if self._files.is_deposed:
                    return False
                self._add_file()
            if self._files.is_deposed:
                return False
            self._files.sync()
            return True

    def _add_file(self) -> None:
        rows = pl.concat(self._pending)
        count = min(rows.height, self._file_rows)
        if self._bytes > _MOST_BYTES:
            count = max(1, min(count, rows.height * _MOST_BYTES // self._bytes))
        out = io.BytesIO()
        rows.head(count).write_parquet(out, row_group_size=_GROUP_ROWS)
        self._files.add(out.getbuffer())
        left = rows.height - count
        self._pending, self._small = [rows.tail(left)] if left else [], 0
        self._bytes = self._bytes * left // rows.height
        self._rows = left

    def _refuse_closed(self) -> None:
        if self._closed:
            raise ValueError(f"{self._files.path}: the sink is closed")

    def _close(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                self._files.close()


def _parts(position: Position | None) -> Parts | None:
    return None if position is None else Parts(position["files"], position["sizes"], position["tail"])


def _position(parts: Parts) -> Position:
    return {"files": parts.files, "sizes": parts.sizes, "tail": parts.tail}
