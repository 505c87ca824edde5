"""From expressions to one Polars `select`: names resolved, types found, failing rows noted.

Everything that can be refused without data is refused here, while the graph is built.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec
import polars as pl

from asyncpersist.columnar.delta import ID
from asyncpersist.dtypes import DType, Pointer
from asyncpersist.errors import GraphError, RowError
from asyncpersist.graph.node import Node
from asyncpersist.table import (  # noqa: F401  (they register their rules)
    arithmetic,
    comparison,
    conditional,
    conversion,
    datetime_rules,
    string_rules,
)
from asyncpersist.table.expression import (
    Call,
    ColumnExpression,
    ColumnReference,
    IdReference,
    Literal,
    PolarsExpression,
    ReducerExpression,
    as_expression,
    parts,
)
from asyncpersist.table.row_by_row import check, columns_of, no_column
from asyncpersist.table.rules import NONE, RULES, Check, Value, refuse_future

__all__ = ["Evaluator", "Scope", "compile_columns", "read_columns"]

_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True)
class Scope:
    """The table whose rows an expression sees."""

    columns: Mapping[str, DType]
    node: Node | None = None

    def own(self, reference: ColumnReference | IdReference) -> None:
        """Refuses a reference to another table."""
        if reference.node is not None and reference.node is not self.node:
            raise GraphError(
                f"{reference!r} belongs to another table than the one it is used on, whose columns are "
                f"{', '.join(self.columns)}. Name the column through this, or do it in one step."
            )

    def schema(self) -> pl.Schema:
        """The columns as Polars types."""
        return pl.Schema({name: dtype.polars for name, dtype in self.columns.items()})


@dataclass(frozen=True, slots=True)
class Evaluator:
    """Expressions over a table's columns, ready to run.

    `columns` are the results, in order. `uses_id`: the input must carry ids. `picks`: where results are
    nothing but input columns, which; calling is then not needed.
    """

    columns: Mapping[str, DType]
    uses_id: bool
    picks: Mapping[str, str] | None
    exprs: tuple[pl.Expr, ...]
    reads: list[str]
    checks: tuple[Check, ...]
    text: str

    def __call__(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The results for every row of `frame`, exactly of the types of `columns`, however rows are batched.

        Raises `RowError`, naming the expression and the values of the row, where a row has no value.
        """
        frame, height = _uniform(frame[self.reads]), frame.height
        try:
            result = frame.select(self.exprs)
        except pl.exceptions.PolarsError as exc:
            raise RowError(f"{self.text}: has no value for some row: {exc}") from exc
        for i, made in enumerate(self.checks):
            if frame.height and result[f"__check{i}"][0]:
                raise _row_error(frame, made)
        return result.select(list(self.columns)).head(height)


@dataclass(frozen=True, slots=True)
class _Compiler:
    """One walk over an expression; satisfies `Context`."""

    scope: Scope
    checks: list[Check] = field(default_factory=list)
    guard: pl.Expr | None = None

    def under(self, condition: pl.Expr) -> _Compiler:
        guard = condition if self.guard is None else self.guard & condition
        return _Compiler(self.scope, self.checks, guard)

    def fails(self, call: ColumnExpression, failed: pl.Expr, why: str) -> None:
        self.checks.append(Check(failed if self.guard is None else self.guard & failed, call, why))

    def value(self, expression: ColumnExpression) -> Value:
        match expression:
            case ColumnReference(name=name):
                self.scope.own(expression)
                dtype = self.scope.columns.get(name)
                if dtype is None:
                    raise no_column(name, self.scope.columns, repr(expression))
                return Value(pl.col(name), dtype)
            case IdReference():
                self.scope.own(expression)
                # A column "id" can only have come from `this.id` in a select above.
                return Value(pl.col("id" if "id" in self.scope.columns else ID), DType("pointer"))
            case Literal():
                return self._literal(expression)
            case PolarsExpression(expr=expr):
                return self._polars(expr)
            case Call(op=op):
                return RULES[op](self, expression)
            case ReducerExpression():
                raise GraphError(f"{expression!r} is a value over many rows: it stands only in reduce(...).")
            case _:
                raise GraphError(f"{expression!r} is no expression over columns.")

    def _literal(self, literal: Literal) -> Value:
        value = literal.value
        match value:
            case None:
                return Value(pl.lit(None), NONE)
            case bool():
                return Value(pl.lit(value, dtype=pl.Boolean), DType("bool"), value)
            case Pointer():
                return Value(pl.lit(int(value), dtype=pl.UInt128), DType("pointer"), value)
            case int():
                if value not in _INT64:
                    raise GraphError(f"{value} does not fit 64 bits.")
                return Value(pl.lit(value, dtype=pl.Int64), DType("int"), value)
            case float():
                return Value(pl.lit(value, dtype=pl.Float64), DType("float"), value)
            case str():
                return Value(pl.lit(value, dtype=pl.String), DType("str"), value)
            case bytes():
                return Value(pl.lit(value, dtype=pl.Binary), DType("bytes"), value)
            case datetime.datetime():
                if value.tzinfo is not None:
                    value = value.astimezone(datetime.UTC)
                    return Value(pl.lit(value).cast(pl.Datetime("us", "UTC")), DType("utc_datetime"), value)
                return Value(pl.lit(value).cast(pl.Datetime("us")), DType("naive_datetime"), value)
            case datetime.timedelta():
                return Value(pl.lit(value).cast(pl.Duration("us")), DType("duration"), value)
            case dict():
                text = msgspec.json.encode(value).decode()
                return Value(pl.lit(text, dtype=pl.String), DType("json"), value)
            case tuple():
                made = self.value(Call("make_tuple", tuple(map(as_expression, value))))
                return Value(made.expr, made.dtype, value)
            case _:
                return self._list(literal)

    def _list(self, literal: Literal) -> Value:
        items = [self.value(as_expression(item)) for item in literal.value]
        kinds = {(item.kind, item.dtype.args) for item in items if item.dtype != NONE}
        if len(kinds) != 1:
            raise GraphError(f"{literal!r}: the items of a list must be of one type, and there must be some.")
        ((kind, args),) = kinds
        dtype = DType("list", args=(DType(kind, any(item.optional for item in items), args),))
        return Value(pl.lit(literal.value, dtype=dtype.polars), dtype, literal.value)

    def _polars(self, expr: pl.Expr) -> Value:
        check(expr, self.scope.schema())
        if expr.meta.is_column():
            name = expr.meta.output_name()
            return Value(expr, self.scope.columns[name])
        # Run over no rows: Polars finds some errors of type only then.
        try:
            types = pl.DataFrame(schema=self.scope.schema()).select(expr.alias("value")).dtypes
        except pl.exceptions.PolarsError as exc:
            raise GraphError(f"{expr}: {exc}") from exc
        if types[0] == pl.Null:
            return Value(pl.lit(None), NONE)
        dtype = DType.from_polars(types[0], where=str(expr))
        return Value(expr if types[0] == dtype.polars else expr.cast(dtype.polars), dtype)


