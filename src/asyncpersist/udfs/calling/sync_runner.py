"""One call after the other, in the thread that waits."""

from __future__ import annotations

import contextvars
import itertools
from collections.abc import Iterator
from functools import partial
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
from asyncpersist.udfs.calling.runner import Answered, CallsCancelled, Failing, Wait
from asyncpersist.udfs.function import Function

__all__ = ["SyncRunner"]

_TELL_EVERY = 0.04
"""Seconds after which an answer is told; calls that take longer are told one by one."""

_QUICK = 0.00005
"""Seconds: calls that take less are made several at a time before the clock is looked at again."""

_MOST_AT_ONCE = 16


class SyncRunner:
    """Runs a plain function in the thread that waits. A call under way is not interrupted.

    The loop's thread gets the interpreter every half millisecond, unless a single call holds it for longer; not if the
    runner is `alone` in its process. Calls see a copy of the context in which the runner was made.
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

    def begin(self, arguments: pl.DataFrame, answered: Answered) -> Wait:
        return partial(self._context.copy().run, _Calls(self, arguments, answered).make)

    def wind_down(self, failure: FunctionFailed) -> None:
        self.reason = self.reason or failure

    def cancel(self) -> None:
        self.reason = self.reason or CallsCancelled()

    def close(self) -> None:
        self.cancel()


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
