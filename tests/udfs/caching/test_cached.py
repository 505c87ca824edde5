"""A function is called once for equal arguments, whoever asks, and what it answered is never lost."""

from __future__ import annotations

import datetime
import math
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import polars as pl
import pytest

from asyncpersist.columnar.python_values import values_of
from asyncpersist.dtypes import Json, Pointer
from asyncpersist.errors import FunctionFailed
from asyncpersist.testing.clocks import ManualClock
from asyncpersist.udfs import DiskCache, InMemoryCache
from asyncpersist.udfs.caching.cached import CachedCaller, CallCounts
from asyncpersist.udfs.caching.entries import VALUE
from asyncpersist.udfs.caching.keys import Keys
from asyncpersist.udfs.caching.room import CacheRoom
from asyncpersist.udfs.caching.table import CacheTable
from asyncpersist.udfs.calling.runner import CallsCancelled
from asyncpersist.udfs.function import Function
from tests.udfs.caching.runners import HandRunner, RowRunner, frame_of, function_of


def table_of(function: Function, clock: ManualClock | None = None, **limits: int) -> CacheTable:
    return CacheRoom(clock or ManualClock(), **limits).table(function.digest, function.result.polars)


def double(value: int) -> int:
    return 2 * value


def no_seven(value: int) -> int:
    if value == 7:
        raise ValueError("seven")
    return 2 * value


DOUBLE = function_of(double)
NO_SEVEN = function_of(no_seven)


def ints(*values: int) -> pl.DataFrame:
    return frame_of(DOUBLE, values)


NAN = float("nan")
MOMENT = datetime.datetime(2024, 5, 6, 7, 8, 9, 10)
VALUES: list[tuple[Any, list[Any]]] = [
    (int, [0, -1, (1 << 63) - 1]),
    (float, [0.0, -0.0, NAN, -NAN, math.inf, 1.5]),
    (bool, [True, False]),
    (str, ["", "a", "é", "a\0b"]),
    (bytes, [b"", b"\0", b"a"]),
    (datetime.datetime, [MOMENT, MOMENT + datetime.timedelta(microseconds=1)]),
    (datetime.timedelta, [datetime.timedelta(), datetime.timedelta(-1)]),
    (list[int | None], [[], [0], [None], [0, 0], [0, None]]),
    (tuple[int, str], [(1, "a"), (1, ""), (0, "a")]),
    (Json, [{}, [], 0, "", {"a": [None, 1.5]}, {"a": None}]),
    (Pointer, [Pointer(0), Pointer(1), Pointer((1 << 128) - 1), Pointer(1 << 64)]),
]


@pytest.mark.parametrize(("annotation", "some"), VALUES, ids=[str(pair[0]) for pair in VALUES])
@pytest.mark.parametrize("kept", [True, False], ids=["kept", "unkept"])
def test_rows_get_what_the_function_returns_for_them(annotation: Any, some: list[Any], kept: bool) -> None:
    """Whatever arguments and results are, in any order of answers, with equal rows, and None among both."""
    rng = random.Random(str(annotation))
    takes = (annotation | None, bool | None)
    function = function_of(lambda value, swap: None if swap else value, takes, annotation | None)
    table = table_of(function) if kept else None
    runner = RowRunner(function, seed=1)
    caller = CachedCaller(function, runner, table)
    seen: list[tuple[Any, ...]] = []
    rows = 0
    for _ in range(4):
        pairs = [(rng.choice([None, *some]), rng.choice([None, True, False])) for _ in range(12)]
        arguments = frame_of(function, *zip(*pairs, strict=True))
        answers = caller.begin(arguments)()
        assert answers.dtype == function.result.polars
        results = values_of(answers, function.result)
        for (value, swap), result in zip(pairs, results, strict=True):
            assert equal(result, None if swap else value)
        rows += len(pairs)
        if not kept:
            seen = []
        for pair in pairs:
            if not any(equal(pair, other) for other in seen):
                seen.append(pair)
        if kept:
            assert len(runner.called) == len(seen)
    assert caller.counts == CallCounts(len(runner.called), rows - len(runner.called))


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    both_nan = isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b)
    return both_nan or (type(a) is type(b) and bool(a == b))


