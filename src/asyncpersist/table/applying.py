"""Functions of users within expressions become nodes.

A call cannot be a part of a Polars expression, so the expressions around it are cut: below it a `select` computes its
arguments, then the function is applied, then a `select` above computes the rest. Calls that need nothing of each other
stand in one node, and go on side by side. A call in a branch is made for the rows that take the branch, and no others.
A function that answers later has a node of its own, above those of all others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from asyncpersist.dtypes import DType
from asyncpersist.errors import GraphError
from asyncpersist.graph.node import Demands, OperatorNode, SourceNode, identifiable
from asyncpersist.operators import calls
from asyncpersist.operators.apply import Apply
from asyncpersist.operators.apply_later import ApplyLater
from asyncpersist.operators.operator import Operator
from asyncpersist.table.application import Application, Bound, meaning_of
from asyncpersist.table.compile import Scope, compile_columns, read_columns
from asyncpersist.table.expression import Call, ColumnExpression, ColumnReference, IdReference, Literal, parts
from asyncpersist.table.rules import refuse_future
from asyncpersist.table.selection import select_node

__all__ = ["calls_functions", "select_applied"]


@dataclass(frozen=True, slots=True)
class _Piece:
    """One call that was cut out, as the column `output`; its arguments are expressions over the columns before it.

    `depth` is how many calls come before it; `where` says for which rows it is made, None: all. `pending`: the column
    is a future, whose value is of type `dtype`.
    """

    output: str
    dtype: DType
    function: Bound
    args: tuple[ColumnExpression, ...]
    where: ColumnExpression | None
    depth: int
    pending: bool


@dataclass(slots=True)
class _Wheres:
    """For which rows each call is needed, by its meaning: some of conditions, over the table, or None: for all."""

    found: dict[str, dict[str, ColumnExpression] | None] = field(default_factory=dict)

    def find(self, expression: ColumnExpression, where: ColumnExpression | None) -> None:
        """Looks for calls in an expression that is needed for the rows `where`, None: for all."""
        if isinstance(expression, Application):
            known = self.found.setdefault(expression.meaning, {})
            if where is None:
                self.found[expression.meaning] = None
            elif known is not None:
                known[meaning_of(where)] = where
        for part, condition in _branches(expression, where):
            self.find(part, condition)

    def where(self, application: Application) -> ColumnExpression | None:
        """The rows that need a call; None: all."""
        conditions = self.found[application.meaning]
        if conditions is None:
            return None
        first, *others = conditions.values()
        for other in others:
            first = Call("if_else", (first, Literal(True), other))
        return first


def _branches(
    expression: ColumnExpression, where: ColumnExpression | None
) -> Iterator[tuple[ColumnExpression, ColumnExpression | None]]:
    """The parts of an expression, and the rows for which each is needed, if it is for the rows `where`."""
    match expression:
        case Call(op="if_else", args=(clause, then, other)):
            holds = Call("coalesce", (clause, Literal(False)))
            yield clause, where
            yield then, _both(where, holds)
            yield other, _both(where, Call("invert", (holds,)))
        case Call(op="coalesce", args=args):
            for arg in args:
                yield arg, where
                where = _both(where, Call("is_none", (arg,)))
        case Call(op="require", args=(first, *deps)):
            yield from ((dep, where) for dep in deps)
            for dep in deps:
                where = _both(where, Call("is_not_none", (dep,)))
            yield first, where
        case _:
            yield from ((child, where) for child in expression.children)


@dataclass(slots=True)
class _Cut:
    """Takes calls out of expressions over a table. `columns` grow by theirs."""

    scope: Scope
    wheres: _Wheres
    columns: dict[str, DType]
    pieces: list[_Piece] = field(default_factory=list)
    _made: dict[str, ColumnExpression] = field(default_factory=dict)
    _depths: dict[str, int] = field(default_factory=dict)

    def rewritten(self, expression: ColumnExpression) -> ColumnExpression:
        """The expression with references in the place of calls."""
        match expression:
            case Application():
                meaning = expression.meaning
                if meaning not in self._made:
                    self._made[meaning] = self._call(expression)
                return self._made[meaning]
            case ColumnReference(name=name):
                self.scope.own(expression)
                return ColumnReference(name)
            case IdReference():
                self.scope.own(expression)
                # A column "id" can only have come from `this.id` in a select above.
                return ColumnReference("id") if "id" in self.scope.columns else IdReference()
            case Call(op=op, args=args, options=options):
                return Call(op, tuple(map(self.rewritten, args)), options)
            case _:
                return expression

    def _call(self, application: Application) -> ColumnExpression:
        needed = self.wheres.where(application)
        where = None if needed is None else self.rewritten(needed)
        args = tuple(map(self.rewritten, application.args))
        # What is computed here may rest on columns that the calls before it have made.
        scope = Scope(self.columns)
        takes = tuple(compile_columns({"argument": arg}, scope).columns["argument"] for arg in args)
        for arg, taken in zip(args, takes, strict=True):
            refuse_future(repr(application), arg, taken)
        bound = application.function.bind(takes, application.keywords)
        dtype = bound.result
        if where is not None:
            dtype = dtype.as_optional()
            # What has no value where it is not needed must not be computed there.
            args = tuple(arg if isinstance(arg, ColumnReference | Literal) else _only(where, arg) for arg in args)
        output = _free(f"call.{len(self.pieces)}", self.columns)
        depth = max(
            (self._depths[name] + 1 for name in _read([*args, *_given(where)]) & self._depths.keys()), default=0
        )
        pending = application.function.pending
        self.pieces.append(_Piece(output, dtype, bound, args, where, depth, pending))
        self.columns[output] = dtype.as_future() if pending else dtype
        self._depths[output] = depth
        reference = ColumnReference(output)
        # In its branch it has a value, which the column has not where the branch is not taken.
        return reference if dtype == bound.result else Call("unwrap", (reference,))


def calls_functions(expression: ColumnExpression) -> bool:
    """Whether there is a user's function in it."""
    return any(isinstance(part, Application) for part in parts(expression))


