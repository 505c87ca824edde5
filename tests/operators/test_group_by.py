"""Group-by against a recomputation from scratch, for random inputs, epochs, retractions, collisions and restarts."""

from __future__ import annotations

import datetime
from fractions import Fraction
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asyncpersist.columnar import arrangement, slot_values
from asyncpersist.columnar.codec import latest_rows
from asyncpersist.columnar.delta import ID, Delta
from asyncpersist.dtypes import DType
from asyncpersist.errors import RowError, SchemaError
from asyncpersist.operators.group_by import GroupBy, Reduction
from asyncpersist.operators.reducers import value_log
from tests.examples import examples
from tests.operators.oracle import Accumulated, Row, Saved, delta, expected, plain

STR, INT, FLOAT = DType("str"), DType("int"), DType("float")
TUPLE = DType("tuple", True, (DType("int", True), DType("str")))
SCHEMA = {
    "k": STR.as_optional(),
    "x": FLOAT.as_optional(),
    "l": DType("list", True, (FLOAT.as_optional(),)),
    "i": INT.as_optional(),
    "n": INT,
    "f": FLOAT.as_optional(),
    "s": STR.as_optional(),
    "t": DType("naive_datetime", True),
    "d": DType("duration"),
    "b": DType("bool", True),
    "y": DType("bytes", True),
    "p": TUPLE,
}
DAY = datetime.datetime(2024, 5, 6)
floats = st.sampled_from([0.0, -0.0, 0.1, 0.2, -0.3, 1e300, -1e300, 5e-324, 1e16, 1.0])
wild = st.one_of(floats, st.sampled_from([float("nan"), float("inf"), float("-inf")]), st.floats(width=64))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "k": st.sampled_from([None, "", "a", "b", "a longer string than twelve bytes"]),
    "x": st.sampled_from([None, 0.0, -0.0, float("nan"), 1.5]),
    "l": st.sampled_from([None, [], [1.0], [1.0, None], [float("nan")], [0.0], [-0.0]]),
    "i": st.one_of(st.none(), st.integers(-5, 5), st.integers(-(2**57), 2**57)),
    "n": st.integers(-3, 3),
    "f": st.one_of(st.none(), wild),
    "s": st.sampled_from([None, "", "b", "aa", "z" * 20, "é"]),
    "t": st.sampled_from([None, DAY, DAY + datetime.timedelta(microseconds=1), datetime.datetime(1950, 1, 1)]),
    "d": st.sampled_from([datetime.timedelta(0), datetime.timedelta(seconds=-3), datetime.timedelta(days=1)]),
    "b": st.sampled_from([None, True, False]),
    "y": st.sampled_from([None, b"", b"\x00", b"\xff\xfe"]),
    "p": st.sampled_from([None, {"f0": 1, "f1": "a"}, {"f0": None, "f1": "b"}, {"f0": 1, "f1": "b"}]),
}
ADDITIVE = [
    Reduction("count", "count", None, None),
    *(Reduction(f"sum_{c}", "sum", c, SCHEMA[c]) for c in "infd"),
    *(Reduction(f"avg_{c}", "avg", c, SCHEMA[c]) for c in "nf"),
]
EXTREME = [
    Reduction(f"{kind}_{c}", kind, c, SCHEMA[c])
    for kind in ("min", "max", "any", "argmin", "argmax")
    for c in "infstdbypl"
]
OTHER = [
    *(Reduction(f"distinct_{c}", "count_distinct", c, SCHEMA[c]) for c in "nfsbp"),
    *(Reduction(f"tuple_{c}", "tuple", c, SCHEMA[c]) for c in "nfsp"),
    Reduction("tuple_skip", "tuple", "s", SCHEMA["s"], skip_nones=True),
    *(Reduction(f"sorted_{c}", "sorted_tuple", c, SCHEMA[c]) for c in "nfsbp"),
    Reduction("sorted_skip", "sorted_tuple", "i", SCHEMA["i"], skip_nones=True),
]
KEYS = [[], ["k"], ["x"], ["k", "x"], ["n", "k", "b"], ["l"], ["p"], ["t", "y"]]

