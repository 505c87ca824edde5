"""The caches of one run's functions that lie in its root."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import msgspec

from asyncpersist.checkpoint.caches import cache_stream, used_stream
from asyncpersist.checkpoint.manifest import CacheFacts
from asyncpersist.clock import Clock
from asyncpersist.columnar.state import State
from asyncpersist.runtime.caches import capture_all
from asyncpersist.runtime.segments import StateSegment
from asyncpersist.udfs.caching.cached import CallCounts
from asyncpersist.udfs.caching.room import CacheRoom
from asyncpersist.udfs.caching.table import CacheTable
from asyncpersist.udfs.function import Function

__all__ = ["Counted", "KeptResults"]


class Counted(Protocol):
    """Who calls a function."""

    @property
    def counts(self) -> CallCounts:
        """What was done up to now."""
        ...


class KeptResults:
    """Filled while the run is put together; satisfies `Caches`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._states: dict[str, State] = {}
        self._each: dict[str, State] = {}
        self._names: dict[str, CacheFacts] = {}
        self._callers: dict[str, list[Counted]] = {}
        self._rooms: dict[str, CacheRoom] = {}

    def found(self, others: Mapping[str, tuple[CacheFacts, int]]) -> None:
        by_age = sorted(others.items(), key=lambda item: item[1][0].used)
        for cache, room in self._rooms.items():
            room.share_with({stream: size for stream, (facts, size) in by_age if facts.cache == cache})

    def dropped(self) -> Collection[str]:
        return {stream for room in self._rooms.values() for stream in room.dropped}

    def add(self, function: Function, cache: str, table: CacheTable, caller: Counted, *, each: bool) -> None:
        """Results of a function in a cache. `each`: they are written before they are used."""
        stream = cache_stream(cache, function.digest)
        states = {stream: table, used_stream(stream): table.uses}
        self._states.update(states)
        if each:
            self._each[stream] = table
        self._names[stream] = CacheFacts(function=function.name, cache=cache)
        self._callers.setdefault(stream, []).append(caller)
        self._rooms[cache] = table.room

    @property
    def states(self) -> Mapping[str, State]:
        return self._states

    def capture(self) -> Sequence[StateSegment]:
        return capture_all(self._states)

    def facts(self) -> Mapping[str, CacheFacts]:
        found: dict[str, CacheFacts] = {}
        for stream, names in self._names.items():
            counts = [caller.counts for caller in self._callers[stream]]
            calls, hits = sum(each.calls for each in counts), sum(each.hits for each in counts)
            used = self._clock.wall() if calls or hits else 0.0
            found[stream] = msgspec.structs.replace(names, calls=calls, hits=hits, used=used)
        return found

    @property
    def written_each(self) -> bool:
        """Whether results of some function are written before they are used."""
        return bool(self._each)

    def capture_each(self) -> Sequence[StateSegment]:
        """What is new of those."""
        return capture_all(self._each)
