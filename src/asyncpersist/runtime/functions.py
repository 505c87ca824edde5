"""The functions of one run: who calls them, where their results are kept, and how calls end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable, Sequence
from functools import partial

import anyio.to_thread

from asyncpersist.clock import Clock
from asyncpersist.errors import FunctionFailed, GraphError
from asyncpersist.runtime.answer_writer import AnswerWriter
from asyncpersist.runtime.dataflow import Dataflow
from asyncpersist.runtime.kept_results import Counted, KeptResults
from asyncpersist.runtime.snapshots import Snapshots
from asyncpersist.runtime.statistics import FunctionStatistics
from asyncpersist.udfs.caches import CacheStrategy, DefaultCache, DiskCache, InMemoryCache
from asyncpersist.udfs.caching.cached import CachedCaller
from asyncpersist.udfs.caching.room import CacheRoom
from asyncpersist.udfs.caching.table import CacheTable
from asyncpersist.udfs.calling.choosing import check_executor, runner_for
from asyncpersist.udfs.calling.runner import Runner
from asyncpersist.udfs.function import Function
from asyncpersist.udfs.identity import are_same
from asyncpersist.udfs.later.later_calls import LaterCalls

__all__ = ["Functions"]


class Functions:
    """Made in the loop of the run; gives the operators of `dataflow` their callers.

    `persistent`: it has a root. `wake` is called in the loop when functions that answer later are `ready`. Raises
    `GraphError` for a `DiskCache` where there is nothing to keep it in, and where two functions could not be told
    apart.
    """

    def __init__(self, dataflow: Dataflow, *, persistent: bool, clock: Clock, wake: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._wake = wake
        self._clock = clock
        self._persistent = persistent
        self._runners: list[Runner] = []
        self._cached: list[CachedCaller] = []  # each with the runner in the same place
        self._failure: FunctionFailed | None = None
        self._failing = threading.Lock()
        self._later: list[LaterCalls] = []
        self._applying_later = list(dataflow.applying_later())
        self._callers: list[tuple[Function, Counted]] = []
        self._writer: AnswerWriter | None = None
        self._deadline: asyncio.TimerHandle | None = None
        calls = [(operator, [call.function for call in operator.calls]) for operator in dataflow.applying()]
        every = [function for _, functions in calls for function in functions]
        every += [operator.call.function for operator in self._applying_later]
        _refuse_alike(every)
        self._rooms = self._made_rooms(every)
        self.kept = KeptResults(clock)
        for operator, functions in calls:
            operator.bind([self._caller(function) for function in functions])
        for later in self._applying_later:
            later.bind(self._later_calls(later.call.function))

    def _made_rooms(self, functions: Sequence[Function]) -> dict[Hashable, CacheRoom]:
        strategies: dict[Hashable, list[CacheStrategy]] = {}
        for function in functions:
            if (room := self._room_of(function)) is not None and function.cache is not None:
                strategies.setdefault(room, []).append(function.cache)
        return {room: CacheRoom.of(given, self._clock) for room, given in strategies.items()}

    def _room_of(self, function: Function) -> Hashable | None:
        """What tells the cache of a function from others; None if it has none."""
        match function.cache:
            case None:
                return None
            case InMemoryCache() as cache:
                return id(cache)
            case DiskCache(name=name) if self._persistent:
                return name or function.name
            case DefaultCache():
                return None
            case _:
                raise GraphError(
                    f"{function.name} has a DiskCache, and this run has no persistence_config: there is no place to "
                    "keep its results in. Give it one; or use DefaultCache(), which is off without, or InMemoryCache()."
                )

    def _caller(self, function: Function) -> CachedCaller:
        failing = partial(self._wind_down, len(self._runners))
        runner = runner_for(function, loop=self._loop, clock=self._clock, failing=failing)
        self._runners.append(runner)
        write = self._write_of(function)
        told = None if write is None else self._answered
        caller = CachedCaller(function, runner, self._table(function), write=write, told=told, landing=self._land)
        self._cached.append(caller)
        self._add(function, caller)
        return caller

    def _wind_down(self, place: int, failure: FunctionFailed) -> None:
        """After the first failure no function begins another call; those under way may end, as they are paid for."""
        with self._failing:
            if self._failure is not None:
                return
            self._failure = failure
        for other, caller in enumerate(self._cached):
            if other != place:
                caller.wind_down(failure)

    def _land(self) -> None:
        for caller in self._cached:
            caller.land()

    def _later_calls(self, function: Function) -> LaterCalls:
        check_executor(function)
        calls = LaterCalls(
            function,
            self._table(function),
            write=self._write_of(function),
            loop=self._loop,
            clock=self._clock,
            wake=self._wake,
        )
        self._later.append(calls)
        self._add(function, calls)
        return calls

    def _table(self, function: Function) -> CacheTable | None:
        cache, room = function.cache, self._room_of(function)
        if cache is None or room is None:
            return None
        return self._rooms[room].table(function.digest, function.result.polars, keep_for=cache.seconds)

    def _write_of(self, function: Function) -> Callable[[], None] | None:
        """What makes its results durable, if that is to be done before they are used."""
        cache = function.cache
        each = isinstance(cache, DiskCache) and cache.durable == "each" and self._room_of(function) is not None
        return self._write if each else None

    def _add(self, function: Function, caller: Counted) -> None:
        self._callers.append((function, caller))
        room, table = self._room_of(function), self._table(function)
        if table is not None and isinstance(function.cache, DiskCache):
            self.kept.add(function, str(room), table, caller, each=self._write_of(function) is not None)

    def _write(self) -> None:
        if self._writer is not None:
            self._writer.write()

    def _answered(self) -> None:
        if self._writer is not None:
            self._writer.answered()

    def writing(self, snapshots: Snapshots) -> AnswerWriter | None:
        """What has to run for answers to be written before they are used; None if that is not asked for."""
        if self.kept.written_each:
            self._writer = AnswerWriter(snapshots.put_answers, self.kept.capture_each)
        return self._writer

    async def resume(self) -> None:
        """Begins the calls for all rows that wait for an answer; once their state is loaded."""
        for operator in self._applying_later:
            await anyio.to_thread.run_sync(operator.resume)

    @property
    def busy(self) -> bool:
        """Whether answers are to come that no epoch waits for."""
        return any(calls.busy for calls in self._later)

    @property
    def ready(self) -> bool:
        """Whether an epoch should be stepped for the sake of those that have come."""
        return any(calls.ready for calls in self._later)

    @property
    def answered(self) -> bool:
        """Whether any have come."""
        return any(calls.answered for calls in self._later)

    def cancel_later(self) -> None:
        """Ends the calls that no epoch waits for."""
        for calls in self._later:
            calls.cancel()

    def end_within(self, seconds: float) -> None:
        """Calls may go on for so long, and are cancelled then."""
        if self._deadline is None and self._runners:
            self._deadline = self._loop.call_later(seconds, self.cancel)

    def cancel(self) -> None:
        """Ends all calls at once; the step that waits for them raises `CallsCancelled`."""
        for runner in self._runners:
            runner.cancel()
        self.cancel_later()

    async def aclose(self) -> None:
        """Ends what is left of threads and processes; nothing is called any more."""
        if self._deadline is not None:
            self._deadline.cancel()
        for runner in self._runners:
            await anyio.to_thread.run_sync(runner.close)
        for calls in self._later:
            await anyio.to_thread.run_sync(calls.close)

    def statistics(self) -> dict[str, FunctionStatistics]:
        """By the names of functions."""
        found: dict[str, FunctionStatistics] = {}
        for function, caller in self._callers:
            counts = caller.counts
            before = found.get(function.name, FunctionStatistics())
            found[function.name] = FunctionStatistics(
                calls=before.calls + counts.calls,
                hits=before.hits + counts.hits,
                failures=before.failures + counts.failures,
            )
        return found


def _refuse_alike(functions: Sequence[Function]) -> None:
    """Two functions that are known by the same name would be given each other's results."""
    known: dict[str, Function] = {}
    for function in functions:
        other = known.setdefault(function.digest, function)
        if function.cache is not None and not are_same(function.call, other.call):
            raise GraphError(
                f"there are two different functions {function.name}, whose cached results could not be told apart: "
                "give one of them another name, or each a version= of its own."
            )
