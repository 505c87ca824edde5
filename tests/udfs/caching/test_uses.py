"""What was used last is known to later runs, and a run that only finds results writes next to nothing."""

from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncpersist.columnar import codec
from asyncpersist.columnar.delta import WEIGHT
from asyncpersist.columnar.state import Increment, State
from asyncpersist.testing.clocks import ManualClock
from asyncpersist.udfs.caching.entries import KEY
from asyncpersist.udfs.caching.keys import Keys
from asyncpersist.udfs.caching.room import CacheRoom
from asyncpersist.udfs.caching.table import CacheTable
from asyncpersist.udfs.caching.uses import displaced

INT = pl.Int64()


def keys(values: range) -> Keys:
    return Keys.of(pl.DataFrame({"a": np.array(values)}))


def put(table: CacheTable, values: range) -> None:
    table.put(keys(values), pl.Series(np.array(values)))


class Stored:
    """A state as its files have it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.rows: list[int] = []

    def take(self, state: State) -> int:
        """Captures; how many rows had to be written."""
        increment = state.capture()
        if increment is None:
            return 0
        if increment.complete:
            self._parts = []
        self._parts.append(codec.encode(increment.rows, key=state.key))
        return increment.rows.height

    def read(self) -> pl.DataFrame:
        if not self._parts:
            return pl.DataFrame()
        return codec.decode(codec.merge_state(self._parts, [KEY], drop_tombstones=True))


class Root:
    """A table over its runs."""

    def __init__(self, clock: ManualClock, limit: int) -> None:
        self.results, self.uses = Stored(), Stored()
        self._clock, self._limit = clock, limit
        self.open()

    def open(self) -> None:
        self.room = CacheRoom(self._clock, max_entries=self._limit)
        self.table = self.room.table("f", INT)
        self.table.load(self.results.read())
        self.table.uses.load(self.uses.read())

    def snapshot(self) -> tuple[int, int]:
        return self.results.take(self.table), self.uses.take(self.table.uses)

    def put(self, values: range) -> None:
        self._clock.advance(1)
        put(self.table, values)

    def use(self, values: range) -> None:
        self._clock.advance(1)
        self.table.look_up(keys(values))

    def there(self, values: range) -> bool:
        return len(self.table.look_up(keys(values))[0]) == len(values)


def test_what_an_earlier_run_used_last_stays() -> None:
    root = Root(ManualClock(), 100)
    root.put(range(100))
    root.snapshot()
    root.use(range(40))
    assert root.snapshot() == (0, 40)
    root.open()
    root.put(range(100, 150))
    assert root.there(range(40))
    assert root.there(range(100, 150))
    root.snapshot()
    root.open()
    assert len(root.table) == 100
    assert root.there(range(40))
    assert root.there(range(100, 150))


def test_when_a_table_was_used_last() -> None:
    clock = ManualClock(1000)
    root = Root(clock, 10)
    assert root.table.last_use == 0
    root.put(range(8))
    assert root.table.last_use == 1_001_000
    root.snapshot()
    root.use(range(2))
    root.use(range(20, 30))
    assert root.table.last_use == 1_002_000
    root.snapshot()
    clock.set_wall(5)
    root.open()
    assert root.table.last_use == 1_002_000
    root.use(range(1))
    assert root.table.last_use == 1_002_001


def test_one_use_of_a_small_cache_is_enough() -> None:
    root = Root(ManualClock(), 3)
    for value in range(3):
        root.put(range(value, value + 1))
    root.snapshot()
    root.use(range(0, 1))
    root.snapshot()
    root.open()
    root.put(range(3, 4))
    assert root.there(range(0, 1))
    assert root.there(range(2, 4))
    assert not root.there(range(1, 2))


def test_uses_in_turn_write_nothing() -> None:
    clock = ManualClock()
    root = Root(clock, 1000)
    for start in range(0, 900, 100):
        root.put(range(start, start + 100))
    root.snapshot()
    for _ in range(3):
        for start in range(0, 900, 100):
            clock.advance(0.5)
            root.use(range(start, start + 100))
        assert root.snapshot() == (0, 0)
    root.open()
    root.use(range(900))
    assert root.snapshot() == (0, 0)


def test_what_is_always_used_is_written_once() -> None:
    root = Root(ManualClock(), 1000)
    for start in range(0, 900, 100):
        root.put(range(start, start + 100))
    root.snapshot()
    written = []
    for _ in range(4):
        root.use(range(50))
        written.append(root.snapshot())
    assert written == [(0, 50), (0, 0), (0, 0), (0, 0)]


def test_while_there_is_much_room_uses_are_of_no_interest() -> None:
    root = Root(ManualClock(), 1000)
    root.put(range(100))
    root.use(range(50))
    assert root.snapshot() == (100, 0)
    root.put(range(100, 600))
    assert root.snapshot()[1] == 0
    root.use(range(10))
    assert root.snapshot()[1] == 10


def test_uses_of_what_was_dropped_are_taken_back() -> None:
    root = Root(ManualClock(), 100)
    root.put(range(100))
    root.use(range(60))
    root.snapshot()
    root.put(range(100, 180))
    assert root.snapshot()[1] == 40
    stored = set(root.uses.read()[KEY].to_list())
    assert stored <= set(root.results.read()[KEY].to_list())


def test_uses_without_a_result_are_taken_back() -> None:
    root = Root(ManualClock(), 10)
    root.put(range(10))
    root.use(range(5))
    root.snapshot()
    other = CacheRoom(ManualClock(), max_entries=10).table("f", INT)
    put(other, range(3))
    other.uses.load(root.uses.read())
    increment = other.uses.capture()
    assert increment is not None
    assert (increment.rows.height, increment.rows[WEIGHT].sum()) == (2, 0)
    assert other.uses.capture() is None


def test_uses_are_told_apart_over_all_functions_of_a_room() -> None:
    room = CacheRoom(ManualClock(), max_entries=100)
    old, new = room.table("f", INT), room.table("g", INT)
    put(old, range(50))
    put(new, range(50))
    captured: list[Increment | None] = [old.capture(), new.capture()]
    old.look_up(keys(range(50)))
    captured += [old.uses.capture(), new.uses.capture()]
    assert captured[3] is None
    again = CacheRoom(ManualClock(), max_entries=100)
    tables = [again.table(name, INT) for name in "fg"]
    for table, results, uses in zip(tables, captured[:2], captured[2:], strict=True):
        assert results is not None
        table.load(results.rows)
        if uses is not None:
            table.uses.load(uses.rows)
    put(tables[0], range(100, 130))
    assert (len(tables[0]), len(tables[1])) == (80, 20)


MOMENTS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=60)


@settings(max_examples=60)
@given(MOMENTS)
def test_no_entry_is_taken_for_much_older_than_it_is(moments: list[tuple[int, int]]) -> None:
    restored = np.array([created for created, _ in moments])
    used = restored + np.array([later for _, later in moments])
    written = displaced(restored, used, restored, used)
    believed = np.where(written, used, restored)
    for one in range(len(used)):
        place, taken_for = np.count_nonzero(used < used[one]), np.count_nonzero(believed < believed[one])
        assert used[one] == believed[one] or place - taken_for <= len(used) // 8
    assert not written[used == restored].any()


def test_places_among_many_are_told_from_some() -> None:
    root = Root(ManualClock(), 250_000)
    root.put(range(200_000))
    root.use(range(100_000))
    root.use(range(199_000, 200_000))
    assert root.snapshot() == (200_000, 101_000)
    assert root.snapshot() == (0, 0)
