"""What goes when there is too much: what was used least recently, over all functions that share a cache."""

from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncpersist.columnar.codec import latest_rows
from asyncpersist.testing.clocks import ManualClock
from asyncpersist.udfs import DefaultCache, DiskCache, InMemoryCache
from asyncpersist.udfs.caching.entries import ENTRY_BYTES, KEY
from asyncpersist.udfs.caching.keys import Keys
from asyncpersist.udfs.caching.room import CacheRoom
from asyncpersist.udfs.caching.table import CacheTable

INT = pl.Int64()
ENTRY = ENTRY_BYTES + 8


def keys(*values: int) -> Keys:
    return Keys.of(pl.DataFrame({"a": pl.Series(values, dtype=pl.Int64)}))


def put(table: CacheTable, *values: int) -> None:
    table.put(keys(*values), pl.Series(values, dtype=pl.Int64))


def present(table: CacheTable, among: range) -> set[int]:
    """Which values are there; they count as used then."""
    return set(table.look_up(keys(*among))[1].to_list())


class Watched:
    """What a table holds, told without a use."""

    def __init__(self, table: CacheTable) -> None:
        self.table = table
        self._rows = pl.DataFrame(schema={KEY: pl.UInt128(), "__value": INT})

    def values(self) -> set[int]:
        if (increment := self.table.capture()) is not None:
            before = [] if increment.complete else [self._rows]
            self._rows = latest_rows([*before, increment.rows], [KEY], drop_tombstones=True)
        return set(self._rows["__value"].to_list())


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "find"]), st.integers(0, 1), st.lists(st.integers(0, 29), min_size=1, unique=True)
    ),
    max_size=12,
)


@settings(max_examples=25)
@given(steps=STEPS, limit=st.integers(1, 25), by_bytes=st.booleans(), jumps=st.booleans())
def test_what_was_used_least_recently_goes_first(
    steps: list[tuple[str, int, list[int]]], limit: int, by_bytes: bool, jumps: bool
) -> None:
    clock = ManualClock()
    room = CacheRoom(clock, max_bytes=limit * ENTRY) if by_bytes else CacheRoom(clock, max_entries=limit)
    tables = [Watched(room.table(name, INT)) for name in "fg"]
    used: dict[tuple[int, int], int] = {}
    for moment, (what, which, values) in enumerate(steps):
        if jumps:
            clock.set_wall(1e9 + moment * 7919 % 101)
        if what == "put":
            put(tables[which].table, *values)
            used.update(((which, value), moment) for value in values)
        else:
            there = {value for table, value in used if table == which}
            rows, results = tables[which].table.look_up(keys(*values))
            assert results.to_list() == [values[row] for row in rows] == [value for value in values if value in there]
            used.update(((which, value), moment) for value in values if value in there)
        kept = {(at, value) for at, watched in enumerate(tables) for value in watched.values()}
        dropped = used.keys() - kept
        assert kept <= used.keys()
        excess = len(used) - limit
        slack = limit * ENTRY // 10 if by_bytes else 0
        assert len(dropped) == (0 if excess <= 0 else excess + -(-slack // ENTRY))
        if dropped and kept:
            assert max(used[key] for key in dropped) <= min(used[key] for key in kept)
        used = {key: used[key] for key in kept}
        assert room.bytes == len(kept) * ENTRY


def test_large_rooms_free_a_tenth_at_once() -> None:
    room = CacheRoom(ManualClock(), max_entries=2000)
    table = room.table("f", INT)
    put(table, *range(1000))
    put(table, *range(1000, 2000))
    assert len(table) == 2000
    table.look_up(keys(*range(500)))
    put(table, 2000)
    assert len(table) == 1800
    assert present(table, range(500)) == set(range(500))
    assert present(table, range(1000, 2001)) == set(range(1000, 2001))


def test_functions_that_are_not_in_the_run_go_first_and_as_a_whole() -> None:
    foreign = {"oldest": 5 * ENTRY, "older": 4 * ENTRY, "newest": 6 * ENTRY}
    room = CacheRoom(ManualClock(), max_bytes=20 * ENTRY)
    room.share_with(foreign)
    table = room.table("f", INT)
    put(table, *range(5))
    assert (room.dropped, room.bytes) == ((), 20 * ENTRY)
    put(table, 5)
    assert (room.dropped, len(table)) == (("oldest",), 6)
    put(table, *range(6, 14))
    assert (room.dropped, len(table)) == (("oldest", "older"), 14)
    put(table, *range(100, 130))
    assert room.dropped == ("oldest", "older", "newest")
    assert room.bytes == table.bytes == 18 * ENTRY


def test_a_limit_that_was_lowered_holds_from_the_next_capture_on() -> None:
    room = CacheRoom(ManualClock())
    put(room.table("f", INT), *range(100))
    increment = room.table("f", INT).capture()
    assert increment is not None
    smaller = CacheRoom(ManualClock(), max_bytes=50 * ENTRY)
    smaller.share_with({"g": 1})
    table = smaller.table("f", INT)
    table.load(increment.rows)
    assert table.capture() is not None
    assert (len(table), smaller.dropped) == (45, ("g",))


def test_what_never_fits_drives_nothing_out() -> None:
    room = CacheRoom(ManualClock(), max_bytes=1000)
    table = room.table("f", pl.String())
    table.put(keys(1), pl.Series(["a"]))
    table.put(keys(2, 3), pl.Series(["b" * 1000, "c"]))
    assert table.look_up(keys(1, 2, 3))[1].to_list() == ["a", "c"]


def test_the_smallest_limit_counts() -> None:
    clock = ManualClock()
    room = CacheRoom.of([DiskCache("a"), DiskCache("a", size_limit=3 * ENTRY), DefaultCache("a")], clock)
    put(room.table("f", INT), 1, 2, 3, 4)
    assert len(room.table("f", INT)) == 2
    memory = CacheRoom.of([InMemoryCache(), InMemoryCache(max_size=2)], clock)
    put(memory.table("f", INT), *range(9))
    assert len(memory.table("f", INT)) == 2
    assert list(memory.tables) == ["f"]
    endless = CacheRoom.of([InMemoryCache()], clock)
    put(endless.table("f", INT), *range(9))
    assert len(endless.table("f", INT)) == 9


def test_memory_of_what_was_dropped_comes_back() -> None:
    room = CacheRoom(ManualClock(), max_bytes=1 << 21)
    table = room.table("f", pl.String())
    table.capture()
    for step in range(40):
        table.put(keys(*range(step * 20, step * 20 + 20)), pl.Series(["x" * 10_000] * 20))
        table.put(keys(0, 1), pl.Series(["y" * 10_000] * 2))
        assert table.look_up(keys(0, 1))[1].to_list() == ["y" * 10_000] * 2
        assert table.bytes <= 1 << 21
    rows, values = table.look_up(keys(*range(800)))
    assert len(rows) == len(table)
    assert all(value in ("x" * 10_000, "y" * 10_000) for value in values)
