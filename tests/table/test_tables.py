"""Tables: what their methods give, what they refuse, and what they tell the planner."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncpersist.columnar.delta import ID, Delta
from asyncpersist.dtypes import DType
from asyncpersist.errors import ColumnNotFound, GraphError, Unsupported
from asyncpersist.graph.node import Demands, OperatorNode
from asyncpersist.table import reducers
from asyncpersist.table.functions import if_else
from asyncpersist.table.table import Table
from asyncpersist.table.this import left, this
from tests.examples import examples
from tests.table.pieces import frame, rows_of, step, table, with_ids

ROWS = [(1, 10, "x"), (2, 20, "y"), (3, 30, "x")]


@pytest.fixture
def t() -> Table:
    return table(a=int, b=int, s=str)


@pytest.mark.parametrize(
    ("build", "names", "first"),
    [
        (lambda t: t.select(this.a, c=this.b + 1), ["a", "c"], (1, 11)),
        (lambda t: t.select(t.a, t["s"], c=t.b), ["a", "s", "c"], (1, "x", 10)),
        (lambda t: t.select(*this), ["a", "b", "s"], (1, 10, "x")),
        (lambda t: t.select(*t), ["a", "b", "s"], (1, 10, "x")),
        (lambda t: t.select(*this.without("a", this.s), z=1), ["b", "z"], (10, 1)),
        (lambda t: t.select(z=this.a, y=this.a), ["z", "y"], (1, 1)),
        (lambda t: t[["s", "a"]], ["s", "a"], ("x", 1)),
        (lambda t: t.with_columns(b=this.b * 2, c=this.a), ["a", "b", "s", "c"], (1, 20, "x", 1)),
        (lambda t: t.without("a", this.s), ["b"], (10,)),
        (lambda t: t.rename({"a": "z", t.b: "a"}), ["z", "a", "s"], (1, 10, "x")),
        (lambda t: t.rename(z=this.a), ["z", "b", "s"], (1, 10, "x")),
        (lambda t: t.rename_columns(a=this.b, b=this.a), ["b", "a", "s"], (1, 10, "x")),
        (lambda t: t.rename_by_dict({"s": "text"}), ["a", "b", "text"], (1, 10, "x")),
        (lambda t: t.with_prefix("p_").with_suffix("_q"), ["p_a_q", "p_b_q", "p_s_q"], (1, 10, "x")),
        (lambda t: t.copy(), ["a", "b", "s"], (1, 10, "x")),
        (lambda t: t.select(k=1, w="q"), ["k", "w"], (1, "q")),
    ],
)
def test_columns(build: Callable[[Table], Table], names: list[str], first: tuple[Any, ...], t: Table) -> None:
    result = build(t)
    assert result.column_names() == names == list(result.typehints()) == result.schema.column_names()
    rows = rows_of(result, t, ROWS)
    assert rows[0] == first
    assert len(rows) == 3
    assert rows_of(result, t, []) == []


def test_filter_drops_false_and_none() -> None:
    t = table(a=int | None)
    assert rows_of(t.filter(this.a > 1), t, [(1,), (2,), (None,)]) == [(2,)]
    assert rows_of(t.filter(pl.col("a") > 1), t, [(1,), (2,), (None,)]) == [(2,)]
    assert rows_of(t.filter(True), t, [(1,), (None,)]) == [(1,), (None,)]
    assert rows_of(t.filter(False), t, [(1,), (None,)]) == []


@given(
    rows=st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3), st.integers(-2, 2).filter(bool))),
    consolidated=st.booleans(),
)
@examples(20)
def test_weights_and_ids_follow_their_rows(rows: list[tuple[int, int, int]], consolidated: bool) -> None:
    over = table(a=int, b=int)
    given_rows = with_ids(frame(over, [row[:2] for row in rows]), range(len(rows)))
    weights = np.array([row[2] for row in rows], np.int64)
    result = over.filter(this.a > 0).select(c=this.b, e=this.a + this.b).filter(this.e > 0)
    found = step(result, Delta(given_rows, weights, consolidated), ids=True)
    expected = [(b, a + b, i, w) for i, (a, b, w) in enumerate(rows) if a > 0 and a + b > 0]
    found_weights = np.ones(found.height, np.int64) if found.weights is None else found.weights
    assert [(*row, w) for row, w in zip(found.rows.rows(), found_weights.tolist(), strict=True)] == expected


def test_consolidated_is_kept_only_while_no_rows_can_meet(t: Table) -> None:
    delta = Delta(frame(t, ROWS), consolidated=True)
    assert step(t.rename(z=this.a), delta).consolidated
    assert step(t.filter(this.a > 1), delta).consolidated
    assert not step(t.select(this.s), delta).consolidated
    assert not step(t.select(z=this.a // 2), delta).consolidated
    assert not step(t.filter(this.a > 1), Delta(with_ids(delta.rows, [1, 2, 3]), consolidated=True)).consolidated


def test_ids_are_asked_for_only_where_needed(t: Table) -> None:
    def wanted(result: Table, ids: bool) -> tuple[bool, ...]:
        assert isinstance(result.node, OperatorNode)
        return result.node.input_ids(ids)

    assert wanted(t.select(this.a), False) == (False,)
    assert wanted(t.select(this.a), True) == (True,)
    assert wanted(t.select(p=this.id), False) == (True,)
    assert wanted(t.filter(this.id == this.id), False) == (True,)
    assert wanted(t.concat(t), True) == (True, True)
    assert wanted(t.reduce(n=reducers.count()), True) == (False,)
    assert wanted(t.reduce(n=reducers.argmin(this.a)), False) == (True,)


def test_the_id_as_a_column(t: Table) -> None:
    ids = [7, 2**127, 9]
    delta = Delta(with_ids(frame(t, ROWS), ids))
    chosen = t.select(this.id, this.a, p=this.id)
    assert chosen.columns["id"] == DType("pointer")
    found = step(chosen, delta)
    assert found.rows["id"].to_list() == ids == found.rows["p"].to_list()
    assert ID not in found.rows.columns
    again = chosen.filter(this.a > 1).select(q=this.id)
    assert step(again, delta).rows["q"].to_list() == ids[1:]
    assert step(chosen.select(*this), delta).rows.columns == ["id", "a", "p"]


def test_concat() -> None:
    t, u = table(a=int, b=int), table(b=float, a=int | None)
    both = t.concat(u)
    assert both.columns == {"a": DType("int", optional=True), "b": DType("float")}
    one, two = frame(t, [(1, 2)]), frame(u, [(0.5, None)])
    found = step(both, Delta(one), Delta(two, np.array([-2])))
    assert found.rows.rows() == [(1, 2.0), (None, 0.5)]
    assert found.weights is not None
    assert found.weights.tolist() == [1, -2]
    assert step(both, Delta(one.clear()), Delta(two.clear())).height == 0
    assert step(both, Delta(one), Delta(two.clear())).rows.rows() == [(1, 2.0)]
    assert rows_of(t.concat(t, t), t, [(1, 2)]) == [(1, 2)] * 3


def test_concat_reindex_gives_new_ids() -> None:
    t = table(a=int)
    delta = Delta(with_ids(frame(t, [(1,), (2,)]), [5, 6]))
    kept = step(t.concat(t), delta, ids=True).rows[ID].to_list()
    new = step(t.concat_reindex(t), delta, ids=True).rows[ID].to_list()
    assert kept == [5, 6, 5, 6]
    assert len({*new, *kept}) == 6
    assert new == step(t.concat_reindex(t), delta, ids=True).rows[ID].to_list()


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda t: t.nope, ColumnNotFound, ["'nope'", "a, b, s"]),
        (lambda t: t["nope"], ColumnNotFound, ["'nope'", "a, b, s"]),
        (lambda t: t.select(this.nope), ColumnNotFound, ["this.nope", "a, b, s"]),
        (lambda t: t.select(x=this.a + this.nope), ColumnNotFound, ["'nope'", "a, b, s"]),
        (lambda t: t.filter(this.nope), ColumnNotFound, ["'nope'"]),
        (lambda t: t.without("nope"), ColumnNotFound, ["without", "'nope'"]),
        (lambda t: t.rename({"nope": "z"}), ColumnNotFound, ["rename", "'nope'"]),
        (lambda t: t.groupby(this.nope), ColumnNotFound, ["groupby", "'nope'"]),
        (lambda t: t.select(*this.without("nope")), ColumnNotFound, ["'nope'"]),
        (lambda t: t.reduce(x=reducers.sum(this.nope)), ColumnNotFound, ["'nope'"]),
        (lambda t: t.select(this.a, a=this.b), GraphError, ["two columns 'a'"]),
        (lambda t: t.select(this.a, this.a), GraphError, ["two columns 'a'"]),
        (lambda t: t.select(), GraphError, ["at least one"]),
        (lambda t: t.select("a"), GraphError, ["'a'", "this"]),
        (lambda t: t.select(this.a + 1), GraphError, ["no name"]),
        (lambda t: t.select(__x=this.a), GraphError, ["reserved"]),
        (lambda t: t.select(id=this.a), GraphError, ["reserved"]),
        (lambda t: t.without("a", "b", "s"), GraphError, ["leaves no column"]),
        (lambda t: t.rename({"a": "b"}), GraphError, ["two columns 'b'"]),
        (lambda t: t.rename({"a": "id"}), GraphError, ["reserved"]),
        (lambda t: t.rename({"a": "*"}), GraphError, ["reserved", "'*'", "pattern"]),
        (lambda t: t.rename({"a": "^.$"}), GraphError, ["reserved", "'^.$'"]),
        (lambda t: t.rename({"a": "\ud800"}), GraphError, ["reserved", "text"]),
        (lambda t: t.select(**{"^a.*$": this.a}), GraphError, ["reserved"]),
        (lambda t: t.select(**{"*": 1}), GraphError, ["reserved"]),
        (lambda t: t.select(pl.lit(1).alias("*")), GraphError, ["reserved"]),
        (lambda t: t.with_columns(**{"*": this.a}), GraphError, ["reserved"]),
        (lambda t: t.groupby(this.a).reduce(**{"^n$": reducers.count()}), GraphError, ["reserved"]),
        (lambda t: t.with_prefix("^").with_suffix("$"), GraphError, ["reserved"]),
        (lambda t: t.groupby(this.a, name="\ud800").reduce(this.a), GraphError, ["name='\\ud800'", "valid text"]),
        (lambda t: t.rename(x=this.a, y=this.a), GraphError, ["two names"]),
        (lambda t: t.filter(this.a), GraphError, ["this.a", "int", "bool"]),
        (lambda t: t.filter(t.a > 0).select(t.b), GraphError, ["another table"]),
        (lambda t: t.select(x=table(a=int).a), GraphError, ["another table"]),
        (lambda t: t.select(x=table(a=int).id), GraphError, ["another table"]),
        (lambda t: t.groupby(t.filter(t.a > 0).a), GraphError, ["another table"]),
        (lambda t: t.select(x=reducers.sum(this.a)), GraphError, ["reduce"]),
        (lambda t: t.concat(t.without("a")), GraphError, ["different columns", "a, b, s", "b, s"]),
        (lambda t: t.concat(t.with_columns(a=this.s)), GraphError, ["'a'", "int", "str"]),
        (lambda t: t.concat(5), GraphError, ["tables"]),
        (lambda t: t.groupby(this.a + 1), GraphError, ["with_columns"]),
        (lambda t: t.groupby(k=this.a), GraphError, ["with_columns"]),
        (lambda t: t.groupby(this.a, id=this.a), Unsupported, ["id"]),
        (lambda t: t.groupby(this.a, sort_by=this.a), Unsupported, ["sort_by"]),
        (lambda t: t.join(t, t.a == t.a), Unsupported, ["join", "not built"]),
        (lambda t: t.update_rows(t), Unsupported, ["update_rows"]),
        (lambda t: t.flatten(this.a), Unsupported, ["flatten"]),
        (lambda t: t.deduplicate(value=this.a), Unsupported, ["deduplicate"]),
        (lambda t: t.windowby(this.a), Unsupported, ["windowby"]),
        (lambda t: left.a, Unsupported, ["joins"]),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    build: Callable[[Table], Any], error: type[Exception], words: list[str], t: Table
) -> None:
    with pytest.raises(error) as caught:
        build(t)
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_column_named_like_a_method_is_taken_by_item() -> None:
    t = table(select=int, join=int)
    assert rows_of(t.select(x=t["select"], y=t.join, z=this.select), t, [(1, 2)]) == [(1, 2, 1)]


def chain(result: Table) -> list[Any]:
    nodes, node = [], result.node
    while isinstance(node, OperatorNode):
        nodes.append([node.kind, json.loads(json.dumps(dict(node.definition)))])
        node = node.inputs[0]  # type: ignore[assignment]
    return nodes


def test_definitions_are_json_and_do_not_depend_on_how_they_are_spelled() -> None:
    def build(orders: Table, ours: Any) -> Table:
        positive = orders.filter(ours.a > 0)
        return (
            positive.select(this.s, v=if_else(this.a > 1, this.b, 0))
            .groupby(this.s)
            .reduce(this.s, v=reducers.sum(this.v))
        )

    one, two = table(a=int, b=int, s=str), table(a=int, b=int, s=str)
    assert chain(build(one, this)) == chain(build(two, two))
    assert chain(one.filter(this.a > 0)) != chain(one.filter(this.a > 1))
    assert chain(one.filter(this.a > 1)) != chain(one.filter(this.a > 1.0))
    assert chain(one.select(x=this.a)) != chain(one.select(y=this.a))


def test_append_only_is_kept_by_all_but_groups(t: Table) -> None:
    for result in (t.select(this.a), t.filter(this.a > 0), t.concat(t)):
        assert isinstance(result.node, OperatorNode)
        assert result.node.keeps_append_only
    grouped = t.groupby(this.s).reduce(this.s)
    assert isinstance(grouped.node, OperatorNode)
    assert not grouped.node.keeps_append_only


def test_picking_does_not_run_the_expression_engine(t: Table) -> None:
    node = t.select(z=this.a, b=pl.col("b")).node
    assert isinstance(node, OperatorNode)
    operator = node.make(Demands())
    rows = frame(t, ROWS)
    found = operator.step([Delta(rows)]).rows
    assert found.columns == ["z", "b"]
    assert rows.columns == ["a", "b", "s"]
    assert found["z"].to_numpy().__array_interface__["data"] == rows["a"].to_numpy().__array_interface__["data"]


@pytest.mark.parametrize("names", ["w", ["a"], 1, {"a"}])
def test_rename_says_what_it_takes(names: Any) -> None:
    with pytest.raises(TypeError, match=r'rename takes a dict of names, \{"old": "new"\}'):
        table(a=int).rename(names)
    with pytest.raises(TypeError, match="rename takes a dict"):
        table(a=int).rename_by_dict(names)