def compile_columns(outputs: Mapping[str, ColumnExpression], scope: Scope) -> Evaluator:
    """One evaluator for all of `outputs`.

    Raises `ColumnNotFound`, `NotRowByRow`, or `GraphError` for types that do not fit; each message shows
    the expression.
    """
    compiler = _Compiler(scope)
    columns: dict[str, DType] = {}
    exprs: list[pl.Expr] = []
    for name, expression in outputs.items():
        _refuse_futures_within(expression, scope)
        value = compiler.value(expression)
        if value.dtype == NONE:
            raise GraphError(
                f"{name}={expression!r}: is None for every row. Give it a type: declare_type(int | None, None)."
            )
        columns[name] = value.dtype
        exprs.append(value.expr.alias(name))
    picks = _picks(outputs)
    uses_id = "id" not in scope.columns and any(
        isinstance(part, IdReference) for expression in outputs.values() for part in parts(expression)
    )
    exprs = _exact(exprs, columns, scope)
    exprs += [made.failed.any().alias(f"__check{i}") for i, made in enumerate(compiler.checks)]
    if not any(columns_of(expr) for expr in exprs[: len(columns)]):
        # Literals alone are one row, whatever the height of the input.
        exprs.append(pl.col(next(iter(scope.columns))).alias("__height"))
    reads = list(dict.fromkeys(name for expr in exprs for name in columns_of(expr)))
    text = ", ".join(f"{name}={expression!r}" for name, expression in outputs.items())
    return Evaluator(columns, uses_id, picks, tuple(exprs), reads, tuple(compiler.checks), text)


def read_columns(expression: ColumnExpression) -> Iterable[str]:
    """The names of the columns it reads."""
    for part in parts(expression):
        if isinstance(part, ColumnReference):
            yield part.name
        elif isinstance(part, PolarsExpression):
            yield from columns_of(part.expr)


def _refuse_futures_within(expression: ColumnExpression, scope: Scope) -> None:
    if _picked(expression) is None:
        for name in read_columns(expression):
            if name in scope.columns:
                refuse_future(repr(expression), ColumnReference(name), scope.columns[name])


def _picked(expression: ColumnExpression) -> str | None:
    """The column that the expression is, if it is nothing else."""
    if isinstance(expression, ColumnReference):
        return expression.name
    if isinstance(expression, PolarsExpression) and expression.expr.meta.is_column():
        return expression.expr.meta.output_name()
    return None


def _picks(outputs: Mapping[str, ColumnExpression]) -> Mapping[str, str] | None:
    picks: dict[str, str] = {}
    for name, expression in outputs.items():
        if (picked := _picked(expression)) is None:
            return None
        picks[name] = picked
    return picks


def _exact(exprs: list[pl.Expr], columns: Mapping[str, DType], scope: Scope) -> list[pl.Expr]:
    """Casts what comes out of Polars narrower or wider than the column's own type."""
    schema = scope.schema()
    schema[ID] = pl.UInt128()
    try:
        found = pl.DataFrame(schema=schema).select(exprs).schema
    except pl.exceptions.PolarsError as exc:
        raise GraphError(f"{', '.join(columns)}: {exc}") from exc
    return [
        expr if found[name] == dtype.polars else expr.cast(dtype.polars)
        for expr, (name, dtype) in zip(exprs, columns.items(), strict=True)
    ]


def _uniform(frame: pl.DataFrame) -> pl.DataFrame:
    """The same rows, lying so that Polars takes one path for all of them.

    It divides by a literal otherwise where a chunk is one row long, and takes a column of one repeated value for a
    literal: the last bit of a float would tell how rows were batched, and a retraction would miss what it retracts.
    """
    if frame.height == 1:
        frame = frame.vstack(frame)
    return pl.DataFrame(frame.rechunk().get_columns())


def _row_error(frame: pl.DataFrame, made: Check) -> RowError:
    """The first row that failed, told by the values the expression reads."""
    names = list(dict.fromkeys(read_columns(made.expression)))
    guarded = frame.select(made.failed.alias("failed"))["failed"]
    at = 0 if guarded.len() == 1 else guarded.fill_null(False).arg_max() or 0
    row = frame.select(names).row(at, named=True) if names else {}
    values = ", ".join(f"{name}={value!r}" for name, value in row.items())
    return RowError(f"{made.expression!r}: {made.why}" + (f", in the row with {values}." if values else "."))