def select_applied(
    node: SourceNode | OperatorNode, scope: Scope, named: Mapping[str, ColumnExpression]
) -> OperatorNode:
    """The node that computes `named` over the rows of `node`, functions of users among it. Raises `GraphError`."""
    if not any(map(calls_functions, named.values())):
        return select_node(node, scope, named)
    _refuse_pending_within(named)
    wheres = _Wheres()
    for expression in named.values():
        wheres.find(expression, None)
    cut = _Cut(scope, wheres, dict(scope.columns))
    rest = {name: cut.rewritten(expression) for name, expression in named.items()}
    waited = [piece for piece in cut.pieces if not piece.pending]
    pending = [piece for piece in cut.pieces if piece.pending]
    for depth in range(1 + max((piece.depth for piece in waited), default=-1)):
        level = [piece for piece in waited if piece.depth == depth]
        above = [piece for piece in waited if piece.depth > depth]
        node = _applied(node, level, _read([*rest.values(), *_expressions([*above, *pending])]))
    for place, piece in enumerate(pending):
        node = _applied_later(node, piece, _read([*rest.values(), *_expressions(pending[place + 1 :])]))
    return select_node(node, Scope(node.columns, node), rest)


def _refuse_pending_within(named: Mapping[str, ColumnExpression]) -> None:
    for expression in named.values():
        for part in parts(expression):
            if isinstance(part, Application) and part.function.pending and part is not expression:
                raise GraphError(
                    f"{expression!r}: {part!r} gives a future, with which nothing can be computed. Select it into a "
                    "column of its own, then `await_futures()`, then go on."
                )


