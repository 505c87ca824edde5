"""One call after the other, in a thread of its own."""

from __future__ import annotations

import contextvars
import itertools
import threading
from collections.abc import Callable, Iterator
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from asyncpersist.clock import Clock, give_way
from asyncpersist.columnar.python_values import Misfit
from asyncpersist.errors import FunctionFailed
from asyncpersist.udfs.calling.batches import Batches
from asyncpersist.udfs.calling.failures import failed, misfitting
from asyncpersist.udfs.calling.pace import SLICE
from asyncpersist.udfs.calling.rows import Rows
from asyncpersist.udfs.calling.runner import Answered, CallsCancelled, Failing, Positions, Wait
from asyncpersist.udfs.calling.threads import Threads
from asyncpersist.udfs.function import Function

__all__ = ["SyncRunner"]

_TELL_EVERY = 0.04
"""Seconds after which an answer is told; calls that take longer are told one by one."""

_QUICK = 0.00005
"""Seconds: calls that take less are made several at a time before the clock is looked at again."""

_MOST_AT_ONCE = 16

_GRACE = 5.0
"""Seconds for which a call may go on after another function has failed."""

_LAST = 0.5
"""The same after a cancellation."""


class SyncRunner:
    """Runs a plain function in one thread, for whoever waits; in the one that waits if it is `alone` in its process.

    The loop's thread gets the interpreter every half millisecond, unless a single call holds it for longer; not if it
    is alone. Calls see a copy of the context in which the runner was made.

    A call under way cannot be interrupted. When the others have ended it has some time to end too; then it is left
    behind: nobody waits for it, nothing comes of what it returns, nor of what was answered so shortly before that it
    was not told, and its thread, which keeps no program from ending, ends with it.
    """

    def __init__(
        self, function: Function, clock: Clock, failing: Failing | None = None, *, alone: bool = False
    ) -> None:
        self.function = function
        self.clock = clock
        self.alone = alone
        self.rows = Rows(function, clock)
        self.batches = Batches(function, clock) if function.columns or function.max_batch_size else None
        self.failing = failing
        self.reason: Exception | None = None
        """Why there are no more calls."""
        self._context = contextvars.copy_context()
        self._thread = Threads("asyncpersist-calls", 1)
        self._lock = threading.Lock()
        self._jobs: set[_Job] = set()
        self._left_behind = False

    def begin(self, arguments: pl.DataFrame, answered: Answered) -> Wait:
        if self.alone:
            return partial(self._context.copy().run, _Calls(self, arguments, answered).make)
        job = _Job(answered)
        job.make = partial(self._context.copy().run, _Calls(self, arguments, job.answered).make)
        return partial(self._wait, job)

    def wind_down(self, failure: FunctionFailed) -> None:
        self._end(failure, _GRACE)

    def cancel(self) -> None:
        self._end(CallsCancelled(), _LAST)

    def close(self) -> None:
        self.cancel()
        self._thread.close()
        self._thread.join(0 if self._left_behind else 2 * _LAST)

    def _end(self, reason: Exception, seconds: float) -> None:
        self.reason = self.reason or reason
        with self._lock:
            for job in self._jobs:
                job.end_within(seconds)

    def _wait(self, job: _Job) -> None:
        with self._lock:
            self._jobs.add(job)
        try:
            # What ends the calls from here on is told to the job, and what did before is seen.
            if self.reason is not None or not self._thread.do(job.do):
                raise self.reason or CallsCancelled()
            job.wait()
        except Empty:
            self._left_behind = True
            raise self.reason or CallsCancelled() from None
        finally:
            with self._lock:
                self._jobs.remove(job)


class _Job:
    """Calls that are made in the runner's thread, and whoever waits for them."""

    def __init__(self, answered: Answered) -> None:
        self.make: Callable[[], None]
        self._answered = answered
        self._left = False  # nobody waits any more
        self._words: SimpleQueue[float | None] = SimpleQueue()
        self._raised: BaseException | None = None
        self._lock = threading.Lock()
        self._seconds: float | None = None

    def do(self) -> None:
        try:
            self.make()
        except BaseException as exc:
            self._raised = exc
        del self.make
        self._words.put(None)

    def answered(self, positions: Positions, values: pl.Series) -> None:
        with self._lock:
            if not self._left:
                self._answered(positions, values)

    def end_within(self, seconds: float) -> None:
        """Whoever waits does so no longer than for so many seconds from now."""
        if self._seconds is None or seconds < self._seconds:
            self._seconds = seconds
            self._words.put(seconds)

    def wait(self) -> None:
        """Returns when the calls have been made, or raises what they raised; `Empty` if they take too long to end."""
        seconds = None
        try:
            while (seconds := self._words.get(timeout=seconds)) is not None:
                pass
        except Empty:
            with self._lock:
                self._left = True
            raise
        if self._raised is not None:
            raise self._raised


