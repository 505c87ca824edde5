"""The node of a `select`."""

from __future__ import annotations

from collections.abc import Mapping

from asyncpersist.graph.node import Demands, OperatorNode, SourceNode
from asyncpersist.operators.operator import Operator
from asyncpersist.operators.select import Select
from asyncpersist.table.compile import Scope, compile_columns
from asyncpersist.table.expression import ColumnExpression

__all__ = ["select_node"]


def select_node(node: SourceNode | OperatorNode, scope: Scope, named: Mapping[str, ColumnExpression]) -> OperatorNode:
    """The node that computes `named` over the rows of `node`."""
    evaluate = compile_columns(named, scope)

    def make(demands: Demands) -> Operator:
        return Select(evaluate.columns, evaluate, picks=evaluate.picks, ids=demands.ids)

    return OperatorNode(
        kind="select",
        definition={"columns": [[name, expression.canonical()] for name, expression in named.items()]},
        inputs=(node,),
        columns=evaluate.columns,
        make=make,
        input_ids=lambda ids: (ids or evaluate.uses_id,),
        keeps_append_only=True,
    )
