"""Calls of a function, each made once for equal arguments, and not at all where its result is kept."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from asyncpersist.errors import FunctionFailed
from asyncpersist.operators.calls import Answers
from asyncpersist.udfs.caching.flight import Flight
from asyncpersist.udfs.caching.keys import Distinct, Keys, distinct
from asyncpersist.udfs.caching.table import Asked, CacheTable
from asyncpersist.udfs.calling.runner import Positions, Runner
from asyncpersist.udfs.function import Function

__all__ = ["CachedCaller", "CallCounts"]


@dataclass(frozen=True, slots=True)
class CallCounts:
    """What was done for the rows that were called for, save those that are None by `propagate_none`.

    `calls`: how often the function was run for arguments, with success or not, attempts not counted. `hits`: rows that
    were answered without a call of their own. `failures`: calls that failed for good. What was cancelled is in none.
    """

    calls: int = 0
    hits: int = 0
    failures: int = 0


class CachedCaller:
    """Calls a `function` by a `runner`, for what is not in its `table`. An `operators.calls.Caller`.

    Without a table every row is called for, save that equal rows of one batch share a call if the function is
    deterministic. With one, what is answered is in the table from then on, whatever becomes of other rows; a failure
    never is. What another user of the table is calling is waited for, and called here only if it fails there.

    `write` returns when all that was put into the table before is durable, or raises; it is called before answers that
    are not yet so are given out, and when a call has failed. `told` is called whenever there are answers; it must be
    quick. `landing` is called before a failure is raised, and returns when nothing is under way any more that is to be
    kept: calls of other functions, which have been told to wind down, and `land`.
    """

    def __init__(
        self,
        function: Function,
        runner: Runner,
        table: CacheTable | None = None,
        *,
        write: Callable[[], None] | None = None,
        told: Callable[[], None] | None = None,
        landing: Callable[[], None] | None = None,
    ) -> None:
        self._function = function
        self._runner = runner
        self._table = table
        self._write = write
        self._told = told
        self._landing = landing
        self._ttl = None if function.cache is None else function.cache.seconds
        self._counting = threading.Lock()
        self._counts = CallCounts()
        self._failure: BaseException | None = None  # the last one that was counted, or is not to be
        self._flights: list[Flight] = []  # those that are not in the counts

    @property
    def counts(self) -> CallCounts:
        """Up to now, with what was answered of calls under way. From any thread."""
        with self._counting:
            answered = sum(flight.answered_count for flight in self._flights)
            return replace(self._counts, calls=self._counts.calls + answered)

    def wind_down(self, failure: FunctionFailed) -> None:
        """Ends the calls for a failure of another function; see `Runner`. From any thread, and quick."""
        with self._counting:
            self._failure = failure
        self._runner.wind_down(failure)

    def land(self) -> None:
        """Waits until no call is under way, and makes what was answered durable, if that is asked for."""
        flights = tuple(self._flights)
        for flight in flights:
            flight.wait_for()
            self._count_flight(flight)
        if flights and self._table is not None:
            # What they were answered with is paid for.
            with contextlib.suppress(Exception):
                self._make_durable(self._table, self._table.take_in())

    def begin(self, arguments: pl.DataFrame) -> Answers:
        if not self._function.propagate_none or not any(column.null_count() for column in arguments.get_columns()):
            return self._begin(arguments)
        none = arguments.select(pl.any_horizontal(pl.all().is_null())).to_series()
        rows = np.flatnonzero(~none.to_numpy())
        nothing = pl.Series([None], dtype=self._function.result.polars)
        if not len(rows):
            return lambda: nothing.new_from_index(0, arguments.height)
        answers = self._begin(arguments[rows])
        places = np.zeros(arguments.height, np.int64)
        places[rows] = np.arange(1, 1 + len(rows))
        return lambda: _concatenated([nothing, answers()])[places]

    def _begin(self, arguments: pl.DataFrame) -> Answers:
        table = self._table
        if table is None:
            return self._begin_unkept(arguments)
        asked = table.ask(Keys.of(arguments), ttl=self._ttl)
        self._count_hits(len(asked.found))
        if asked.flight is not None:
            self._start(asked.flight, arguments, asked.first if asked.called is None else asked.first[asked.called])
        return lambda: self._answer(table, asked, arguments)

    def _begin_unkept(self, arguments: pl.DataFrame) -> Answers:
        rows = distinct(Keys.of(arguments)) if self._function.deterministic else Distinct()
        first = np.arange(arguments.height) if rows.first is None else rows.first
        flight = Flight(len(first), lambda: 1)
        self._start(flight, arguments, first)

        def answers() -> pl.Series:
            self._finish(flight)
            self._count_hits(arguments.height - len(first))
            values, _ = flight.values()
            return values if rows.kind is None else values[rows.kind]

        return answers

    def _start(self, flight: Flight, arguments: pl.DataFrame, rows: Positions) -> None:
        """Begins the calls for these rows, which are distinct and ascend."""
        with self._counting:
            self._flights.append(flight)
        try:
            frame = arguments if len(rows) == arguments.height else _chosen(arguments, rows)
            if self._told is not None:
                flight.listen(self._told)
            flight.start(self._runner.begin(frame, flight.answered))
        except BaseException as exc:
            flight.end(exc)
            self._count_flight(flight)
            raise

    def _answer(self, table: CacheTable, asked: Asked, arguments: pl.DataFrame) -> pl.Series:
        """The values of all rows, once there are all."""
        if not len(asked.missing):
            self._make_durable(table, asked.puts)
            return asked.values
        try:
            if asked.flight is not None:
                self._finish(asked.flight)
        except Exception:
            # What the others were answered with is paid for.
            with contextlib.suppress(Exception):
                self._make_durable(table, table.take_in())
            raise
        for others in asked.elsewhere:
            others.flight.wait_for(others.positions)
        self._make_durable(table, table.take_in())
        values = self._missing(asked, arguments)
        if asked.kind is not None:
            values = values[asked.kind]
        if not len(asked.found):
            return values
        places = np.empty(arguments.height, np.int64)
        places[asked.found] = np.arange(len(asked.found))
        places[asked.missing] = np.arange(len(asked.found), arguments.height)
        return _concatenated([asked.values, values])[places]

    def _missing(self, asked: Asked, arguments: pl.DataFrame) -> pl.Series:
        """The values of each kind of row that was missing; calls what others have failed to."""
        own = 0
        kinds: list[Positions] = []
        pieces: list[pl.Series] = []
        if asked.flight is not None:
            values, _ = asked.flight.values()
            own = len(values)
            if asked.called is None:
                self._count_hits(len(asked.missing) - own)
                return values
            kinds.append(asked.called)
            pieces.append(values)
        failed: list[Positions] = []
        for others in asked.elsewhere:
            values, lacking = others.flight.values(others.positions)
            kinds.append(np.delete(others.kinds, lacking))
            pieces.append(values)
            failed.append(others.kinds[lacking])
        left = np.sort(np.concatenate(failed))
        self._count_hits(len(asked.missing) - own - len(left))
        if len(left):
            kinds.append(left)
            pieces.append(self._begin(_chosen(arguments, asked.first[left]))())
        places = np.empty(len(asked.first), np.int64)
        places[np.concatenate(kinds)] = np.arange(len(asked.first))
        return _concatenated(pieces)[places]

    def _make_durable(self, table: CacheTable, puts: int) -> None:
        """Returns when the first so many results that were put are durable, if that is asked for."""
        if self._write is not None and table.written < puts:
            self._write()
            table.written = max(table.written, puts)

    def _finish(self, flight: Flight) -> None:
        try:
            flight.finish()
        except FunctionFailed:
            if self._landing is not None:
                self._landing()
            raise
        finally:
            self._count_flight(flight)

    def _count_flight(self, flight: Flight) -> None:
        with self._counting:
            if flight not in self._flights:
                return
            # A runner may end all it has begun for the same failure.
            failed = isinstance(flight.failure, FunctionFailed) and flight.failure is not self._failure
            self._failure = flight.failure or self._failure
            self._flights.remove(flight)
            counts = self._counts
            calls = counts.calls + flight.answered_count + failed
            self._counts = replace(counts, calls=calls, failures=counts.failures + failed)

    def _count_hits(self, rows: int) -> None:
        with self._counting:
            self._counts = replace(self._counts, hits=self._counts.hits + rows)


def _chosen(arguments: pl.DataFrame, rows: Positions) -> pl.DataFrame:
    """Some rows; a frame without columns has a height all the same."""
    return arguments[rows] if arguments.width else pl.DataFrame(height=len(rows))


def _concatenated(pieces: list[pl.Series]) -> pl.Series:
    """End to end; there is at least one that is not empty, and those that are may be of any type."""
    pieces = [piece for piece in pieces if len(piece)]
    return pl.concat([piece.alias("") for piece in pieces]) if len(pieces) > 1 else pieces[0]