def _called(
    node: SourceNode | OperatorNode, level: Sequence[_Piece], later: set[str]
) -> tuple[SourceNode | OperatorNode, list[calls.Call], dict[str, DType]]:
    """A node with the columns that the calls take, the calls, and those of its columns that are read `later`."""
    made: dict[str, ColumnExpression] = {}
    names: dict[str, str] = {}

    def column(expression: ColumnExpression, wanted: str) -> str:
        if isinstance(expression, ColumnReference):
            return expression.name
        meaning = json.dumps(expression.canonical())
        if meaning not in names:
            names[meaning] = _free(f"{wanted}.{len(made)}", {**node.columns, **made})
            made[names[meaning]] = expression
        return names[meaning]

    called = [
        calls.Call(
            output=piece.output,
            dtype=piece.dtype,
            arguments=tuple(column(arg, "argument") for arg in piece.args),
            function=piece.function,
            where=None if piece.where is None else column(piece.where, "where"),
            remembered=not piece.function.deterministic,
        )
        for piece in level
    ]
    below: SourceNode | OperatorNode = node
    if made:
        # All columns: whichever others are read later is then no other node.
        kept = {name: ColumnReference(name) for name in node.columns}
        below = select_node(node, Scope(node.columns, node), {**kept, **made})
    # What only served as an argument is not carried on; there is always something to carry the rows.
    return below, called, {name: dtype for name, dtype in below.columns.items() if name in later}


def _applied(node: SourceNode | OperatorNode, level: Sequence[_Piece], later: set[str]) -> OperatorNode:
    """A node with one more column for each call, and those of `node` that are read later."""
    below, called, columns = _called(node, level, later)

    def make(demands: Demands) -> Operator:
        forgets = demands.append_only and not demands.kept
        return Apply(columns, called, ids=demands.ids, identified=identified, forgets=forgets)

    identified = identifiable(below)
    remembers = identified and any(call.remembered for call in called)
    return OperatorNode(
        kind="apply",
        definition={
            "functions": ", ".join(dict.fromkeys(call.function.name for call in called)),
            "calls": [
                [call.output, list(call.arguments), call.where, call.remembered, call.function.canonical()]
                for call in called
            ],
        },
        inputs=(below,),
        columns={**columns, **{call.output: call.dtype for call in called}},
        make=make,
        input_ids=lambda ids: (ids or remembers,),
        keeps_append_only=True,
    )


def _applied_later(node: SourceNode | OperatorNode, piece: _Piece, later: set[str]) -> OperatorNode:
    """A node with one more column, which is pending at first, and those of `node` that are read later."""
    below, (call,), columns = _called(node, [piece], later)

    def make(demands: Demands) -> Operator:
        forgets = demands.append_only and not demands.kept
        taken = {name: below.columns[name] for name in dict.fromkeys([*columns, *call.arguments])}
        return ApplyLater(taken, list(columns), call, ids=demands.ids, identified=identified, forgets=forgets)

    identified = identifiable(below)
    return OperatorNode(
        kind="apply_later",
        definition={
            "functions": call.function.name,
            "call": [call.output, list(call.arguments), call.function.canonical()],
        },
        inputs=(below,),
        columns={**columns, call.output: call.dtype.as_future()},
        make=make,
        input_ids=lambda ids: (identified,),
    )


def _expressions(pieces: Iterable[_Piece]) -> Iterable[ColumnExpression]:
    for piece in pieces:
        yield from (*piece.args, *_given(piece.where))


def _given(expression: ColumnExpression | None) -> tuple[ColumnExpression, ...]:
    return () if expression is None else (expression,)


def _read(expressions: Iterable[ColumnExpression]) -> set[str]:
    return {name for expression in expressions for name in read_columns(expression)}


def _free(wanted: str, taken: Mapping[str, object]) -> str:
    while wanted in taken:
        wanted += "'"
    return wanted


def _both(first: ColumnExpression | None, second: ColumnExpression) -> ColumnExpression:
    """Where both hold; the second is not looked at where the first does not."""
    return second if first is None else Call("if_else", (first, second, Literal(False)))


def _only(where: ColumnExpression, expression: ColumnExpression) -> ColumnExpression:
    """The expression for some rows, None for the others."""
    return Call("if_else", (where, expression, Literal(None)))
