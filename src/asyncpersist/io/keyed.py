"""The table of a source with a primary key."""

from __future__ import annotations

from collections.abc import Sequence

from asyncpersist.errors import SchemaError
from asyncpersist.graph.node import Demands, OperatorNode, SourceNode
from asyncpersist.operators.last_read import LastRead
from asyncpersist.operators.operator import Operator
from asyncpersist.operators.upsert import Upsert

__all__ = ["keyed"]


def keyed(node: SourceNode, primary_key: Sequence[str], *, replaces: bool) -> OperatorNode:
    """The node whose rows are those of `node`, which is `ordered`, one for each value of `primary_key`.

    With `replaces` a row replaces the one before it under its key, and a row of negative weight removes it. Without,
    the row read last counts of those that are there, so that another one comes back when it is taken back. Ids follow
    from the key.

    Raises `SchemaError` for a key of no columns or of one that there is not.
    """
    key = list(primary_key)
    unknown = [name for name in key if name not in node.columns]
    if unknown or not key:
        wrong = f"there is no column {unknown[0]!r}" if unknown else "it needs at least one column"
        raise SchemaError(f"a primary key of {key}: {wrong}. There are: {', '.join(node.columns)}.")
    if not node.ordered:
        raise ValueError("a source with a primary key must be ordered: SourceNode(ordered=True)")
    columns = node.columns

    def make(demands: Demands) -> Operator:
        # What is never taken back never has to come back.
        kind = Upsert if replaces or demands.append_only else LastRead
        return kind(columns, key, ids=demands.ids)

    return OperatorNode(
        kind="upsert",
        definition={"primary_key": key, "replaces": replaces},
        inputs=(node,),
        columns=columns,
        make=make,
        input_ids=lambda ids: (False,),
    )
