"""Rows that do not wait for their answers, against a recomputation in plain Python."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from asyncpersist.cli.state_rows import key_of
from asyncpersist.columnar.arrangement import NotThere
from asyncpersist.columnar.delta import ID, Delta
from asyncpersist.dtypes import DType
from asyncpersist.operators.apply_later import ApplyLater
from asyncpersist.operators.await_futures import AwaitFutures
from asyncpersist.operators.calls import Call
from asyncpersist.operators.group_by import GroupBy
from asyncpersist.operators.reducers.reduction import Reduction
from asyncpersist.operators.remembered import ARGUMENTS
from tests.operators.oracle import Saved

COLUMNS = {"a": DType("int"), "x": DType("str", optional=True), "items": DType("list", args=(DType("float"),))}
CALL = Call("f", DType("str", optional=True), ("a", "items"), function=None)

Key = tuple[int, int]
Row = tuple[Any, ...]
PENDING = {"done": False, "value": None}


class Calls:
    """Answers when it is told to; `hits` at once."""

    def __init__(self) -> None:
        self.under_way: dict[Key, tuple[Any, ...]] = {}
        self.answers: list[tuple[Key, Any]] = []
        self.begun: list[tuple[Any, ...]] = []
        self.withdrawn: list[tuple[Any, ...]] = []
        self.hits: set[int] = set()

    def begin(self, keys: pl.DataFrame, arguments: pl.DataFrame) -> None:
        rows = arguments.rows() or [()] * arguments.height
        for key, row in zip(keys.select(ID, ARGUMENTS).rows(), rows, strict=True):
            assert key not in self.under_way
            if row[:1] and row[0] in self.hits:
                self.answers.append((key, f"hit {row}"))
                continue
            self.under_way[key] = row
            self.begun.append(row)

    def withdraw(self, keys: pl.DataFrame) -> None:
        for key in keys.select(ID, ARGUMENTS).rows():
            self.withdrawn.append(self.under_way.pop(key))

    def move(self, keys: pl.DataFrame, others: pl.DataFrame) -> None:
        for key, other in zip(keys.rows(), others.rows(), strict=True):
            if key in self.under_way:
                self.under_way[other] = self.under_way.pop(key)
            self.answers = [(other if known == key else known, value) for known, value in self.answers]

    def answer(self, key: Key, value: Any) -> None:
        del self.under_way[key]
        self.answers.append((key, value))

    def take(self) -> tuple[pl.DataFrame, pl.Series] | None:
        answers, self.answers = self.answers, []
        if not answers:
            return None
        keys, values = zip(*answers, strict=True)
        schema = {ID: pl.UInt128, ARGUMENTS: pl.UInt128}
        return pl.DataFrame(list(keys), schema=schema, orient="row"), pl.Series(values, dtype=pl.String)


def made(calls: Calls, **settings: Any) -> ApplyLater:
    options = {"carried": ["x"], "ids": True, "identified": True, "forgets": False, "hash_bits": 3, **settings}
    operator = ApplyLater(COLUMNS, call=CALL, **options)
    operator.bind(calls)
    return operator


def delta(rows: list[tuple[Row, int]]) -> Delta:
    """Of ((id, a, x, items), weight)."""
    schema = {ID: pl.UInt128()} | {name: dtype.polars for name, dtype in COLUMNS.items()}
    frame = pl.DataFrame([row for row, _ in rows], schema=schema, orient="row").select(*COLUMNS, ID)
    return Delta(frame, np.array([weight for _, weight in rows], np.int64) if rows else None)


class Net:
    """What an output holds; what is taken back must have been there."""

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()

    def take(self, output: Delta) -> Counter[str]:
        rows = [repr(row) for row in output.rows.rows()]
        if output.consolidated:
            assert len(set(rows)) == len(rows)
        change: Counter[str] = Counter()
        for row, weight in zip(rows, [1] * len(rows) if output.weights is None else output.weights, strict=True):
            assert weight
            change[row] += int(weight)
        for row, weight in change.items():
            self.rows[row] += weight
            assert self.rows[row] >= 0, f"taken back, but not there: {row}"
        self.rows = +self.rows
        return change


def held(*rows: Row) -> Counter[str]:
    """Of (x, value, id); an Ellipsis is pending."""
    return Counter(
        repr((x, PENDING if value is ... else {"done": True, "value": value}, key)) for x, value, key in rows
    )


Asked = tuple[Any, ...]
"""An id and arguments."""


def inherited(comes: list[Asked], gone: set[Asked]) -> dict[Asked, Asked]:
    """From whom keys inherit: from themselves, or in the order of ids from those with equal arguments."""
    found = {key: key for key in comes if key in gone}
    left = sorted(gone - found.keys())
    for key in sorted(set(comes) - found.keys()):
        if (other := next((other for other in left if other[1:] == key[1:]), None)) is not None:
            left.remove(other)
            found[key] = other
    return found


class Oracle:
    """The rows that are there, and what each id and arguments were answered with.

    In an epoch: what was answered and `gone`, what of that others have, and what is `leaving` while it is called for.
    """

    def __init__(self) -> None:
        self.rows: Counter[Row] = Counter()
        self.answers: dict[Asked, Any] = {}
        self.end_epoch()

    def end_epoch(self) -> None:
        self.gone: dict[Asked, Any] = {}
        self.used: set[Asked] = set()
        self.leaving: set[Asked] = set()

    @staticmethod
    def key(row: Row) -> Asked:
        return (row[0], row[1], row[3])

    def change(self, rows: list[tuple[Row, int]], answered: set[Asked]) -> None:
        """Rows come and go; `answered` are keys that were so before what is among the answers by now."""
        before, weights = Counter[Asked](), Counter[Asked]()
        for row, weight in self.rows.items():
            before[self.key(row)] += weight
        for row, weight in rows:
            self.rows[row] += weight
            weights[self.key(row)] += weight
        self.rows = +self.rows
        new = [key for key in weights if before[key] == 0 and weights[key] > 0]
        leave = {key for key in weights if before[key] > 0 and before[key] + weights[key] == 0}
        self.gone = {key: value for key, value in self.gone.items() if not before[key]}
        self.gone |= {key: self.answers[key] for key in leave & answered}
        for key, other in inherited(new, self.gone.keys() - self.used).items():
            self.answers[key] = self.gone[other]
            self.used.add(other)
            new.remove(key)
        self.leaving |= leave - answered
        for key, other in inherited(new, self.leaving).items():
            self.leaving.remove(other)
            if other in self.answers:
                self.answers[key] = self.answers[other]
        for key in self.leaving & self.answers.keys():
            self.leaving.remove(key)
            self.gone[key] = self.answers[key]
        keys = set(map(self.key, self.rows))
        self.answers = {key: answer for key, answer in self.answers.items() if key in keys}

    def output(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for row, weight in self.rows.items():
            value = self.answers.get(self.key(row), ...)
            found += Counter({next(iter(held((row[2], value, row[0])))): weight})
        return found

    def groups(self) -> Counter[str]:
        """By x, of the rows that are answered: how many there are, and the last answer in the order of texts."""
        values: dict[Any, list[Any]] = {}
        for row in self.rows.elements():
            if self.key(row) in self.answers:
                values.setdefault(row[2], []).append(self.answers[self.key(row)])
        return Counter(
            repr((x, len(of), max((value for value in of if value is not None), default=None)))
            for x, of in values.items()
        )


KEYS = st.integers(0, 3)
ROWS = st.tuples(KEYS, st.integers(0, 2), st.sampled_from([None, "", "ü"]), st.sampled_from([(), (0.5,), (-0.0, 1.0)]))


class World:
    """An operator with what stands around it, and the oracle."""

    def __init__(self, data: st.DataObject) -> None:
        self.draw = data.draw
        self.oracle, self.saved = Oracle(), Saved()
        self.awaits = AwaitFutures({"x": COLUMNS["x"], "f": CALL.dtype.as_future()}, ids=True)
        reductions = [Reduction("n", "count", None, None), Reduction("m", "max", "f", CALL.dtype)]
        self.grouping = GroupBy({"x": COLUMNS["x"]}, reductions)
        self.net, self.awaited, self.groups = Net(), Net(), Net()
        self.number = 0
        self.start()

    def start(self) -> None:
        self.calls = Calls()
        self.calls.hits = {2}
        self.operator = made(self.calls)
        self.saved.restore(self.operator)
        self.operator.resume()

    def epoch(self) -> None:
        for _ in range(self.draw(st.integers(1, 3))):
            self.step()
            self.check()
        if self.operator.unsettled:
            self.operator.end_epoch()
        self.oracle.end_epoch()
        self.check()

    def step(self) -> None:
        answered = set(self.oracle.answers)
        rows = self.some_rows()
        self.answer_some()
        event(f"answers race rows: {bool(rows) and bool(self.calls.answers)}")
        self.oracle.change(rows, answered)
        for row in self.oracle.rows:
            if row[1] in self.calls.hits and self.oracle.key(row) not in self.oracle.answers:
                self.oracle.answers[self.oracle.key(row)] = f"hit {(row[1], [value + 0.0 for value in row[3]])}"
        output = self.operator.step([delta(rows)])
        self.net.take(output)
        awaited = self.awaits.step([output])
        self.awaited.take(awaited)
        self.groups.take(self.grouping.step([awaited]))

    def some_rows(self) -> list[tuple[Row, int]]:
        rows: list[tuple[Row, int]] = []
        here = self.oracle.rows.copy()
        for _ in range(self.draw(st.integers(0, 5))):
            there = sorted(here.elements(), key=repr)
            if there and self.draw(st.booleans()):
                row = self.draw(st.sampled_from(there))
                weight = -self.draw(st.integers(1, here[row]))
                if self.draw(st.booleans()):  # another row with the same arguments instead
                    key = self.draw(st.sampled_from([row[0], row[0], 7]))
                    other = (key, row[1], self.draw(st.sampled_from([None, "", "ü"])), row[3])
                    rows.append((other, -weight))
                    here[other] -= weight
            else:
                row, weight = self.draw(ROWS), self.draw(st.integers(1, 2))
            rows.append((row, weight))
            here[row] += weight
            here = +here
        return self.draw(st.permutations(rows))

    def answer_some(self) -> None:
        for key in sorted(self.calls.under_way):
            if self.draw(st.booleans()):
                self.number += 1
                a, items = self.calls.under_way[key]
                value = None if self.number % 5 == 0 else f"answer {self.number}"
                self.oracle.answers[(key[0], a, tuple(items))] = value
                self.calls.answer(key, value)

    def check(self) -> None:
        oracle = self.oracle
        assert self.net.rows == oracle.output()
        assert self.awaited.rows == Counter(
            {
                row.replace("{'done': True, 'value': ", "").replace("}", ""): n
                for row, n in self.net.rows.items()
                if "'done': True" in row
            }
        )
        assert self.groups.rows == oracle.groups()
        waiting = ({oracle.key(row) for row in oracle.rows} - oracle.answers.keys()) | oracle.leaving
        assert {(key[0], a, tuple(items)) for key, (a, items) in self.calls.under_way.items()} == waiting

    def check_again(self) -> None:
        present = list(self.oracle.rows.items())
        assert Net().take(self.operator.again([delta(present)])) == self.oracle.output()


@settings(max_examples=20)
@given(data=st.data())
def test_it_says_what_a_recomputation_says(data: st.DataObject) -> None:
    """Rows of any weight come and go; answers race them; now and then a restart from what was captured."""
    world = World(data)
    for _ in range(data.draw(st.integers(1, 6))):
        world.epoch()
        if data.draw(st.booleans()):
            world.saved.capture(world.operator)
            if data.draw(st.booleans()):
                world.start()
                world.check()
                world.check_again()


def test_a_row_comes_out_at_once_and_is_updated() -> None:
    calls, net = Calls(), Net()
    operator = made(calls)
    row: Row = (1, 7, "x", (1.0,))
    net.take(operator.step([delta([(row, 2)])]))
    assert net.rows == held(("x", ..., 1), ("x", ..., 1))
    (key,) = calls.under_way
    assert operator.step([delta([])]).is_empty()
    calls.answer(key, "seven")
    output = operator.step([delta([])])
    assert output.consolidated
    assert output.weights is not None
    assert output.weights.tolist() == [-2, 2]
    net.take(output)
    assert net.rows == held(("x", "seven", 1), ("x", "seven", 1))
    net.take(operator.step([delta([(row, -2)])]))
    assert not net.rows
    assert calls.begun == [(7, [1.0])]


def test_another_column_of_a_row_that_waits() -> None:
    calls, net = Calls(), Net()
    operator = made(calls)
    net.take(operator.step([delta([((1, 7, "x", ()), 1)])]))
    net.take(operator.step([delta([((1, 7, "x", ()), -1), ((1, 7, "y", ()), 1)])]))
    assert net.rows == held(("y", ..., 1))
    assert (calls.begun, calls.withdrawn) == ([(7, [])], [])
    calls.answer(next(iter(calls.under_way)), None)
    net.take(operator.step([delta([])]))
    assert net.rows == held(("y", None, 1))


def test_a_call_that_no_row_waits_for_is_withdrawn() -> None:
    calls = Calls()
    operator = made(calls)
    operator.step([delta([((1, 7, "x", ()), 1), ((1, 7, "y", ()), 1), ((2, 7, "x", ()), 1)])])
    assert len(calls.begun) == 2
    operator.step([delta([((1, 7, "x", ()), -1)])])
    assert not operator.unsettled
    operator.step([delta([((1, 7, "y", ()), -1), ((1, 8, "y", ()), 1)])])
    assert not calls.withdrawn
    assert operator.unsettled
    operator.end_epoch()
    assert calls.withdrawn == [(7, [])]
    assert sorted(calls.under_way.values()) == [(7, []), (8, [])]


def test_answers_come_out_in_the_order_of_rows() -> None:
    def run(order: list[int]) -> list[Row]:
        calls = Calls()
        operator = made(calls)
        operator.step([delta([((n, n, "x", ()), 1) for n in range(20)])])
        keys = sorted(calls.under_way)
        for n in order:
            calls.answer(keys[n], str(n))
        return operator.step([delta([])]).rows.rows()

    assert run(list(range(20))) == run(list(reversed(range(20))))
    assert [row[2] for row in run(list(range(20)))] == [*range(20), *range(20)]


def test_a_row_that_takes_the_place_of_another_one_has_what_that_had() -> None:
    calls, net = Calls(), Net()
    operator = made(calls)
    net.take(operator.step([delta([((1, 7, "x", ()), 1), ((2, 8, "x", ()), 1)])]))
    calls.answer(next(key for key, (a, _) in calls.under_way.items() if a == 7), "seven")
    net.take(operator.step([delta([])]))
    net.take(operator.step([delta([((1, 7, "x", ()), -1), ((2, 8, "x", ()), -1), ((3, 8, "x", ()), 1)])]))
    net.take(operator.step([delta([((2, 7, "x", ()), 1)])]))
    operator.end_epoch()
    assert net.rows == held(("x", "seven", 2), ("x", ..., 3))
    calls.answer(next(iter(calls.under_way)), "eight")
    net.take(operator.step([delta([])]))
    assert net.rows == held(("x", "seven", 2), ("x", "eight", 3))
    assert (len(calls.begun), calls.withdrawn) == (2, [])


def test_what_is_taken_back_must_have_been_there() -> None:
    operator = made(Calls())
    operator.step([delta([((1, 7, "x", ()), 1)])])
    for row in ((1, 7, "y", ()), (1, 8, "x", ()), (2, 7, "x", ())):
        with pytest.raises(NotThere):
            operator.step([delta([(row, -1)])])


def test_what_comes_and_goes_at_once_is_not_called_for() -> None:
    calls, net = Calls(), Net()
    operator = made(calls)
    assert not +net.take(operator.step([delta([((1, 7, "x", ()), 1), ((1, 7, "x", ()), -1)])]))
    assert not calls.begun


def test_without_retractions_only_what_waits_is_kept() -> None:
    calls, net = Calls(), Net()
    operator = made(calls, forgets=True)
    assert list(operator.states()) == ["waiting"]
    net.take(operator.step([delta([((1, 7, "x", ()), 1), ((2, 2, None, ()), 1)])]))
    calls.answer(min(calls.under_way), "seven")
    net.take(operator.step([delta([((3, 7, "x", ()), 1)])]))
    assert net.rows == held(("x", "seven", 1), (None, ..., 2), ("x", ..., 3))
    saved = Saved()
    saved.capture(operator)
    assert {name: parts[-1].height for name, parts in saved.increments.items()} == {"waiting": 2}


def test_rows_without_ids_are_told_apart_by_counting() -> None:
    calls, net = Calls(), Net()
    operator = made(calls, identified=False)

    def change(*rows: tuple[Row, int]) -> Delta:
        plain = delta(list(rows))
        return Delta(plain.rows.drop(ID), plain.weights)

    net.take(operator.step([change(((0, 7, "x", ()), 1), ((0, 7, "x", ()), 1), ((0, 7, "y", ()), 1))]))
    assert len(calls.under_way) == 3
    for number, key in enumerate(sorted(calls.under_way)):
        calls.answer(key, str(number))
    net.take(operator.step([change()]))
    assert sorted(net.rows.values()) == [1, 1, 1]
    net.take(operator.step([change(((0, 7, "x", ()), -2))]))
    assert len(net.rows) == 1
    assert next(iter(net.rows)).startswith("('y'")


def test_the_keys_of_states_can_be_told_from_their_columns() -> None:
    calls = Calls()
    calls.hits = {2}
    operator = made(calls, identified=False)
    plain = delta([((0, 7, "x", (1.0,)), 1), ((0, 2, "x", (1.0,)), 1)])
    operator.step([Delta(plain.rows.drop(ID), plain.weights)])
    assert list(operator.states()) == ["waiting", "answers", "copies"]
    for name, state in operator.states().items():
        captured = state.capture()
        assert captured is not None
        assert key_of(name, captured.rows.columns) == state.key


def test_a_function_of_nothing() -> None:
    calls, net = Calls(), Net()
    operator = ApplyLater(
        COLUMNS, ["x"], Call("f", DType("int"), (), function=None), ids=True, identified=True, forgets=False
    )
    operator.bind(calls)
    net.take(operator.step([delta([((1, 7, "x", ()), 1), ((2, 7, "x", ()), 1)])]))
    assert len(calls.begun) == 2
