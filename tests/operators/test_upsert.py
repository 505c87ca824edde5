"""Tables with a primary key against a recomputation, for random epochs, collisions and restarts."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asyncpersist.cli.state_rows import key_of
from asyncpersist.columnar import arrangement, slot_values
from asyncpersist.columnar.delta import ID, ORDER, Delta
from asyncpersist.columnar.hashing import id_of
from asyncpersist.dtypes import DType
from asyncpersist.operators.last_read import LastRead
from asyncpersist.operators.upsert import Upsert
from tests.examples import examples
from tests.operators.oracle import Accumulated, Row, Saved, plain

SCHEMA = {
    "v": DType("int", True),
    "k": DType("str", True),
    "x": DType("float", True),
    "f": DType("float", True),
    "l": DType("list", True, (DType("float", True),)),
    "p": DType("tuple", True, (DType("int", True), DType("str"))),
    "a": DType("array", True),
    "j": DType("json", True),
    "t": DType("utc_datetime", True),
    "y": DType("bytes", True),
    "b": DType("bool", True),
}
NOON = datetime.datetime(2024, 5, 6, 12, tzinfo=datetime.UTC)
NAN = float("nan")
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "v": st.sampled_from([None, 0, 1, 2, -(2**62)]),
    "k": st.sampled_from([None, "", "a", "a longer string than twelve bytes"]),
    "x": st.sampled_from([None, 0.0, -0.0, NAN, 1.5]),
    "f": st.sampled_from([None, 0.0, -0.0, NAN, 0.1]),
    "l": st.sampled_from([None, [], [1.0, None], [NAN], [0.0], [-0.0]]),
    "p": st.sampled_from([None, {"f0": 1, "f1": "a"}, {"f0": None, "f1": "b"}]),
    "a": st.sampled_from([None, {"data": [1.0, 2.0], "shape": [2]}, {"data": [1.0, 2.0], "shape": [1, 2]}]),
    "j": st.sampled_from([None, "null", '{"a":1}']),
    "t": st.sampled_from([None, NOON]),
    "y": st.sampled_from([None, b"", b"\xff"]),
    "b": st.sampled_from([None, True, False]),
}
KEYS = [["k"], ["x"], ["x", "k"], ["v", "b"], ["l"], ["p"], ["t", "y"], ["j"], list(SCHEMA)]
common = settings(examples(30), suppress_health_check=[HealthCheck.function_scoped_fixture])
bits, masks = st.sampled_from([3, 64]), st.integers(0, 255)
rows = st.fixed_dictionaries(VALUES)

Change = tuple[Row, int, int]
"""A row, its order, its weight."""


@pytest.fixture(autouse=True)
def eager_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compaction from the first dead slot on."""
    monkeypatch.setattr(arrangement, "_MIN_GARBAGE", 0)
    monkeypatch.setattr(slot_values, "_MIN_GARBAGE", 0)


def delta(changes: Sequence[Change], schema: Mapping[str, DType] = SCHEMA) -> Delta:
    columns = [pl.Series(name, [row[name] for row, _, _ in changes], dtype=t.polars) for name, t in schema.items()]
    frame = pl.DataFrame([*columns, pl.Series(ORDER, [order for _, order, _ in changes], dtype=pl.Int64)])
    weights = np.array([weight for _, _, weight in changes], np.int64)
    return Delta(frame, None if (weights == 1).all() else weights)


def values(row: Row) -> Any:
    return plain(tuple(row[name] for name in SCHEMA))


def at(row: Row, key: Sequence[str]) -> Any:
    return plain(tuple(row[name] for name in key))


def drive(
    kind: type[Upsert | LastRead], key: list[str], history: Any, hash_bits: int, captures: int, restarts: int
) -> None:
    """Steps through pairs of an epoch's changes and what must be there then."""
    operator, output, saved = kind(SCHEMA, key, hash_bits=hash_bits), Accumulated(), Saved()
    for number, (changes, expected) in enumerate(history):
        output.take(operator.step([delta(changes)]))
        assert output.rows == expected
        if (captures | restarts) >> number & 1:
            saved.capture(operator)
        if restarts >> number & 1:
            operator = kind(SCHEMA, key, hash_bits=hash_bits)
            saved.restore(operator)
            output.assert_told_by(operator)