def test_only_what_is_deterministic_or_kept_shares_calls() -> None:
    arguments = ints(3, 1, 3, 3)
    for deterministic, table, calls in ((True, False, 2), (False, False, 4), (False, True, 2)):
        function = function_of(double, deterministic=deterministic)
        runner = RowRunner(function)
        caller = CachedCaller(function, runner, table_of(function) if table else None)
        assert caller.begin(arguments)().to_list() == [6, 2, 6, 6]
        assert caller.counts == CallCounts(calls, 4 - calls)
        assert len(runner.called) == calls
        caller.begin(arguments)()
        assert len(runner.called) == calls if table else 2 * calls


@pytest.mark.parametrize("kept", [True, False])
def test_none_goes_through_where_it_is_said_to(kept: bool) -> None:
    function = function_of(lambda a, b: a + b, (int | None, int | None), propagate_none=True)
    runner = RowRunner(function)
    caller = CachedCaller(function, runner, table_of(function) if kept else None)
    assert caller.begin(frame_of(function, [1, None, 3, 1], [None, None, 4, 2]))().to_list() == [None, None, 7, 3]
    assert caller.begin(frame_of(function, [None, 2], [1, None]))().to_list() == [None, None]
    assert caller.begin(frame_of(function, [5], [5]))().to_list() == [10]
    assert runner.called == [(3, 4), (1, 2), (5, 5)]
    assert caller.counts == CallCounts(3)
    assert caller.begin(frame_of(function, [None], [1]))().dtype == pl.Int64


def test_what_was_answered_before_a_failure_is_kept_and_the_failure_is_not() -> None:
    table = table_of(NO_SEVEN)
    runner = RowRunner(NO_SEVEN)
    caller = CachedCaller(NO_SEVEN, runner, table)
    with pytest.raises(FunctionFailed) as caught:
        caller.begin(ints(1, 2, 3, 4, 7, 8, 1))()
    assert isinstance(caught.value.__cause__, ValueError)
    assert caller.counts == CallCounts(5, 0, 1)
    assert len(table) == 4
    with pytest.raises(FunctionFailed):
        caller.begin(ints(4, 7))()
    assert caller.begin(ints(1, 2, 3, 4, 8))().to_list() == [2, 4, 6, 8, 16]
    assert [value for (value,) in runner.called] == [1, 2, 3, 4, 7, 7, 8]
    assert caller.counts == CallCounts(7, 1 + 4, 2)


def test_a_runner_that_cannot_begin() -> None:
    class Refusing(HandRunner):
        def begin(self, arguments: pl.DataFrame, answered: Any) -> Any:
            raise FunctionFailed("no")

    for table in (table_of(DOUBLE), None):
        caller = CachedCaller(DOUBLE, Refusing(), table)
        with pytest.raises(FunctionFailed, match="no"):
            caller.begin(ints(1, 2))
        assert caller.counts == CallCounts(1, 0, 1)
        assert CachedCaller(DOUBLE, RowRunner(DOUBLE), table).begin(ints(1, 2))().to_list() == [2, 4]


def test_one_failure_that_ends_several_batches_is_one() -> None:
    runner = HandRunner()
    caller = CachedCaller(DOUBLE, runner, table_of(DOUBLE))
    begun = [caller.begin(ints(value)) for value in range(3)]
    failure = FunctionFailed("0")
    for held in runner.held:
        held.end(failure)
    for answers in begun:
        with pytest.raises(FunctionFailed):
            answers()
    assert caller.counts == CallCounts(1, 0, 1)


