"""Tables over rows given as lists, stepped without a runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import polars as pl

from asyncpersist.columnar.delta import ID, Delta
from asyncpersist.dtypes import DType
from asyncpersist.graph.node import Demands, Node, OperatorNode, SourceNode
from asyncpersist.table.table import Table


def table(**types: Any) -> Table:
    """A table with columns of these types, over a source that is never opened."""
    columns = {name: DType.of(annotation) for name, annotation in types.items()}
    return Table(SourceNode(kind="source", definition={}, columns=columns, source=cast(Any, None)))


def frame(over: Table, rows: Sequence[Sequence[Any]]) -> pl.DataFrame:
    """Rows of the table as they lie in memory."""
    schema = {name: dtype.polars for name, dtype in over.columns.items()}
    return pl.DataFrame([list(row) for row in rows], schema=schema, orient="row")


def with_ids(rows: pl.DataFrame, ids: Sequence[int]) -> pl.DataFrame:
    return rows.with_columns(pl.Series(ID, ids, dtype=pl.UInt128))


def step(result: Table, *inputs: Delta, ids: bool = False) -> Delta:
    """The change of `result` for a change of each source above it, in the order in which they are met."""
    given = iter(inputs)
    known: dict[Node, Delta] = {}

    def change(node: Node, wanted: bool) -> Delta:
        if isinstance(node, SourceNode):
            if node not in known:
                known[node] = next(given)
            return known[node]
        assert isinstance(node, OperatorNode)
        below = [change(n, need) for n, need in zip(node.inputs, node.input_ids(wanted), strict=True)]
        delta = node.make(Demands(ids=wanted)).step(below)
        expected = {name: dtype.polars for name, dtype in node.columns.items()}
        assert dict(delta.rows.schema) == expected | ({ID: pl.UInt128()} if wanted else {})
        assert list(delta.rows.columns)[: len(expected)] == list(expected)
        assert delta.weights is None or (delta.weights.dtype == np.int64 and len(delta.weights) == delta.rows.height)
        return delta

    return change(result.node, ids)


def rows_of(result: Table, over: Table, rows: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """The rows of `result` for rows of the one source `over`."""
    return step(result, Delta(frame(over, rows))).rows.rows()


def value_of(expression: Any, types: dict[str, Any], row: dict[str, Any]) -> Any:
    """The value of an expression for one row; that for the same row among others must not differ."""
    over = table(**types)
    result = over.select(value=expression)
    values = [row[name] for name in types]
    alone = rows_of(result, over, [values])
    assert repr(rows_of(result, over, [values] * 5)) == repr(alone * 5)
    return alone[0][0]
