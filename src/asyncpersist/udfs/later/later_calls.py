"""Calls of one function for rows that do not wait: begun, withdrawn, answered, each known by the row's key."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from asyncpersist.clock import Clock
from asyncpersist.columnar.arrangement import Arrangement
from asyncpersist.columnar.delta import ID
from asyncpersist.errors import FunctionFailed
from asyncpersist.operators.remembered import ARGUMENTS
from asyncpersist.udfs.caching.cached import CallCounts
from asyncpersist.udfs.caching.flight import Flight
from asyncpersist.udfs.caching.keys import Keys
from asyncpersist.udfs.caching.table import CacheTable
from asyncpersist.udfs.calling.on_loop import LoopCalls
from asyncpersist.udfs.calling.runner import CallsCancelled, Positions
from asyncpersist.udfs.calling.threads import Threads
from asyncpersist.udfs.executors import FullyAsyncExecutor
from asyncpersist.udfs.function import Function
from asyncpersist.udfs.later.flights import Flights
from asyncpersist.udfs.later.gathering import Gathering
from asyncpersist.udfs.later.tickets import Tickets

__all__ = ["LaterCalls"]


@dataclass(frozen=True, slots=True)
class _Numbered:
    """Answers to calls of one's own, by their numbers."""

    numbers: Positions
    values: pl.Series


@dataclass(frozen=True, slots=True)
class _Known:
    """What calls were answered with before, or elsewhere."""

    calls: pl.DataFrame
    values: pl.Series


@dataclass(frozen=True, slots=True)
class _Elsewhere:
    """Calls that somebody else makes: `positions` in `flight`; with their arguments, if that fails."""

    flight: Flight
    positions: Positions
    calls: pl.DataFrame
    arguments: pl.DataFrame