def test_a_runner_that_leaves_out_answers_is_found_out() -> None:
    runner = HandRunner()
    answers = CachedCaller(DOUBLE, runner, table_of(DOUBLE)).begin(ints(1, 2))
    runner.held[0].answer([0], [2])
    runner.held[0].end()
    with pytest.raises(RuntimeError, match="1 answers to 2 calls"):
        answers()


def test_cancelled_calls_are_not_counted() -> None:
    runner = HandRunner()
    caller = CachedCaller(DOUBLE, runner, table_of(DOUBLE))
    answers = caller.begin(ints(1, 2))
    runner.held[0].answer([1], [4])
    runner.held[0].end(CallsCancelled())
    with pytest.raises(CallsCancelled):
        answers()
    assert caller.counts == CallCounts(1)
    assert caller.begin(ints(2))().to_list() == [4]


def test_what_is_answered_is_captured_while_other_calls_go_on() -> None:
    table = table_of(DOUBLE)
    runner = HandRunner()
    caller = CachedCaller(DOUBLE, runner, table)
    answers = caller.begin(ints(*range(1000)))
    for position in range(999, 299, -1):
        runner.held[0].answer([position], [2 * position])
    increment = table.capture()
    assert increment is not None
    assert sorted(increment.rows[VALUE]) == [2 * position for position in range(300, 1000)]
    assert caller.counts == CallCounts(700)
    assert table.capture() is None
    runner.held[0].answer(range(300), [2 * position for position in range(300)])
    runner.held[0].end()
    assert answers().to_list() == [2 * position for position in range(1000)]
    increment = table.capture()
    assert increment is not None
    assert increment.rows.height == 300
    assert caller.counts == CallCounts(1000)


def test_a_room_smaller_than_a_batch() -> None:
    function = function_of(double, cache=InMemoryCache(max_size=2))
    table = table_of(function, max_entries=2)
    runner = RowRunner(function)
    caller = CachedCaller(function, runner, table)
    for _ in range(2):
        assert caller.begin(ints(*range(10), 3))().to_list() == [*range(0, 20, 2), 6]
    assert len(table) == 2
    assert caller.counts == CallCounts(18, 4)


def test_results_count_for_the_time_their_cache_says() -> None:
    clock = ManualClock()
    function = function_of(double, cache=DiskCache(ttl=datetime.timedelta(seconds=10)))
    table = table_of(function, clock)
    runner = HandRunner()
    caller = CachedCaller(function, runner, table)
    late = caller.begin(ints(1, 2, 3))
    runner.held[0].answer([0], [2])
    clock.advance(9)
    runner.held[0].answer([1], [4])
    assert caller.begin(ints(1, 2))().to_list() == [2, 4]
    clock.advance(1)
    # The answer to 1 counts no more, although the calls it was among go on.
    again = caller.begin(ints(1, 2))
    assert runner.held[1].arguments["a0"].to_list() == [1]
    once_more = caller.begin(ints(2, 1))
    assert len(runner.held) == 2
    runner.held[1].answer([0], [20])
    runner.held[1].end()
    assert once_more().to_list() == [4, 20]
    assert again().to_list() == [20, 4]
    runner.held[0].answer([2], [6])
    runner.held[0].end()
    assert late().to_list() == [2, 4, 6]


def test_equal_arguments_of_one_thread_before_either_has_waited() -> None:
    """The calls of the first go on only while somebody waits: whoever waits first does it for both."""
    table = table_of(DOUBLE)
    runners = [RowRunner(DOUBLE), RowRunner(DOUBLE)]
    first, second = (CachedCaller(DOUBLE, runner, table) for runner in runners)
    one = first.begin(ints(1, 2, 3))
    other = second.begin(ints(4, 3, 1, 4))
    same = second.begin(ints(3, 3))
    assert same().to_list() == [6, 6]
    assert other().to_list() == [8, 6, 2, 8]
    assert one().to_list() == [2, 4, 6]
    assert [runner.called for runner in runners] == [[(1,), (2,), (3,)], [(4,)]]
    assert (first.counts, second.counts) == (CallCounts(3), CallCounts(1, 5))


