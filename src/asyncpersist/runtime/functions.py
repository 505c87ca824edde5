"""The functions of one run: who calls them, where their results are kept, and how calls end."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence

import anyio.to_thread

from asyncpersist.clock import Clock
from asyncpersist.errors import GraphError
from asyncpersist.runtime.answer_writer import AnswerWriter
from asyncpersist.runtime.dataflow import Dataflow
from asyncpersist.runtime.kept_results import KeptResults
from asyncpersist.runtime.snapshots import Snapshots
from asyncpersist.runtime.statistics import FunctionStatistics
from asyncpersist.udfs.caches import CacheStrategy, DefaultCache, DiskCache, InMemoryCache
from asyncpersist.udfs.caching.cached import CachedCaller
from asyncpersist.udfs.caching.room import CacheRoom
from asyncpersist.udfs.calling.choosing import runner_for
from asyncpersist.udfs.calling.runner import Runner
from asyncpersist.udfs.function import Function
from asyncpersist.udfs.identity import are_same

__all__ = ["Functions"]


class Functions:
    """Made in the loop of the run; gives the operators of `dataflow` their callers.

    `persistent`: it has a root. Raises `GraphError` for a `DiskCache` where there is nothing to
    keep it in, and where two functions could not be told apart.
    """

    def __init__(self, dataflow: Dataflow, *, persistent: bool, clock: Clock) -> None:
        self._loop = asyncio.get_running_loop()
        self._clock = clock
        self._persistent = persistent
        self._runners: list[Runner] = []
        self._callers: list[tuple[Function, CachedCaller]] = []
        self._writer: AnswerWriter | None = None
        self._deadline: asyncio.TimerHandle | None = None
        calls = [(operator, [call.function for call in operator.calls]) for operator in dataflow.applying()]
        every = [function for _, functions in calls for function in functions]
        _refuse_alike(every)
        self._rooms = self._made_rooms(every)
        self.kept = KeptResults(clock)
        for operator, functions in calls:
            operator.bind([self._caller(function) for function in functions])

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
        runner = runner_for(function, loop=self._loop, clock=self._clock)
        self._runners.append(runner)
        cache, room = function.cache, self._room_of(function)
        if cache is None or room is None:
            caller = CachedCaller(function, runner)
        else:
            kept = isinstance(cache, DiskCache)
            each = isinstance(cache, DiskCache) and cache.durable == "each"
            table = self._rooms[room].table(function.digest, function.result.polars, keep_for=cache.seconds)
            write, told = (self._write, self._answered) if each else (None, None)
            caller = CachedCaller(function, runner, table, write=write, told=told)
            if kept:
                self.kept.add(function, str(room), table, caller, each=each)
        self._callers.append((function, caller))
        return caller

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

    def end_within(self, seconds: float) -> None:
        """Calls may go on for so long, and are cancelled then."""
        if self._deadline is None and self._runners:
            self._deadline = self._loop.call_later(seconds, self.cancel)

    def cancel(self) -> None:
        """Ends all calls; the step that waits for them raises `CallsCancelled`."""
        for runner in self._runners:
            runner.cancel()

    async def aclose(self) -> None:
        """Ends what is left of threads and processes; nothing is called any more."""
        if self._deadline is not None:
            self._deadline.cancel()
        for runner in self._runners:
            await anyio.to_thread.run_sync(runner.close)

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