class _Calls:
    """The calls for one frame of arguments."""

    def __init__(self, runner: SyncRunner, arguments: pl.DataFrame, answered: Answered) -> None:
        self._runner = runner
        self._function = runner.function
        self._now = runner.clock.monotonic
        self._arguments = arguments
        self._group = _Group(answered)
        self._at_once = 1
        self._way_due = 0.0
        self._telling_due = 0.0

    def make(self) -> None:
        now = self._now()
        self._way_due, self._telling_due = now + SLICE, now + _TELL_EVERY
        try:
            if self._runner.batches is None:
                self._call_rows(self._runner.rows)
            else:
                self._call_batches(self._runner.batches)
        except FunctionFailed as exc:
            if self._runner.failing is not None:
                self._runner.failing(exc)
            raise
        finally:
            self._group.tell()

    def _call_rows(self, rows: Rows) -> None:
        arguments, start = self._arguments, 0
        while start < arguments.height:
            self._go_on()
            frame = arguments.slice(start, rows.at_once)
            self._call_piece(rows, _Piece(start, frame.height, rows.values(frame)))
            start += frame.height

    def _call_piece(self, rows: Rows, piece: _Piece) -> None:
        """Makes the calls for these rows. What was answered is in the group, whatever happens."""
        calls = piece.calls(rows)
        values: list[Any] = []
        done = 0  # of the rows, in the group
        try:
            before = self._now()
            while (made := done + len(values)) < piece.height:
                self._call_some(values, calls, min(self._at_once, piece.height - made), piece, made)
                now = self._now()
                self._at_once = min(self._at_once + 1, _MOST_AT_ONCE) if now - before < _QUICK else 1
                if now >= self._way_due or self._runner.reason is not None:
                    self._go_on()
                if now >= self._telling_due:
                    kept, values = values, []
                    first, done = done, done + len(kept)
                    self._add(rows, kept, piece, first)
                    self._tell()
                before = self._now()
        finally:
            self._add(rows, values, piece, done)

    def _call_some(self, values: list[Any], calls: Iterator[Any], count: int, piece: _Piece, made: int) -> None:
        """Adds what the next calls return to `values`, up to the one that raises."""
        had = len(values)
        try:
            values.extend(itertools.islice(calls, count))
            if len(values) - had == count:
                return
            cause: BaseException = StopIteration()  # which an iterator cannot tell from its end
        except BaseException as exc:
            cause = exc
        raise failed(self._function, piece.row(made + len(values) - had), cause)

    def _add(self, rows: Rows, values: list[Any], piece: _Piece, first: int) -> None:
        """Puts into the group what was returned for the rows of a piece from `first` on."""
        if not values:
            return
        fitting = rows.fitting(values, giving_way=not self._runner.alone)
        positions = np.arange(piece.start + first, piece.start + first + len(values))
        self._group.add(np.delete(positions, fitting.unfit) if fitting.unfit else positions, fitting.column)
        if fitting.why is not None:
            raise misfitting(self._function, piece.row(first + fitting.unfit[0]), fitting.why)

    def _call_batches(self, batches: Batches) -> None:
        arguments = self._arguments
        size = batches.size or arguments.height
        for start in range(0, arguments.height, size or 1):
            piece = arguments.slice(start, size)
            if start == 0 or self._now() >= self._way_due or self._runner.reason is not None:
                self._go_on()
            try:
                returned = batches.call(piece)
            except BaseException as exc:
                raise failed(self._function, piece, exc) from exc
            try:
                column = batches.column(returned, piece.height, giving_way=not self._runner.alone)
            except Misfit as exc:
                raise misfitting(self._function, piece, exc) from exc
            self._group.add(np.arange(start, start + piece.height), column)
            if self._now() >= self._telling_due:
                self._tell()

    def _tell(self) -> None:
        self._group.tell()
        self._telling_due = self._now() + _TELL_EVERY

    def _go_on(self) -> None:
        """Gives way, if it is time. Raises why there are no more calls."""
        if self._runner.reason is not None:
            raise self._runner.reason
        if not self._runner.alone and self._now() >= self._way_due:
            give_way()
            self._way_due = self._now() + SLICE


class _Piece(NamedTuple):
    """Rows that are converted together: where they begin, how many they are, and the values of each parameter."""

    start: int
    height: int
    lists: list[list[Any]]

    def calls(self, rows: Rows) -> Iterator[Any]:
        """What the function returns for each of them, called as it is asked for."""
        if self.lists:
            return map(rows.call, *self.lists)
        return itertools.starmap(rows.call, itertools.repeat((), self.height))

    def row(self, index: int) -> tuple[Any, ...]:
        return tuple(values[index] for values in self.lists)


class _Group:
    """Answers that are told together."""

    def __init__(self, answered: Answered) -> None:
        self._answered = answered
        self._positions: list[np.ndarray[Any, np.dtype[np.int64]]] = []
        self._columns: list[pl.Series] = []

    def add(self, positions: np.ndarray[Any, np.dtype[np.int64]], column: pl.Series) -> None:
        if len(positions):
            self._positions.append(positions)
            self._columns.append(column)

    def tell(self) -> None:
        if not self._columns:
            return
        positions, columns = self._positions, self._columns
        self._positions, self._columns = [], []
        if len(columns) == 1:
            self._answered(positions[0], columns[0])
        else:
            self._answered(np.concatenate(positions), pl.concat(columns))