def test_two_threads_over_the_same_arguments_call_once() -> None:
    table = table_of(DOUBLE)
    meet = threading.Barrier(4)
    runners = [RowRunner(DOUBLE, seed=seed) for seed in range(4)]
    callers = [CachedCaller(DOUBLE, runner, table) for runner in runners]
    rng = random.Random(5)
    batches = [[[rng.randrange(60 * (step + 1)) for _ in range(80)] for step in range(6)] for _ in callers]

    def work(caller: CachedCaller, batches: list[list[int]]) -> list[list[int]]:
        results = []
        for batch in batches:
            meet.wait(30)
            results.append(caller.begin(ints(*batch))().to_list())
        return results

    with ThreadPoolExecutor(4) as threads:
        for given, results in zip(batches, threads.map(work, callers, batches), strict=True):
            assert results == [[2 * value for value in batch] for batch in given]
    called = [value for runner in runners for (value,) in runner.called]
    assert sorted(called) == sorted({value for some in batches for batch in some for value in batch})
    assert sum(caller.counts.calls for caller in callers) == len(called)
    assert sum(caller.counts.hits for caller in callers) == 4 * 6 * 80 - len(called)


def test_a_thread_waits_for_what_another_one_calls_and_no_longer() -> None:
    table = table_of(DOUBLE)
    runner = HandRunner()
    first = CachedCaller(DOUBLE, runner, table)
    second = CachedCaller(DOUBLE, RowRunner(DOUBLE), table)
    with ThreadPoolExecutor(2) as threads:
        one = threads.submit(first.begin(ints(1, 2)))
        assert runner.held[0].waited.wait(30)
        other = threads.submit(second.begin(ints(2, 5)))
        runner.held[0].answer([1], [4])
        assert other.result(30).to_list() == [4, 10]
        assert not one.done()
        runner.held[0].answer([0], [2])
        runner.held[0].end()
        assert one.result(30).to_list() == [2, 4]
    assert second.counts == CallCounts(1, 1)


def test_calls_that_go_on_by_themselves() -> None:
    """As of an executor that no epoch waits for: nobody is there to wait for them, and they are told of by hand."""
    table = table_of(DOUBLE)
    asked = table.ask(Keys.of(ints(1, 2, 3)))
    flight = asked.flight
    assert flight is not None
    news: list[int] = []
    flight.listen(lambda: news.append(flight.answered_count))
    caller = CachedCaller(DOUBLE, RowRunner(DOUBLE), table)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(caller.begin(ints(3, 1)))
        flight.answered(np.array([2, 0]), pl.Series([6, 2]))
        assert waiting.result(30).to_list() == [6, 2]
    assert caller.counts == CallCounts(0, 2)
    flight.end(FunctionFailed("2"))
    flight.end()
    assert isinstance(flight.failure, FunctionFailed)
    assert news == [2, 2]
    flight.listen(lambda: news.append(-1))
    assert news == [2, 2, -1]
    assert caller.begin(ints(1, 2, 3))().to_list() == [2, 4, 6]
    assert caller.counts == CallCounts(1, 4)


def test_what_fails_elsewhere_is_called_here() -> None:
    table = table_of(DOUBLE)
    runner = HandRunner()
    first = CachedCaller(DOUBLE, runner, table)
    callers = [CachedCaller(DOUBLE, RowRunner(DOUBLE), table) for _ in range(2)]
    one = first.begin(ints(1, 2, 3))
    others = [caller.begin(ints(9 + number, 3, 2, 1, 3)) for number, caller in enumerate(callers)]
    runner.held[0].answer([1], [4])
    runner.held[0].end(FunctionFailed("first"))
    assert [other().to_list() for other in others] == [[18, 6, 4, 2, 6], [20, 6, 4, 2, 6]]
    with pytest.raises(FunctionFailed, match="first"):
        one()
    assert first.counts == CallCounts(2, 0, 1)
    assert [caller.counts for caller in callers] == [CallCounts(3, 2), CallCounts(1, 4)]