class LaterCalls:
    """Calls a function as its (fully asynchronous) executor says. An `operators.calls.LaterCaller`.

    Keys with equal arguments share a call if the function is deterministic or has a `table`. With one, what is there is
    taken from it, and what is answered is in it at once; what another user of the table is calling is waited for, and
    called here only if it fails there. `write` returns when all that was put into the table before is durable, or
    raises; then it is called, in a thread, before answers are given out.

    It is made in the loop of the run. `wake` is called there when it is `ready`, which means that answers have been
    gathered for as long as the executor says, that nothing else is under way, or that a call has failed: then the
    operator should be stepped. `begin`, `withdraw` and `take` are for one thread at a time; `ready` and `busy` may be
    asked meanwhile, but are right only in between.
    """

    def __init__(
        self,
        function: Function,
        table: CacheTable | None = None,
        *,
        write: Callable[[], None] | None = None,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        wake: Callable[[], None],
    ) -> None:
        executor = function.executor
        milliseconds = executor.autocommit_duration_ms if isinstance(executor, FullyAsyncExecutor) else None
        self._function = function
        self._table = table
        self._write = write
        self._ttl = None if function.cache is None else function.cache.seconds
        shared = function.deterministic or table is not None
        self._by = [ARGUMENTS] if shared else [ID, ARGUMENTS]
        self._calls = LoopCalls(function, loop=loop, clock=clock, told=self._told, ended=self._ended)
        self._gathering = Gathering((milliseconds or 0) / 1000, loop=loop, wake=wake)
        self._writer = Threads("asyncpersist-durable-answers", 1)
        self._wanted = Arrangement({ID: pl.UInt128(), ARGUMENTS: pl.UInt128()}, hashed=self._by)
        self._tickets = Tickets(self._by)
        self._flights = Flights()
        self._elsewhere: list[_Elsewhere] = []
        self._nones: list[pl.DataFrame] = []
        self._counts = CallCounts()
        self._closing = False

        self._lock = threading.Lock()
        self._news = False
        self._answers: list[_Numbered | _Known] = []
        self._unwritten: list[_Numbered | _Known] = []
        self._writing = False
        self._numbered = 0  # calls of one's own among the answers
        self._failure: Exception | None = None

    @property
    def counts(self) -> CallCounts:
        """Up to now. From any thread."""
        return self._counts

    @property
    def busy(self) -> bool:
        """Whether answers are to come, or to be taken."""
        return bool(self._wanted.live or self._nones or self._failure)

    @property
    def answered(self) -> bool:
        """Whether there is something to be taken."""
        return self._news

    @property
    def ready(self) -> bool:
        """Whether it is time to take it. In the loop."""
        return self._failure is not None or (self._news and self._gathering.due)

    # as an operator calls it

    def begin(self, keys: pl.DataFrame, arguments: pl.DataFrame) -> None:
        if self._function.propagate_none and any(column.null_count() for column in arguments.get_columns()):
            none = arguments.select(pl.any_horizontal(pl.all().is_null())).to_series()
            self._nones.append(keys.filter(none))
            self._notify(at_once=True)
            keys, arguments = keys.filter(~none), arguments.filter(~none)
            if not keys.height:
                return
        calls = keys.select(self._by).with_row_index("row").unique(self._by, keep="first", maintain_order=True)
        asked, _ = self._wanted.alike(calls)
        self._want(keys, 1)
        new = np.ones(calls.height, np.bool_)
        new[asked] = False
        if new.any():
            rows = calls["row"].to_numpy()[new]
            self._begin(keys[rows].select(self._by), _rows(arguments, rows))

    def withdraw(self, keys: pl.DataFrame) -> None:
        self._want(keys, -1)
        calls = keys.select(self._by).unique(maintain_order=True)
        wanted = np.zeros(calls.height, np.bool_)
        wanted[self._wanted.alike(calls)[0]] = True
        calls = calls.filter(pl.Series(~wanted))
        if not calls.height:
            return
        numbers = self._tickets.of(calls)
        if len(numbers):
            self._tickets.take(numbers)
            self._calls.withdraw(numbers)
            self._flights.withdraw(np.sort(numbers), self._fly_again)
        if self._elsewhere:
            self._forget_elsewhere(calls)

    def take(self) -> tuple[pl.DataFrame, pl.Series] | None:
        if self._failure is not None:
            raise self._failure
        if not self._news:
            return None
        self._gathering.take()
        with self._lock:
            answers, self._answers = self._answers, []
            self._news, self._numbered = False, 0
        nones, self._nones = self._nones, []
        nothing = pl.Series([None], dtype=self._function.result.polars)
        taken = [(keys.select(ID, ARGUMENTS), nothing.new_from_index(0, keys.height)) for keys in nones]
        for answer in (*answers, *self._from_elsewhere()):
            calls, values = self._called(answer)
            positions, slots = self._wanted.alike(calls)
            if len(slots):
                taken.append((self._wanted.rows.gather(slots), values.gather(positions)))
                self._wanted.add(slots, np.full(len(slots), -1, np.int64))
            self._count(answer, len(slots))
        self._collect()
        if not taken:
            return None
        return pl.concat([keys for keys, _ in taken]), pl.concat([values.alias("") for _, values in taken])

    # the end

    def cancel(self) -> None:
        """Ends all calls; nothing comes of what is begun later. From any thread."""
        self._closing = True
        self._calls.cancel()

    def close(self) -> None:
        """Cancels, and waits, for some seconds at most, until nothing of it runs. Not in the loop's thread."""
        self.cancel()
        self._calls.close()
        self._writer.close()
        self._gathering.take()

    # calls

    def _begin(self, calls: pl.DataFrame, arguments: pl.DataFrame) -> None:
        """Begins distinct calls, unless they are made elsewhere or their answers are there."""
        table = self._table
        if table is None:
            self._start(calls, arguments)
            return
        asked = table.ask(Keys.from_ids(calls[ARGUMENTS]), ttl=self._ttl)
        if len(asked.found):
            self._find(_Known(calls[asked.found], asked.values), durable=table.written >= asked.puts)
        if asked.flight is not None:
            rows = asked.first if asked.called is None else asked.first[asked.called]
            self._start(calls[rows], _rows(arguments, rows), asked.flight)
        for others in asked.elsewhere:
            rows = asked.first[others.kinds]
            watched = _Elsewhere(others.flight, others.positions, calls[rows], _rows(arguments, rows))
            self._elsewhere.append(watched)
            others.flight.listen(self._notify)

    def _start(self, calls: pl.DataFrame, arguments: pl.DataFrame, flight: Flight | None = None) -> None:
        numbers = self._tickets.give(calls)
        if flight is not None:
            self._flights.add(numbers, flight, self._fly_again)
        self._calls.start(numbers, arguments)

    def _fly_again(self, numbers: Positions) -> tuple[Positions, Flight] | None:
        """A flight for calls that are under way and in none."""
        assert self._table is not None
        positions, calls = self._tickets.look_up(numbers)
        numbers = numbers[positions]
        asked = self._table.ask(Keys.from_ids(calls[ARGUMENTS]), ttl=self._ttl)
        if asked.flight is None:
            return None
        called = numbers[asked.first if asked.called is None else asked.first[asked.called]]
        return called, asked.flight

    def _want(self, keys: pl.DataFrame, weight: int) -> None:
        hashes = self._wanted.hashes(keys)
        order = np.argsort(hashes)
        slots = self._wanted.claim(keys.select(ID, ARGUMENTS)[order], hashes[order])
        self._wanted.add(slots, np.full(len(slots), weight, np.int64))
        self._collect()

    def _collect(self) -> None:
        if self._wanted.wasteful:
            self._wanted.compact(self._wanted.removable())

    # answers

    def _told(self, numbers: Positions, values: pl.Series) -> None:
        self._flights.answered(numbers, values)
        self._find(_Numbered(numbers, values), durable=False)

    def _ended(self, reason: Exception) -> None:
        self._flights.end(reason)
        if isinstance(reason, FunctionFailed):
            self._counts = replace(self._counts, calls=self._counts.calls + 1, failures=self._counts.failures + 1)
        self._fail(reason)

    def _fail(self, reason: Exception) -> None:
        if not (self._closing and isinstance(reason, CallsCancelled)):
            self._failure = self._failure or reason
            self._notify(at_once=True)

    def _find(self, answer: _Numbered | _Known, *, durable: bool) -> None:
        """Makes an answer durable, if that is asked for, and then one to be taken."""
        if durable or self._write is None:
            self._publish([answer])
            return
        with self._lock:
            self._unwritten.append(answer)
            begun, self._writing = self._writing, True
        if not begun:
            self._writer.do(self._write_all)

    def _write_all(self) -> None:
        assert self._write is not None
        assert self._table is not None
        while True:
            with self._lock:
                answers, self._unwritten = self._unwritten, []
                if not answers:
                    self._writing = False
                    return
            try:
                puts = self._table.take_in()
                self._write()
            except Exception as exc:
                self._fail(exc)
                return
            self._table.written = max(self._table.written, puts)
            self._publish(answers)

    def _publish(self, answers: list[_Numbered | _Known]) -> None:
        with self._lock:
            self._answers += answers
            self._numbered += sum(len(answer.numbers) for answer in answers if isinstance(answer, _Numbered))
            self._news = True
            last = self._numbered >= len(self._tickets)
        self._gathering.answered(at_once=last)

    def _notify(self, *, at_once: bool = False) -> None:
        self._news = True
        self._gathering.answered(at_once=at_once)

    def _called(self, answer: _Numbered | _Known) -> tuple[pl.DataFrame, pl.Series]:
        if isinstance(answer, _Known):
            return answer.calls, answer.values
        positions, calls = self._tickets.take(answer.numbers)
        return calls, answer.values.gather(positions)

    def _count(self, answer: _Numbered | _Known, rows: int) -> None:
        calls = len(answer.numbers) if isinstance(answer, _Numbered) else 0
        hits = max(rows - calls, 0)
        self._counts = replace(self._counts, calls=self._counts.calls + calls, hits=self._counts.hits + hits)

    # what is called elsewhere

    def _from_elsewhere(self) -> list[_Known]:
        """What was answered there; calls here what has failed there."""
        found: list[_Known] = []
        watched, self._elsewhere = self._elsewhere, []
        for others in watched:
            # First: what is answered between the two is found.
            ended = others.flight.ended
            values, lacking = others.flight.values(others.positions)
            there = np.setdiff1d(np.arange(len(others.positions)), lacking)
            if len(there):
                found.append(_Known(others.calls[there], values))
            if not len(lacking):
                continue
            calls, arguments = others.calls[lacking], _rows(others.arguments, lacking)
            if ended:
                self._begin(calls, arguments)
            else:
                self._elsewhere.append(_Elsewhere(others.flight, others.positions[lacking], calls, arguments))
        return found

    def _forget_elsewhere(self, calls: pl.DataFrame) -> None:
        watched, self._elsewhere = self._elsewhere, []
        for others in watched:
            row = others.calls.with_row_index("row").join(calls, on=self._by, how="anti")["row"].to_numpy()
            kept = np.sort(row).astype(np.int64)
            if len(kept):
                arguments = _rows(others.arguments, kept)
                self._elsewhere.append(_Elsewhere(others.flight, others.positions[kept], others.calls[kept], arguments))


def _rows(frame: pl.DataFrame, positions: Positions) -> pl.DataFrame:
    """The rows at these positions; a frame without columns has a height all the same."""
    return frame[positions] if frame.width else pl.DataFrame(height=len(positions))