@common
@given(st.data(), st.sampled_from(KEYS), bits, masks, masks)
def test_upsert(data: st.DataObject, key: list[str], hash_bits: int, captures: int, restarts: int) -> None:
    change = st.tuples(rows, st.sampled_from([1, 1, 1, -1, 2]))
    live: dict[Any, Row] = {}
    history, order = [], 0
    for epoch in data.draw(st.lists(st.lists(change, max_size=8), max_size=6)):
        changes: list[Change] = []
        for row, weight in epoch:
            order += 3
            changes.append((row, order, weight))
            if weight > 0:
                live[at(row, key)] = row
            else:
                live.pop(at(row, key), None)
        if data.draw(st.booleans()):
            changes.reverse()
        history.append((changes, Counter(map(values, live.values()))))
    drive(Upsert, key, history, hash_bits, captures, restarts)


@common
@given(st.data(), st.sampled_from(KEYS), bits, masks, masks)
def test_last_read(data: st.DataObject, key: list[str], hash_bits: int, captures: int, restarts: int) -> None:
    """Rows come and go, in any order, and within an epoch back and forth."""
    live: list[tuple[Row, int]] = []
    history, order = [], 0
    for _ in range(data.draw(st.integers(0, 6))):
        share = data.draw(st.sampled_from([0, 1, 3, len(live)]))
        gone = data.draw(st.permutations(live))[:share]
        live = [entry for entry in live if not any(entry is other for other in gone)]
        new = []
        for row in data.draw(st.lists(rows, max_size=6)):
            order += 1
            new.append((row, order))
        some = data.draw(st.integers(0, 1))
        fleeting, new = new[:some], new[some:]
        live += new
        changes = [(row, order, -1) for row, order in (*gone, *fleeting)] + [
            (row, o, 1) for row, o in (*fleeting, *new)
        ]
        there: dict[Any, Row] = {at(row, key): row for row, _ in sorted(live, key=lambda entry: entry[1])}
        history.append((data.draw(st.permutations(changes)), Counter(map(values, there.values()))))
    drive(LastRead, key, history, hash_bits, captures, restarts)


@common
@given(st.data(), bits, masks, masks)
def test_retractions_under_another_order(data: st.DataObject, hash_bits: int, captures: int, restarts: int) -> None:
    """They take back the last row of the same values, and can be taken back themselves."""
    live: list[tuple[Row, int]] = []
    history, order = [], 0
    few = st.fixed_dictionaries({**{name: st.none() for name in SCHEMA}, "k": VALUES["k"], "v": st.integers(0, 2)})
    for _ in range(data.draw(st.integers(0, 6))):
        changes: list[Change] = []
        for row in data.draw(st.lists(few, max_size=4)):
            order += 1
            changes.append((row, order, 1))
            live.append((row, order))
        picks = data.draw(st.lists(st.sampled_from(live), max_size=2, unique_by=lambda e: e[1])) if live else []
        for row, _ in picks:
            order += 1
            changes.append((row, order, -1))
            same = [entry for entry in live if values(entry[0]) == values(row)]
            live.remove(max(same, key=lambda entry: entry[1]))
        there: dict[Any, Row] = {at(row, ["k"]): row for row, _ in sorted(live, key=lambda entry: entry[1])}
        history.append((changes, Counter(map(values, there.values()))))
    drive(LastRead, ["k"], history, hash_bits, captures, restarts)


