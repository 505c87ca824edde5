"""The source of the rows that a `ConnectorSubject` gives."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

import anyio.to_thread
import msgspec
import numpy as np
import polars as pl

from asyncpersist.columnar.delta import Delta
from asyncpersist.columnar.hashing import row_ids
from asyncpersist.errors import GraphError, InputError, RunStopped
from asyncpersist.io.raised_in import noting
from asyncpersist.io.source import Batch, Needs, Offsets, Source, SourceReader
from asyncpersist.io.subject import ConnectorSubject
from asyncpersist.io.subject_feed import Feed
from asyncpersist.io.subject_rows import Piece, RowShape

__all__ = ["PARTITION", "Resume", "SubjectSource"]

logger = logging.getLogger("asyncpersist")

Resume = Literal["restart", "live"]

PARTITION = "subject"
"""The one partition of such a source. Its offset is `{"rows": how many came so far}`, with `"offset"` that of the
subject after them, if it has one."""

_INLINE_BYTES = 32 << 20
_BUSY_ROWS = 1_000
_BUSY_DELAY = 0.005
"""Seconds for which rows are collected after a batch of many: a busy subject's batches should not be small ones."""


class SubjectSource(Source):
    """Runs `subject`. `delay`: seconds a row may wait for others. `max_rows`: how far the subject may be ahead.

    `resume` says that it is all right that a subject without offsets starts anew after a restart.
    """

    streaming = True

    def __init__(
        self,
        subject: ConnectorSubject,
        shape: RowShape,
        *,
        keyed: bool,
        delay: float = 0.0,
        resume: Resume | None = None,
        max_rows: int | None = None,
    ) -> None:
        self._subject = subject
        self._shape = shape
        self._keyed = keyed
        self._delay = delay
        self._resumes = subject._resumes() and resume is None
        self._may_start_anew = resume is not None
        self._max_rows = max_rows
        self.remover = shape.where if subject.deletions_enabled and not keyed else None

    def retracts(self, *, persistent: bool) -> bool:
        return self._subject.deletions_enabled

    async def check(self, offsets: Offsets | None, *, persistent: bool) -> None:
        if persistent and not (self._resumes or self._may_start_anew):
            again = (
                "which the primary key makes harmless"
                if self._keyed
                else "and count once more after every restart: the schema has no primary key under which they would "
                "replace those that were kept"
            )
            raise InputError(
                f"{self._shape.where}: it has no offset() and seek(), so a restart cannot go on where it was. Give it "
                'both; or say to io.python.read resume="live", if what came meanwhile may be missed, or '
                f'resume="restart", if its rows come again from the beginning, {again}.'
            )

    async def open(self, offsets: Offsets | None, *, identity: str, needs: Needs) -> SourceReader:
        subject = self._subject
        if "_feed" in vars(subject):
            raise GraphError(f"{self._shape.where}: the subject runs already; make another object of its class")
        feed = Feed(self._shape, asks=self._resumes, removes=self._keyed or not needs.ids, max_rows=self._max_rows)
        subject._feed = feed
        before = (offsets or {}).get(PARTITION, {})
        task = _Running(subject, feed, self._shape.where, before.get("offset") if self._resumes else None)
        return _SubjectReader(
            task, feed, first=before.get("rows", 0), identity=identity if needs.ids else None, delay=self._delay
        )


class _SubjectReader(SourceReader):
    def __init__(self, running: _Running, feed: Feed, *, first: int, identity: str | None, delay: float) -> None:
        self._running = running
        self._feed = feed
        self._rows = first
        self._identity = identity
        self._delay = self._least_delay = delay

    async def read(self) -> Batch | None:
        feed = self._feed
        self._running.start()
        while True:
            ended = feed.ended
            if feed.failure is not None:
                raise feed.failure
            if self._delay and not feed.is_empty:
                await feed.delay(self._delay)
            if pieces := feed.take():
                return await self._batch(pieces)
            if ended:
                return None
            if not feed.is_empty:
                await asyncio.sleep(0)  # another thread is making columns of it
            await feed.arrival()

    async def aclose(self) -> None:
        await self._running.aclose()

    async def _batch(self, pieces: Sequence[Piece]) -> Batch:
        count = sum(piece.rows.height for piece in pieces)
        first, self._rows = self._rows, self._rows + count
        self._delay = max(self._least_delay, _BUSY_DELAY) if count > _BUSY_ROWS else self._least_delay
        size = sum(piece.size for piece in pieces)
        if size <= _INLINE_BYTES:
            delta = _joined(pieces, self._identity, first)
        else:
            delta = await anyio.to_thread.run_sync(_joined, pieces, self._identity, first)
        position: dict[str, Any] = {"rows": self._rows}
        if self._feed.asks:
            offset = pieces[-1].offset
            position["offset"] = msgspec.json.decode(offset) if isinstance(offset, bytes) else offset
        return Batch(delta, {PARTITION: position}, size=size)


