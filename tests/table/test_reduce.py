"""Reducers within expressions, and how a `reduce` becomes nodes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncpersist.columnar.delta import Delta
from asyncpersist.errors import GraphError, RowError, Unsupported
from asyncpersist.graph.node import OperatorNode
from asyncpersist.table import reducers
from asyncpersist.table.functions import if_else, unwrap
from asyncpersist.table.table import Table
from asyncpersist.table.this import this
from tests.examples import examples
from tests.table.pieces import frame, rows_of, step, table, with_ids


def kinds(result: Table) -> list[str]:
    found, node = [], result.node
    while isinstance(node, OperatorNode):
        found.append(node.kind)
        node = node.inputs[0]  # type: ignore[assignment]
    return found[::-1]


@pytest.fixture
def t() -> Table:
    return table(k=str, j=int | None, a=int, b=int)


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda t: t.groupby(this.k).reduce(this.k, n=reducers.count()), ["group_by"]),
        (lambda t: t.groupby(this.k).reduce(this.k), ["group_by"]),
        (lambda t: t.groupby(this.k, this.j).reduce(this.k, this.j, m=reducers.max(this.a)), ["group_by"]),
        (lambda t: t.groupby(t.k).reduce(t.k, m=reducers.max(t.a)), ["group_by"]),
        (lambda t: t.reduce(n=reducers.count()), ["group_by"]),
        (lambda t: t.groupby(this.k).reduce(n=reducers.count()), ["group_by", "select"]),
        (lambda t: t.groupby(this.k).reduce(key=this.k, n=reducers.count()), ["group_by", "select"]),
        (lambda t: t.groupby(this.k).reduce(this.k, n=reducers.sum(this.a + 1)), ["select", "group_by"]),
        (lambda t: t.groupby(this.k).reduce(this.k, n=reducers.sum(this.a) + 1), ["group_by", "select"]),
    ],
)
def test_no_step_is_made_in_vain(build: Callable[[Table], Table], expected: list[str], t: Table) -> None:
    assert kinds(build(t)) == expected


@given(
    rows=st.lists(
        st.tuples(st.sampled_from("xyz"), st.none() | st.integers(0, 1), st.integers(-9, 9), st.integers(1, 9))
    )
)
@examples(25)
def test_reducers_within_expressions(rows: list[tuple[str, int | None, int, int]]) -> None:
    over = table(k=str, j=int | None, a=int, b=int)
    result = over.groupby(this.k, this.j).reduce(
        this.j,
        this.k,
        total=reducers.sum(this.a * this.b) / 2 + reducers.count(),
        n=reducers.count(),
        twice=reducers.count() * 2,
        spread=reducers.max(this.a) - reducers.min(this.a),
        label=this.k + "!",
        even=if_else(reducers.count() % 2 == 0, "even", "odd"),
        best=reducers.sorted_tuple(this.a)[0],
        pairs=reducers.count_distinct(this.a, this.b),
    )
    groups = defaultdict(list)
    for k, j, a, b in rows:
        groups[j, k].append((a, b))
    expected = [
        (
            j,
            k,
            sum(a * b for a, b in group) / 2 + len(group),
            len(group),
            len(group) * 2,
            max(a for a, _ in group) - min(a for a, _ in group),
            k + "!",
            "odd" if len(group) % 2 else "even",
            min(a for a, _ in group),
            len(set(group)),
        )
        for (j, k), group in groups.items()
    ]
    assert sorted(rows_of(result, over, rows), key=repr) == sorted(expected, key=repr)


def test_all_reducers_through_the_table(t: Table) -> None:
    result = t.groupby(this.k).reduce(
        this.k,
        avg=reducers.avg(this.a),
        any=reducers.any(this.b),
        unique=reducers.unique(this.k),
        low=reducers.argmin(this.a),
        high=reducers.argmax(this.a),
        distinct=reducers.count_distinct(this.j),
        listed=reducers.tuple(this.a),
        some=reducers.tuple(this.j, skip_nones=True),
        ordered=reducers.sorted_tuple(this.a),
    )
    rows = with_ids(frame(t, [("x", None, 3, 5), ("x", 1, 1, 5), ("x", 1, 2, 5)]), [30, 20, 10])
    assert step(result, Delta(rows)).rows.rows() == [("x", 2.0, 5, "x", 20, 30, 2, [2, 1, 3], [1, 1], [1, 2, 3])]


def test_a_whole_table_is_one_group(t: Table) -> None:
    result = t.reduce(n=reducers.count(), s=reducers.sum(this.a))
    assert rows_of(result, t, [("x", 1, 2, 3), ("y", 1, 5, 3)]) == [(2, 7)]
    assert rows_of(t.reduce(n=reducers.count()), t, [("x", 1, 2, 3), ("y", 1, 5, 3)]) == [(2,)]
    assert rows_of(t.groupby().reduce(n=reducers.count()), t, []) == []


def test_an_output_may_be_named_like_a_key_that_is_not_shown(t: Table) -> None:
    result = t.groupby(this.k).reduce(k=reducers.count(), a=this.k)
    assert rows_of(result, t, [("x", 1, 2, 3), ("x", 1, 5, 3)]) == [(2, "x")]


def test_instance_is_one_more_key(t: Table) -> None:
    result = t.groupby(this.k, instance=this.j).reduce(this.k, this.j, n=reducers.count())
    assert kinds(result) == ["group_by"]


def test_a_name_goes_to_the_groups(t: Table) -> None:
    result = t.groupby(this.k, name="totals").reduce(total=reducers.sum(this.a) + 1)
    assert result.node.name is None
    assert result.node.inputs[0].name == "totals"


def test_types_of_results(t: Table) -> None:
    result = t.groupby(this.k).reduce(
        n=reducers.count(),
        p=reducers.sum(this.j),
        q=reducers.avg(this.a),
        r=reducers.tuple(this.j),
        s=reducers.argmax(this.a),
    )
    assert [str(dtype) for dtype in result.columns.values()] == ["int", "int?", "float", "list[int?]", "pointer"]


def test_a_row_of_groups_can_fail(t: Table) -> None:
    result = t.groupby(this.k).reduce(x=reducers.sum(this.a) // (reducers.count() - 1))
    with pytest.raises(RowError, match=r"reducers\.count"):
        rows_of(result, t, [("x", 1, 1, 1)])
    guarded = t.groupby(this.k).reduce(x=unwrap(reducers.sum(this.j)))
    with pytest.raises(RowError):
        rows_of(guarded, t, [("x", None, 1, 1)])


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda t: t.groupby(this.k).reduce(this.a), ["this.a", "group keys are: k"]),
        (lambda t: t.groupby(this.k).reduce(x=this.a + reducers.count()), ["this.a", "reducer"]),
        (lambda t: t.reduce(this.a), ["this.a", "no group keys"]),
        (lambda t: t.groupby(this.k).reduce(this.k, x=this.id), ["this.id"]),
        (lambda t: t.groupby(this.k).reduce(x=reducers.sum(reducers.count())), ["inside another"]),
        (lambda t: t.groupby(this.k).reduce(x=reducers.sum(this.k)), ["this.k", "str"]),
        (lambda t: t.groupby(this.k).reduce(x=reducers.avg(this.a > 1)), ["(this.a > 1)", "bool"]),
        (lambda t: t.select(p=(1, 2)).reduce(x=reducers.max(this.p)), ["this.p", "tuple"]),
        (lambda t: t.groupby(this.k).reduce(reducers.count()), ["no name"]),
        (lambda t: t.groupby(this.k).reduce(), ["at least one"]),
        (lambda t: t.groupby(this.k).reduce(x=reducers.sum(t.filter(t.a > 0).a)), ["another table"]),
    ],
)
def test_what_cannot_be_reduced_is_refused(build: Callable[[Table], Any], words: list[str], t: Table) -> None:
    with pytest.raises(GraphError) as caught:
        build(t)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize("name", ["earliest", "latest", "ndarray", "count_distinct_approximate", "stateful_single"])
def test_reducers_that_are_not_built(name: str) -> None:
    with pytest.raises(Unsupported, match=name):
        getattr(reducers, name)(this.a)
    with pytest.raises(Unsupported, match="argmin"):
        reducers.argmin(this.a, id=this.b)


@pytest.mark.parametrize("reducer", [reducers.sum, reducers.avg])
def test_ints_that_add_up_to_too_much_are_an_error_that_names_what_adds(reducer: Callable[[Any], Any]) -> None:
    over = table(a=int)
    with pytest.raises(RowError, match=r"sum of column 'a'.*64 bits.*avg needs the sum"):
        rows_of(over.reduce(x=reducer(this.a)), over, [(2**62,), (2**62,)])
