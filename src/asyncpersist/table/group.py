"""From reducers within expressions to nodes: inputs computed, groups reduced, results computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from asyncpersist.dtypes import DType
from asyncpersist.errors import GraphError
from asyncpersist.graph.node import Demands, OperatorNode, SourceNode
from asyncpersist.operators.group_by import GroupBy
from asyncpersist.operators.operator import Operator
from asyncpersist.operators.reducers.reduction import NEEDS_ID, Reduction
from asyncpersist.table.application import Application, meaning_of
from asyncpersist.table.applying import select_applied
from asyncpersist.table.comparison import ORDERED
from asyncpersist.table.compile import Scope
from asyncpersist.table.expression import (
    Call,
    ColumnExpression,
    ColumnReference,
    IdReference,
    PolarsExpression,
    ReducerExpression,
    parts,
)
from asyncpersist.table.row_by_row import columns_of, no_column
from asyncpersist.table.rules import refuse_future

__all__ = ["reduce_groups"]

_TAKES = {
    "sum": frozenset({"int", "float", "duration"}),
    "avg": frozenset({"int", "float", "duration"}),
    "min": ORDERED,
    "max": ORDERED,
    "argmin": ORDERED,
    "argmax": ORDERED,
    "sorted_tuple": ORDERED,
}
"""The kinds a reducer takes, if not all."""


def reduce_groups(
    node: SourceNode | OperatorNode,
    scope: Scope,
    keys: list[str],
    named: Mapping[str, ColumnExpression],
    name: str | None,
) -> OperatorNode:
    """The node whose rows are `named` for every group of rows of `node` with equal `keys`.

    A reducer over something else than a column gets a `select` below the groups; results that are not just
    keys and reducers get one above.
    """
    plan = _Plan(scope, keys)
    results = {output: plan.result(output, expression) for output, expression in named.items()}
    if plan.computed:
        plain = {key: ColumnReference(key) for key in dict.fromkeys([*keys, *plan.plain])}
        node = select_applied(node, scope, {**plain, **plan.computed})
    grouped = _group_node(node, keys, plan, name)
    kept = {output: result.name for output, result in results.items() if isinstance(result, ColumnReference)}
    if len(kept) == len(results) and list(kept) == list(kept.values()) == list(grouped.columns):
        return grouped
    return select_applied(grouped, Scope(grouped.columns, grouped), results)


def _group_node(node: SourceNode | OperatorNode, keys: list[str], plan: _Plan, name: str | None) -> OperatorNode:
    columns = {key: node.columns[key] for key in keys}
    reductions = []
    for output, reducer, source in plan.reducers:
        dtype = None if source is None else node.columns[source]
        _check(reducer, dtype)
        reductions.append(Reduction(output, reducer.kind, source, dtype, reducer.skip_nones))
    need_ids = any(reduction.kind in NEEDS_ID for reduction in reductions)

    def make(demands: Demands) -> Operator:
        return GroupBy(columns, reductions, ids=demands.ids, append_only=demands.append_only)

    return OperatorNode(
        kind="group_by",
        definition={
            "keys": list(keys),
            "reductions": [[r.output, r.kind, r.input, r.skip_nones] for r in reductions],
        },
        inputs=(node,),
        name=name,
        columns={**columns, **{reduction.output: reduction.output_dtype for reduction in reductions}},
        make=make,
        input_ids=lambda ids: (need_ids,),
    )


@dataclass(slots=True)
class _Plan:
    """What a `reduce` needs: `reducers` as (output, reducer, input column), `computed` inputs, `plain` ones."""

    scope: Scope
    keys: list[str]
    reducers: list[tuple[str, ReducerExpression, str | None]] = field(default_factory=list)
    computed: dict[str, ColumnExpression] = field(default_factory=dict)
    plain: list[str] = field(default_factory=list)
    _made: dict[str, str] = field(default_factory=dict)
    _inputs: dict[str, str] = field(default_factory=dict)
    _above_calls: dict[int, tuple[Application, Application]] = field(default_factory=dict)
    """By the ids of calls over groups, these, which stay alive so, and what stands for each: one for one."""

    def result(self, output: str, expression: ColumnExpression) -> ColumnExpression:
        """`expression` over the columns of the groups: keys, and one for each different reducer."""
        if isinstance(expression, ReducerExpression):
            return ColumnReference(self._reducer(expression, output))
        return self._above(expression)

    def _above(self, expression: ColumnExpression) -> ColumnExpression:
        match expression:
            case ReducerExpression():
                return ColumnReference(self._reducer(expression, None))
            case ColumnReference(name=name):
                self.scope.own(expression)
                self._refuse_others([name], expression)
                return ColumnReference(name)
            case IdReference():
                self.scope.own(expression)
                self._refuse_others(["id"], expression)
                return expression
            case PolarsExpression(expr=expr):
                self._refuse_others(columns_of(expr), expression)
                return expression
            case Call(op=op, args=args, options=options):
                return Call(op, tuple(map(self._above, args)), options)
            case Application(function=function, args=args, keywords=keywords):
                if id(expression) not in self._above_calls:
                    above = Application(function, tuple(map(self._above, args)), keywords)
                    self._above_calls[id(expression)] = (expression, above)
                return self._above_calls[id(expression)][1]
            case _:
                return expression

    def _refuse_others(self, names: Iterable[str], expression: ColumnExpression) -> None:
        for name in names:
            if name in self.keys:
                continue
            if name != "id" and name not in self.scope.columns:
                raise no_column(name, self.scope.columns, f"reduce: {expression!r}")
            keys = f"The group keys are: {', '.join(self.keys)}." if self.keys else "There are no group keys."
            raise GraphError(
                f"reduce: {expression!r} differs within a group: put {name!r} inside a reducer, or group by it. {keys}"
            )

    def _reducer(self, reducer: ReducerExpression, output: str | None) -> str:
        """The column of the groups that holds `reducer`."""
        if any(isinstance(part, ReducerExpression) for arg in reducer.args for part in parts(arg)):
            raise GraphError(f"{reducer!r}: a reducer cannot stand inside another one. Use two steps.")
        meaning = meaning_of(reducer)
        if meaning not in self._made:
            taken = {*self.keys, *self._made.values()}
            wanted = output if output is not None and output not in taken else f"reducers.{reducer.kind}"
            name = _free(wanted, taken)
            source = self._input(reducer.args[0]) if reducer.args else None
            self._made[meaning] = name
            self.reducers.append((name, reducer, source))
        return self._made[meaning]

    def _input(self, argument: ColumnExpression) -> str:
        """The column below the groups that holds a reducer's argument."""
        if isinstance(argument, ColumnReference):
            self.scope.own(argument)
            if argument.name not in self.scope.columns:
                raise no_column(argument.name, self.scope.columns, repr(argument))
            self.plain.append(argument.name)
            return argument.name
        meaning = meaning_of(argument)
        if meaning not in self._inputs:
            name = _free("reducers.input", {*self.scope.columns, *self.computed})
            self._inputs[meaning] = name
            self.computed[name] = argument
        return self._inputs[meaning]


def _free(wanted: str, taken: set[str]) -> str:
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted}.{number}", number + 1
    return name


def _check(reducer: ReducerExpression, dtype: DType | None) -> None:
    if dtype is not None:
        refuse_future(repr(reducer), reducer.args[0], dtype)
    kinds = _TAKES.get(reducer.kind)
    if dtype is not None and kinds is not None and dtype.kind not in kinds:
        raise GraphError(
            f"{reducer!r}: {reducer.args[0]!r} is {dtype}; {reducer.kind} takes {', '.join(sorted(kinds))}."
        )