class _Running:
    """The subject's `run`, in a task or a thread of its own."""

    def __init__(self, subject: ConnectorSubject, feed: Feed, where: str, offset: Any) -> None:
        self._subject = subject
        self._feed = feed
        self._where = where
        self._offset = offset
        self._task: asyncio.Task[None] | None = None
        self._thread: threading.Thread | None = None
        self._over = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._stopping = False
        self._told = threading.Lock()
        """Taken by the first to call `on_stop`, and never given back."""

    def start(self) -> None:
        """Idempotent."""
        if self._task is not None or self._thread is not None or self._stopping:
            return
        if self._subject._is_async():
            self._task = asyncio.create_task(self._in_loop(), name=self._where)
        else:
            context = contextvars.copy_context()
            self._thread = threading.Thread(target=context.run, args=(self._in_thread,), name=self._where, daemon=True)
            self._thread.start()

    async def aclose(self) -> None:
        """Ends `run` and waits for it. Idempotent."""
        if self._stopping:
            return
        self._stopping = True
        self._feed.stop()
        timeout = self._subject.stop_timeout
        try:
            if self._task is not None:
                self._task.cancel()
                _, late = await asyncio.wait({self._task}, timeout=timeout)
                self._warn_if(bool(late))
            elif self._thread is not None:
                if self._told.acquire(blocking=False):
                    telling = asyncio.ensure_future(asyncio.to_thread(self._tell_quietly))
                    await asyncio.wait({telling}, timeout=timeout)
                try:
                    async with asyncio.timeout(timeout):
                        await self._over.wait()
                except TimeoutError:
                    self._warn_if(True)
        finally:
            vars(self._subject).pop("_feed", None)

    async def _in_loop(self) -> None:
        subject, feed = self._subject, self._feed
        try:
            try:
                if self._offset is not None:
                    with self._noting("seek"):
                        await _settled(subject.seek(self._offset))
                with self._noting("run"):
                    await subject.run()
            finally:
                with self._noting("on_stop"):
                    await _settled(subject.on_stop())
        except asyncio.CancelledError:
            if not self._stopping:
                feed.fail(InputError(f"{self._where}: its run() was cancelled"))
        except Exception as exc:
            self._failed(exc)
        else:
            feed.end("its run() has ended")

    def _in_thread(self) -> None:
        subject, feed = self._subject, self._feed
        try:
            try:
                if self._offset is not None:
                    with self._noting("seek"):
                        subject.seek(self._offset)
                with self._noting("run"):
                    subject.run()
            finally:
                if self._told.acquire(blocking=False):
                    with self._noting("on_stop"):
                        subject.on_stop()
        except BaseException as exc:
            self._failed(exc)
        else:
            feed.end("its run() has ended")
        finally:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._over.set)

    def _noting(self, method: str) -> AbstractContextManager[None]:
        return noting(f"{self._where}: raised in its {method}()")

    def _failed(self, exc: BaseException) -> None:
        if self._stopping:
            if not isinstance(exc, RunStopped):
                logger.warning("%s: run() raised when it was to end", self._where, exc_info=exc)
            return
        if not isinstance(exc, Exception):
            error: Exception = InputError(f"{self._where}: its run() raised {exc!r}")
            error.__cause__ = exc
        else:
            error = exc
        self._feed.fail(error)

    def _tell_quietly(self) -> None:
        try:
            self._subject.on_stop()
        except Exception:
            logger.warning("%s: on_stop() raised", self._where, exc_info=True)

    def _warn_if(self, late: bool) -> None:
        if late:
            logger.warning(
                "%s: run() has not ended %g seconds after it was told to, and is left alone. Let on_stop() wake it up.",
                self._where,
                self._subject.stop_timeout,
            )


async def _settled(result: Any) -> None:
    if inspect.isawaitable(result):
        await result


def _joined(pieces: Sequence[Piece], identity: str | None, first: int) -> Delta:
    rows = pl.concat([piece.rows for piece in pieces], rechunk=True) if len(pieces) > 1 else pieces[0].rows
    if identity is not None:
        rows = rows.with_columns(row_ids(identity, PARTITION, first, rows.height))
    if all(piece.weights is None for piece in pieces):
        return Delta(rows)
    weights = [np.ones(p.rows.height, np.int64) if p.weights is None else p.weights for p in pieces]
    return Delta(rows, np.concatenate(weights))
