"""Tables: what a user chains; each method makes a node of the graph and runs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from asyncpersist.dtypes import DType
from asyncpersist.errors import GraphError, Unsupported
from asyncpersist.graph.node import Demands, OperatorNode, SourceNode
from asyncpersist.operators.await_futures import AwaitFutures
from asyncpersist.operators.concat import Concat
from asyncpersist.operators.filter import Filter
from asyncpersist.operators.operator import Operator
from asyncpersist.table.applying import calls_functions, select_applied
from asyncpersist.table.columns import column_name, new_name, outputs
from asyncpersist.table.compile import Scope, compile_columns
from asyncpersist.table.expression import ColumnExpression, ColumnReference, IdReference, as_expression
from asyncpersist.table.group import reduce_groups
from asyncpersist.table.rules import refuse_future
from asyncpersist.table.schema import Schema, schema_of

__all__ = ["GroupedTable", "Table"]

_JOINS_AND_MORE = """
    asof_join asof_join_inner asof_join_left asof_join_outer asof_join_right asof_now_join
    asof_now_join_inner asof_now_join_left cast_to_types deduplicate diff difference flatten forget
    having interpolate intersect interval_join interval_join_inner interval_join_left
    interval_join_outer interval_join_right ix ix_ref join join_inner join_left join_outer
    join_right pointer_from remove_errors restrict sort split update_cells update_id_type
    update_rows update_types window_join window_join_inner window_join_left window_join_outer
    window_join_right windowby with_id with_id_from with_universe_of