common = settings(examples(20), suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def eager_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compaction from the first dead slot on, and value logs that are often put together."""
    monkeypatch.setattr(arrangement, "_MIN_GARBAGE", 0)
    monkeypatch.setattr(slot_values, "_MIN_GARBAGE", 0)
    monkeypatch.setattr(value_log, "_MIN_ROWS", 0)
    monkeypatch.setattr(value_log, "_MOST_PENDING", 2)


@st.composite
def epochs(draw: st.DrawFn, *, retracting: bool) -> list[tuple[list[Row], list[Row]]]:
    """What is inserted and retracted in each epoch; a retraction is of a row that is there."""
    live: list[Row] = []
    result, next_id = [], 0
    for _ in range(draw(st.integers(1, 5))):
        gone: list[Row] = []
        if retracting and live:
            share = draw(st.sampled_from([0, 1, 3, len(live)]))
            picks = draw(st.permutations(range(len(live))))[:share]
            gone = [live[i] for i in picks]
            live = [row for i, row in enumerate(live) if i not in set(picks)]
        new = draw(st.lists(st.fixed_dictionaries(VALUES), max_size=8))
        for row in new:
            row[ID] = (next_id * 7919) % 1009 + (next_id % 3) * 2**100
            next_id += 1
        doubled = draw(st.booleans())
        twins = [new[0], new[0]] if new and doubled else []
        for twin in twins:
            new.append({**twin, ID: next_id + 2**64})
            next_id += 1
        live.extend(new)
        result.append((new, gone))
    return result


def chosen(reductions: list[Reduction]) -> st.SearchStrategy[list[Reduction]]:
    return st.lists(st.sampled_from(reductions), min_size=1, max_size=6, unique_by=lambda r: r.output)


def check(
    keys: list[str],
    reductions: list[Reduction],
    history: list[tuple[list[Row], list[Row]]],
    *,
    hash_bits: int = 64,
    captures: int = 0,
    restarts: int = 0,
    append_only: bool = False,
) -> None:
    """Drives a group-by; bits of `captures` and `restarts` say after which epochs."""

    def make() -> GroupBy:
        types = {key: SCHEMA[key] for key in keys}
        return GroupBy(types, reductions, append_only=append_only, hash_bits=hash_bits)

    operator, output, saved = make(), Accumulated(), Saved()
    live: list[Row] = []
    for number, (inserted, retracted) in enumerate(history):
        ids = {id(row) for row in retracted}
        live = [row for row in live if id(row) not in ids] + inserted
        output.take(operator.step([delta(SCHEMA, inserted, retracted, ids=True)]))
        assert output.rows == expected(keys, reductions, live)
        if (captures | restarts) >> number & 1:
            saved.capture(operator)
        if restarts >> number & 1:
            operator = make()
            saved.restore(operator)
            output.assert_told_by(operator)


bits = st.sampled_from([4, 64])
masks = st.integers(0, 31)


@common
@given(st.sampled_from(KEYS), chosen(ADDITIVE), epochs(retracting=True), bits, masks, masks)
def test_additive(keys: list[str], reductions: Any, history: Any, hash_bits: int, captures: int, restarts: int) -> None:
    check(keys, reductions, history, hash_bits=hash_bits, captures=captures, restarts=restarts)


@common
@given(st.sampled_from(KEYS), chosen(EXTREME), epochs(retracting=True), bits, masks, masks)
def test_extremes(keys: list[str], reductions: Any, history: Any, hash_bits: int, captures: int, restarts: int) -> None:
    check(keys, reductions, history, hash_bits=hash_bits, captures=captures, restarts=restarts)


@common
@given(st.sampled_from(KEYS), chosen(OTHER), epochs(retracting=True), bits, masks, masks)
def test_distinct_and_tuples(
    keys: list[str], reductions: Any, history: Any, hash_bits: int, captures: int, restarts: int
) -> None:
    check(keys, reductions, history, hash_bits=hash_bits, captures=captures, restarts=restarts)


@common
@given(st.sampled_from(KEYS), chosen(ADDITIVE + EXTREME + OTHER), epochs(retracting=False), bits, masks)
def test_append_only(keys: list[str], reductions: Any, history: Any, hash_bits: int, restarts: int) -> None:
    check(keys, reductions, history, hash_bits=hash_bits, restarts=restarts, append_only=True)


@common
@given(st.sampled_from(KEYS), st.sampled_from("nsp"), epochs(retracting=True), bits, masks)
def test_unique(keys: list[str], column: str, history: Any, hash_bits: int, restarts: int) -> None:
    """Every group is given one value, that of its key; with a second one it is an error."""
    for inserted, _ in history:
        for row in inserted:
            choices = (
                [0, 1, 2] if column == "n" else [None, "a", "b"] if column == "s" else [None, {"f0": 1, "f1": "a"}]
            )
            row["u"] = choices[hash(repr([plain(row[key]) for key in keys])) % len(choices)]
    schema = {**SCHEMA, "u": SCHEMA[column]}
    reductions = [Reduction("u", "unique", "u", SCHEMA[column])]
    types = {key: SCHEMA[key] for key in keys}
    operator, output, saved = GroupBy(types, reductions, hash_bits=hash_bits), Accumulated(), Saved()
    live: list[Row] = []
    for number, (inserted, retracted) in enumerate(history):
        ids = {id(row) for row in retracted}
        live = [row for row in live if id(row) not in ids] + inserted
        output.take(operator.step([delta(schema, inserted, retracted, ids=False)]))
        assert output.rows == expected(keys, reductions, live)
        if restarts >> number & 1:
            saved.capture(operator)
            operator = GroupBy(types, reductions, hash_bits=hash_bits)
            saved.restore(operator)
            output.assert_told_by(operator)


def test_unique_refuses_two_values() -> None:
    operator = GroupBy({"k": STR}, [Reduction("u", "unique", "v", INT.as_optional())])
    frame = pl.DataFrame({"k": ["a", "b", "b"], "v": [1, 2, None]})
    with pytest.raises(RowError, match=r"'v' has several values in group \(k='b'\)"):
        operator.step([Delta(frame)])


@pytest.mark.parametrize("earlier", [0, 2])
@pytest.mark.parametrize("sign", [1, -1])
def test_int_overflow_names_group_and_column(earlier: int, sign: int) -> None:
    """Within one batch, and on top of what was summed before."""
    operator = GroupBy({"k": STR}, [Reduction("total", "sum", "v", INT)])
    frame = pl.DataFrame({"k": ["a", "b", "b"], "v": [7, sign * 2**62, sign * (2**62 + 1)]})
    operator.step([Delta(frame[:earlier])])
    with pytest.raises(RowError, match=rf"'v' in group \(k='b'\) is {sign * (2**63 + 1)}"):
        operator.step([Delta(frame[earlier:])])


def test_int_sums_may_pass_beyond_64_bits_within_an_epoch() -> None:
    operator = GroupBy({}, [Reduction("total", "sum", "v", INT)])
    top = 2**63 - 1
    result = operator.step([Delta(pl.DataFrame({"v": [top, top, -top, -top, top, -5]}))])
    assert result.rows.rows() == [(top - 5,)]
    result = operator.step([Delta(pl.DataFrame({"v": [top, 4, -(2**63), -1]}))])
    assert result.rows.rows() == [(top - 5,), (top - 5 + 4 - 2,)]


def test_large_weights() -> None:
    reductions = [
        Reduction("n", "count", None, None),
        Reduction("f", "sum", "f", FLOAT),
        Reduction("i", "sum", "i", INT),
    ]
    operator = GroupBy({}, reductions)
    frame = pl.DataFrame({"f": [0.1, -0.7], "i": [3, -2]})
    first = operator.step([Delta(frame, np.array([2**40, 2**33 + 1], np.int64))])
    exact = float(Fraction(0.1) * 2**40 - Fraction(0.7) * (2**33 + 1))
    assert first.rows.rows() == [(2**40 + 2**33 + 1, exact, 3 * 2**40 - 2 * (2**33 + 1))]
    last = operator.step([Delta(frame, np.array([-(2**40) + 1, -(2**33) - 1], np.int64))])
    assert last.rows.rows()[1] == (1, 0.1, 3)


def test_what_was_not_there_cannot_be_retracted() -> None:
    operator = GroupBy({"k": STR}, [Reduction("n", "count", None, None)])
    with pytest.raises(RuntimeError, match="not there"):
        operator.step([delta({"k": STR}, [], [{"k": "a"}], ids=False)])


def test_append_only_is_taken_at_its_word() -> None:
    operator = GroupBy({"k": STR}, [Reduction("n", "count", None, None)], append_only=True)
    operator.step([delta({"k": STR}, [{"k": "a"}], [], ids=False)])
    with pytest.raises(RuntimeError, match="append-only"):
        operator.step([delta({"k": STR}, [], [{"k": "a"}], ids=False)])


def test_unchanged_groups_are_not_emitted() -> None:
    operator = GroupBy({"k": STR}, [Reduction("m", "max", "v", INT)])
    schema = {"k": STR, "v": INT}
    operator.step([delta(schema, [{"k": "a", "v": 5}, {"k": "b", "v": 1}], [], ids=False)])
    result = operator.step([delta(schema, [{"k": "a", "v": 3}, {"k": "b", "v": 2}], [], ids=False)])
    assert result.weighted().rows() == [("b", 1, -1), ("b", 2, 1)]
    swap = operator.step([delta(schema, [{"k": "b", "v": 2}], [{"k": "b", "v": 2}], ids=False)])
    assert swap.is_empty()
    assert swap.rows.columns == ["k", "m"]


def test_ids_follow_from_the_key() -> None:
    reductions = [Reduction("n", "count", None, None)]
    operator = GroupBy({"k": STR, "x": FLOAT}, reductions, ids=True)
    frame = pl.DataFrame({"k": ["a", "b", "a"], "x": [0.0, 1.0, -0.0]})
    first = operator.step([Delta(frame)]).rows
    assert first.columns == ["k", "x", "n", ID]
    again = operator.step([Delta(frame.head(1))]).rows
    assert len(set(again[ID])) == 1
    assert set(again[ID]) < set(first[ID])
    assert GroupBy({}, reductions, ids=True).step([Delta(frame)]).rows[ID].null_count() == 0


def test_an_empty_delta_has_the_columns() -> None:
    operator = GroupBy({"k": STR}, [Reduction("f", "avg", "v", INT)], ids=True)
    result = operator.step([delta({"k": STR, "v": INT}, [], [], ids=False)])
    assert result.rows.schema == {"k": pl.String, "f": pl.Float64, ID: pl.UInt128}
    assert all(state.capture() is None for state in operator.states().values())


def test_churn_does_not_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups that come and go leave nothing behind, whether or not their increments are ever taken."""
    monkeypatch.undo()
    monkeypatch.setattr(value_log, "_MIN_ROWS", 1000)
    for capturing in (False, True):
        reductions = [
            Reduction("m", "max", "v", STR),
            Reduction("n", "count_distinct", "v", STR),
            Reduction("f", "sum", "x", FLOAT),
        ]
        operator = GroupBy({"k": INT}, reductions)
        schema = {"k": INT, "v": STR, "x": FLOAT}
        saved = Saved()
        before: list[Row] = []
        for epoch in range(40):
            rows = [{"k": epoch * 500 + i, "v": f"value {i}", "x": 0.1 * i} for i in range(500)]
            operator.step([delta(schema, rows, before, ids=False)])
            before = rows
            if capturing and epoch % 5 == 0:
                saved.capture(operator)
        assert max(len(operator._groups), len(operator._plan.value_sets["values:v"]._values)) < 5000
        assert operator._plan.value_logs["value_log:v"]._rows < 5000
        if capturing:
            merged = latest_rows(saved.increments["groups"], ["k"], drop_tombstones=True)
            assert sorted(merged["k"]) == list(range(35 * 500, 36 * 500))
            assert sum(frame["__value"].list.len().sum() for frame in saved.increments["value_log:v"]) < 10_000


def test_equal_values_are_kept_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(value_log, "_MIN_ROWS", 1000)
    operator, saved = GroupBy({"k": INT}, [Reduction("m", "max", "v", INT)]), Saved()
    frame = pl.DataFrame({"k": [0, 1] * 500, "v": [i % 7 for i in range(1000)]})
    for epoch in range(50):
        operator.step([Delta(frame)])
        if epoch % 3 == 0:
            saved.capture(operator)
    assert operator._plan.value_logs["value_log:v"]._rows < 5000
    assert sum(frame["__value"].list.len().sum() for frame in saved.increments["value_log:v"]) < 10_000
    gone = frame.filter(pl.col("v") == 6)
    change = operator.step([Delta(gone, np.full(gone.height, -50, np.int64))])
    assert sorted(change.weighted().rows()) == [(0, 5, 1), (0, 6, -1), (1, 5, 1), (1, 6, -1)]


def test_groups_that_move_between_increments(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is to be given out moves with them."""
    monkeypatch.setattr(value_log, "_MIN_ROWS", 1000)
    schema, reductions = {"k": INT, "v": INT}, [Reduction("m", "max", "v", INT)]
    operator, saved = GroupBy({"k": INT}, reductions), Saved()
    saved.capture(operator)
    rows = [{"k": k, "v": v} for k in range(20) for v in (k, 100 + k)]
    operator.step([delta(schema, rows[::2], [], ids=False)])
    saved.capture(operator)
    operator.step([delta(schema, rows[1::2], [], ids=False)])
    operator.step([delta(schema, [], rows[:30], ids=False)])
    saved.capture(operator)
    operator.step([delta(schema, [{"k": 50, "v": 1}], [], ids=False)])
    assert len(operator._groups) < 20
    operator.step([delta(schema, [{"k": 19, "v": 500}, {"k": 51, "v": 7}, {"k": 51, "v": 8}], [], ids=False)])
    operator.step([delta(schema, [], [{"k": 50, "v": 1}, *rows[30:36]], ids=False)])
    saved.capture(operator)
    again = GroupBy({"k": INT}, reductions)
    saved.restore(again)
    change = again.step([delta(schema, [], [{"k": 19, "v": 500}, {"k": 51, "v": 8}, rows[37]], ids=False)])
    assert sorted(change.weighted().rows()) == sorted(
        [(19, 500, -1), (19, 119, 1), (51, 8, -1), (51, 7, 1), (18, 118, -1), (18, 18, 1)]
    )


def test_an_increment_is_what_was_added() -> None:
    """It does not grow with what is there, although all of it is needed in the end."""
    schema = {"k": INT, "v": FLOAT}
    reductions = [Reduction("m", "max", "v", FLOAT)]
    operator, saved = GroupBy({"k": INT}, reductions), Saved()
    for epoch in range(20):
        rows = [{"k": k, "v": epoch + k / 10} for k in range(5)]
        operator.step([delta(schema, rows, [], ids=False)])
        saved.capture(operator)
    assert [frame.height for frame in saved.increments["value_log:v"]][-1] == 5
    again = GroupBy({"k": INT}, reductions)
    saved.restore(again)
    gone = [{"k": k, "v": epoch + k / 10} for k in range(5) for epoch in range(3, 20)]
    change = again.step([delta(schema, [], gone, ids=False)])
    assert sorted(change.weighted().rows()) == sorted(
        row for k in range(5) for row in ((k, 19 + k / 10, -1), (k, 2 + k / 10, 1))
    )


def test_refused_reductions() -> None:
    with pytest.raises(SchemaError, match="sum of column 'v', which is str"):
        Reduction("s", "sum", "v", STR)
    with pytest.raises(SchemaError, match="no reducer 'median'"):
        Reduction("s", "median", "v", INT)
    with pytest.raises(SchemaError, match="needs a column"):
        Reduction("s", "max", None, None)