def test_a_row_that_is_back_after_its_key_was_forgotten() -> None:
    schema = {"v": DType("int"), "k": DType("str")}
    operator = LastRead(schema, ["k"])
    a1, a2, b3, b4 = (({"k": key, "v": order}, order) for key, order in [("a", 1), ("a", 2), ("b", 3), ("b", 4)])

    def step(*changes: tuple[tuple[Row, int], int]) -> list[Any]:
        output = operator.step([delta([(row, order, weight) for (row, order), weight in changes], schema)])
        return output.weighted().rows()

    step((a1, 1), (b3, 1), (b4, 1))
    for state in operator.states().values():
        state.capture()
    assert step((a1, -1)) == [(1, "a", -1)]
    step(*((({"k": f"c{i}", "v": i}, 10 + i), 1) for i in range(4)))
    step(*((({"k": f"c{i}", "v": i}, 10 + i), -1) for i in range(4)))
    assert len(operator._groups) < 3
    assert step((b4, -1)) == [(4, "b", -1), (3, "b", 1)]
    assert step((a1, 1), (a2, 1)) == [(2, "a", 1)]
    assert step((a2, -1)) == [(2, "a", -1), (1, "a", 1)]


@pytest.mark.parametrize("kind", [Upsert, LastRead])
def test_what_is_emitted(kind: type[Upsert | LastRead]) -> None:
    """Retractions first and exact; nothing for an equal row; ids of the key; columns in order."""
    schema = {"v": DType("float"), "k": DType("str")}
    operator = kind(schema, ["k"], ids=True)
    assert operator.step([delta([], schema)]).rows.columns == ["v", "k", ID]
    first = [({"k": "a", "v": -0.0}, 1, 1), ({"k": "b", "v": 2.0}, 2, 1), ({"k": "b", "v": 3.0}, 3, 1)]
    inserted = operator.step([delta(first, schema)])
    assert inserted.weights is None
    assert sorted(inserted.rows["k"]) == ["a", "b"]
    assert set(inserted.rows[ID]) == set(id_of(inserted.rows, ["k"]))
    changed = operator.step([delta([({"k": "a", "v": 0.0}, 4, 1), ({"k": "b", "v": 4.0}, 5, 1)], schema)])
    assert changed.weighted().drop(ID).rows() == [(3.0, "b", -1), (4.0, "b", 1)]
    assert operator.step([delta([({"k": "a", "v": 0.0}, 6, 1)], schema)]).is_empty()


@pytest.mark.parametrize(("kind", "key"), [(Upsert, ("k",)), (LastRead, ("k", ORDER))])
def test_the_key_of_the_state_can_be_told_from_its_columns(kind: type[Upsert | LastRead], key: tuple[str, ...]) -> None:
    schema = {"v": DType("int"), "k": DType("str"), "w": DType("int")}
    operator = kind(schema, ["k"])
    operator.step([delta([({"k": "a", "v": 1, "w": 2}, 7, 1)], schema)])
    for name, state in operator.states().items():
        captured = state.capture()
        assert captured is not None
        assert key_of(name, captured.rows.columns) == state.key == key


def test_removing_what_is_not_there() -> None:
    schema = {"v": DType("int"), "k": DType("str")}
    removal = delta([({"k": "a", "v": None}, 7, -1)], schema)
    assert Upsert(schema, ["k"]).step([removal]).is_empty()
    with pytest.raises(RuntimeError, match=r"not there, under \['k'\] = \[\('a',\)\]"):
        LastRead(schema, ["k"]).step([removal])


@pytest.mark.parametrize("kind", [Upsert, LastRead])
def test_churn_does_not_leak(kind: type[Upsert | LastRead], monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that come and go leave nothing behind, whether or not increments are ever taken."""
    monkeypatch.undo()
    schema = {"v": DType("str"), "k": DType("int")}
    for capturing in (False, True):
        operator, saved = kind(schema, ["k"]), Saved()
        before: list[Change] = []
        for epoch in range(40):
            new: list[Change] = [({"k": epoch * 500 + i, "v": f"value {i}"}, epoch * 500 + i, 1) for i in range(500)]
            operator.step([delta([*((row, order, -1) for row, order, _ in before), *new], schema)])
            before = new
            if capturing and epoch % 5 == 0:
                saved.capture(operator)
        assert len(operator._rows) < 5000
        if isinstance(operator, LastRead):
            assert len(operator._groups) < 5000