def test_what_fails_elsewhere_and_here() -> None:
    table = table_of(NO_SEVEN)
    first, second = (CachedCaller(NO_SEVEN, RowRunner(NO_SEVEN), table) for _ in range(2))
    one = first.begin(ints(7, 1))
    other = second.begin(ints(7, 2))
    for answers in (other, one):
        with pytest.raises(FunctionFailed):
            answers()
    assert (first.counts, second.counts) == (CallCounts(1, 0, 1), CallCounts(2, 0, 1))


class Writer:
    """Writes what a table has to be written, and can be made to fail."""

    def __init__(self, table: CacheTable) -> None:
        self.written: list[int] = []
        self.fails = False
        self._table = table

    def __call__(self) -> None:
        if self.fails:
            raise OSError("no room")
        increment = self._table.capture()
        self.written.append(0 if increment is None else increment.rows.filter(pl.col("__weight") > 0).height)


def durable(call: Callable[..., Any] = double) -> tuple[CachedCaller, CacheTable, Writer]:
    function = function_of(call, cache=DiskCache(durable="each"))
    table = table_of(function)
    writer = Writer(table)
    return CachedCaller(function, RowRunner(function), table, write=writer), table, writer


def test_answers_are_written_before_they_are_given_out() -> None:
    caller, _, writer = durable()
    answers = caller.begin(ints(1, 2, 2))
    assert writer.written == []
    assert answers().to_list() == [2, 4, 4]
    assert writer.written == [2]
    caller.begin(ints(1, 2))()
    assert writer.written == [2]
    caller.begin(ints(2, 3))()
    assert len(writer.written) == 2


def test_answers_that_cannot_be_written_are_not_given_out() -> None:
    caller, _, writer = durable()
    writer.fails = True
    answers = caller.begin(ints(1, 2))
    with pytest.raises(OSError, match="no room"):
        answers()
    found = caller.begin(ints(1))
    with pytest.raises(OSError, match="no room"):
        found()
    writer.fails = False
    assert caller.begin(ints(1))().to_list() == [2]
    assert writer.written == [2]


def test_what_was_answered_beside_a_failure_is_written() -> None:
    caller, table, writer = durable(no_seven)
    with pytest.raises(FunctionFailed):
        caller.begin(ints(1, 2, 7))()
    assert writer.written == [2]
    writer.fails = True
    with pytest.raises(FunctionFailed):
        caller.begin(ints(3, 7))()
    assert len(table) == 3


def test_answers_of_others_are_written_before_they_are_given_out() -> None:
    caller, table, writer = durable()
    other = CachedCaller(DOUBLE, RowRunner(DOUBLE), table)
    begun = other.begin(ints(1))
    shared = caller.begin(ints(1))
    assert shared().to_list() == begun().to_list() == [2]
    assert writer.written == [1]
    other.begin(ints(2))()
    assert writer.written == [1]
    assert caller.begin(ints(2))().to_list() == [4]
    assert len(writer.written) == 2


@pytest.mark.parametrize("group", [1, 1000])
def test_many_rows(group: int) -> None:
    function = function_of(str, (int,), str)
    table = table_of(function)
    runner = RowRunner(function, group=group, seed=3)
    caller = CachedCaller(function, runner, table)
    values = np.random.default_rng(3).integers(0, 1000, 2000)
    arguments = pl.DataFrame({"a": values})
    expected = arguments["a"].cast(pl.String).to_list()
    assert caller.begin(arguments)().to_list() == expected
    assert caller.begin(arguments)().to_list() == expected
    assert caller.counts.calls == len(runner.called) == len(set(values.tolist())) == len(table)