"""
_NOT_BUILT = frozenset(_JOINS_AND_MORE.split())


class Table:
    """Rows with columns, changing over time.

    ``t.a`` and ``t["a"]`` are its columns, ``t.id`` the rows' ids, ``*t`` all columns; a column that is named like a
    method is ``t["select"]``. `node` is where it comes from, `columns` its columns and their types, in order.
    """

    def __init__(self, node: SourceNode | OperatorNode) -> None:
        self.node = node
        self.columns: Mapping[str, DType] = dict(node.columns)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("node", "columns"):
            raise AttributeError(name)
        if name in _NOT_BUILT and name not in self.columns:
            return _not_built(name)
        return self[name]

    def __getitem__(self, name: Any) -> Any:
        if isinstance(name, (list, tuple)):
            return self.select(*(self[item] for item in name))
        if name == "id" if isinstance(name, str) else isinstance(name, IdReference):
            return self.id
        return ColumnReference(column_name("table", name, self._scope()), self.node)

    def __iter__(self) -> Iterator[ColumnExpression]:
        for name in self.columns:
            yield self[name]

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.columns]

    def __repr__(self) -> str:
        return f"Table({', '.join(f'{name}: {dtype}' for name, dtype in self.columns.items())})"

    @property
    def id(self) -> IdReference:
        """The rows' ids."""
        return IdReference(self.node)

    @property
    def schema(self) -> type[Schema]:
        """The columns as a schema."""
        return schema_of(self.columns)

    def column_names(self) -> list[str]:
        """The names of the columns, in order."""
        return list(self.columns)

    def keys(self) -> list[str]:
        """The same as `column_names`."""
        return list(self.columns)

    def typehints(self) -> Mapping[str, DType]:
        """The types of the columns."""
        return dict(self.columns)

    def copy(self) -> Table:
        """The same table."""
        return Table(self.node)

    def select(self, *args: Any, **kwargs: Any) -> Table:
        """A table of these columns alone: references under their own name, expressions under the keyword's.

        Raises `ColumnNotFound`, `NotRowByRow` or `GraphError`, as all methods that take expressions do.
        """
        scope = self._scope()
        return self._select(outputs("select", args, kwargs, scope))

    def with_columns(self, *args: Any, **kwargs: Any) -> Table:
        """The same columns, with these added or put in the place of those of the same name."""
        scope = self._scope()
        return self._select({**self._all(), **outputs("with_columns", args, kwargs, scope)})

    def without(self, *columns: str | ColumnReference) -> Table:
        """The same without these columns."""
        scope = self._scope()
        dropped = {column_name("without", column, scope) for column in columns}
        kept = {name: column for name, column in self._all().items() if name not in dropped}
        if not kept:
            raise GraphError(f"without: leaves no column of {', '.join(self.columns)}.")
        return self._select(kept)

    def rename(self, names_mapping: Mapping[Any, str] | None = None, **kwargs: Any) -> Table:
        """With other names: ``rename({"old": "new"})`` or ``rename(new=this.old)``."""
        if names_mapping is not None:
            if kwargs:
                raise GraphError("rename: takes a mapping or keyword arguments, not both.")
            return self.rename_by_dict(names_mapping)
        return self.rename_columns(**kwargs)

    def rename_columns(self, **kwargs: Any) -> Table:
        """With other names: ``rename_columns(new=this.old)``."""
        scope = self._scope()
        pairs = [(column_name("rename", old, scope), new) for new, old in kwargs.items()]
        if len({old for old, _ in pairs}) < len(pairs):
            raise GraphError("rename: a column gets two names. Use select for copies.")
        return self._rename(dict(pairs))

    def rename_by_dict(self, names_mapping: Mapping[Any, str]) -> Table:
        """With other names: ``rename_by_dict({"old": "new"})``."""
        if not isinstance(names_mapping, Mapping):
            raise TypeError(
                f'rename takes a dict of names, {{"old": "new"}}, or keyword arguments, new=this.old, not '
                f"{names_mapping!r}"
            )
        scope = self._scope()
        return self._rename({column_name("rename", old, scope): new for old, new in names_mapping.items()})

    def with_prefix(self, prefix: str) -> Table:
        """With `prefix` before every name."""
        return self._rename({name: prefix + name for name in self.columns})

    def with_suffix(self, suffix: str) -> Table:
        """With `suffix` after every name."""
        return self._rename({name: name + suffix for name in self.columns})

    def filter(self, filter_expression: Any) -> Table:
        """The rows for which the expression is True: neither False nor None."""
        condition = as_expression(filter_expression)
        if calls_functions(condition):
            name = "condition"
            while name in self.columns:
                name += "'"
            applied = self.with_columns(**{name: condition})
            refuse_future("filter", condition, applied.columns[name])
            return applied.filter(ColumnReference(name)).without(name)
        evaluate = compile_columns({"condition": condition}, self._scope())
        refuse_future("filter", condition, evaluate.columns["condition"])
        if evaluate.columns["condition"].kind != "bool":
            raise GraphError(f"filter: {condition!r} is {evaluate.columns['condition']}, not bool.")

        def make(demands: Demands) -> Operator:
            return Filter(evaluate, ids=demands.ids)

        return Table(
            OperatorNode(
                kind="filter",
                definition={"condition": condition.canonical()},
                inputs=(self.node,),
                columns=self.columns,
                make=make,
                input_ids=lambda ids: (ids or evaluate.uses_id,),
                keeps_append_only=True,
            )
        )

    def await_futures(self) -> Table:
        """The rows of which all that was called for has been answered: futures become columns of plain values.

        A row comes when its last answer does. A table without futures stays as it is.
        """
        if all(dtype.kind != "future" for dtype in self.columns.values()):
            return self.copy()
        futures, columns = self.columns, {name: dtype.awaited for name, dtype in self.columns.items()}

        def make(demands: Demands) -> Operator:
            return AwaitFutures(futures, ids=demands.ids)

        return Table(
            OperatorNode(
                kind="await_futures",
                definition={},
                inputs=(self.node,),
                columns=columns,
                make=make,
                input_ids=lambda ids: (ids,),
                keeps_append_only=True,
            )
        )

    def concat(self, *others: Table) -> Table:
        """The rows of all, which have the same columns; the order is this table's. Ids stay as they are."""
        return self._concat(others, reindex=False)

    def concat_reindex(self, *tables: Table) -> Table:
        """As `concat`, with new ids, so that those of different tables differ."""
        return self._concat(tables, reindex=True)

    def groupby(
        self,
        *args: Any,
        id: Any = None,
        sort_by: Any = None,
        instance: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> GroupedTable:
        """The rows in groups of equal keys, to be followed by `reduce`. Without keys there is one group.

        Keys are columns; None is a key like others. `instance` is one more key. `name` names the operator where it is
        shown, and tells it from equal ones. `id` and `sort_by` are not built yet.
        """
        if id is not None or sort_by is not None:
            raise Unsupported(f"groupby({'id' if id is not None else 'sort_by'}=...) is not built yet.")
        if kwargs:
            key = next(iter(kwargs))
            raise GraphError(f"groupby: keys are columns. Make one first: with_columns({key}=...).groupby(this.{key}).")
        scope = self._scope()
        keys = [*args, *(() if instance is None else (instance,))]
        for key in keys:
            if isinstance(key, ColumnExpression) and not isinstance(key, (ColumnReference, IdReference)):
                raise GraphError(
                    f"groupby: keys are columns, not {key!r}. Make one first: "
                    f"with_columns(key={key!r}).groupby(this.key)."
                )
        names = [column_name("groupby", key, scope) for key in keys]
        for key in names:
            refuse_future("groupby", ColumnReference(key), self.columns.get(key, DType("pointer")))
        return GroupedTable(self, list(dict.fromkeys(names)), name)

    def reduce(self, *args: Any, **kwargs: Any) -> Table:
        """One row over all rows; none while there are no rows."""
        return self.groupby().reduce(*args, **kwargs)

    def _scope(self) -> Scope:
        return Scope(self.columns, self.node)

    def _all(self) -> dict[str, ColumnExpression]:
        return {name: IdReference() if name == "id" else ColumnReference(name) for name in self.columns}

    def _rename(self, names: Mapping[str, str]) -> Table:
        renamed: dict[str, ColumnExpression] = {}
        for old, column in self._all().items():
            new = new_name("rename", names[old]) if old in names else old
            if new in renamed:
                raise GraphError(f"rename: there would be two columns {new!r}.")
            renamed[new] = column
        return self._select(renamed)

    def _select(self, named: Mapping[str, ColumnExpression]) -> Table:
        return Table(select_applied(self.node, self._scope(), named))

    def _concat(self, others: tuple[Table, ...], *, reindex: bool) -> Table:
        where = "concat_reindex" if reindex else "concat"
        for other in others:
            if not isinstance(other, Table):
                raise GraphError(f"{where}: takes tables, not {other!r}.")
            if set(other.columns) != set(self.columns):
                raise GraphError(
                    f"{where}: the tables have different columns: {', '.join(self.columns)} here, "
                    f"{', '.join(other.columns)} there."
                )
        tables = (self, *others)
        columns = {name: _merged(where, name, [table.columns[name] for table in tables]) for name in self.columns}

        def make(demands: Demands) -> Operator:
            return Concat(columns, ids=demands.ids, reindex=reindex)

        return Table(
            OperatorNode(
                kind="concat",
                definition={"reindex": reindex},
                inputs=tuple(table.node for table in tables),
                columns=columns,
                make=make,
                input_ids=lambda ids: (ids,) * len(tables),
                keeps_append_only=True,
            )
        )


class GroupedTable:
    """Rows in groups; made by `Table.groupby`."""

    def __init__(self, table: Table, keys: list[str], name: str | None) -> None:
        self._table = table
        self._keys = keys
        self._name = name

    def reduce(self, *args: Any, **kwargs: Any) -> Table:
        """One row for each group: keys under their own name, expressions of keys and `reducers` under the keyword's.

        Raises `GraphError` for a column that is neither a key nor inside a reducer.
        """
        table = self._table
        scope = Scope(table.columns, table.node)
        named = outputs("reduce", args, kwargs, scope)
        return Table(reduce_groups(table.node, scope, self._keys, named, self._name))


def _merged(where: str, name: str, dtypes: list[DType]) -> DType:
    kinds = {(dtype.kind, dtype.args) for dtype in dtypes}
    if kinds == {("int", ()), ("float", ())}:
        merged = DType("float")
    elif len(kinds) == 1:
        merged = DType(dtypes[0].kind, args=dtypes[0].args)
    else:
        raise GraphError(f"{where}: the column {name!r} has different types: {', '.join(map(str, dtypes))}.")
    return merged.as_optional() if any(dtype.optional for dtype in dtypes) else merged


def _not_built(name: str) -> Callable[..., NoReturn]:
    def method(*args: Any, **kwargs: Any) -> NoReturn:
        raise Unsupported(f"Table.{name} is not built yet.")

    return method
