"""Which Polars expressions work row by row, found by walking their tree.

How rows fall into epochs must never show, so a value may depend on its own row alone. The tree is what
Polars itself serializes. All that is not on the lists of `polars_functions` is refused: what aggregates,
orders, windows or draws lots, what is opaque Python, and what a newer Polars may bring. Of what is on them some
is refused for what it is given: a column that would be searched in all rows, or no format to go by.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import polars as pl

from asyncpersist.errors import ColumnNotFound, NotRowByRow
from asyncpersist.table.polars_functions import FAMILIES, LEAVES, NODES, WHY, WITHIN_LIST

__all__ = ["canonical", "check", "columns_of", "expand", "no_column"]


_TAKES_SERIES = frozenset(["Replace", "ReplaceStrict", "Business"])


def check(expr: pl.Expr, columns: Mapping[str, pl.DataType]) -> None:
    """Refuses what is not row by row with `NotRowByRow`, and names beside `columns` with `ColumnNotFound`."""
    _Walk(str(expr), columns).visit(_tree(expr))


def columns_of(expr: pl.Expr) -> list[str]:
    """The columns a checked expression reads, each once."""
    return [name for name in dict.fromkeys(expr.meta.root_names()) if name]


def expand(expr: pl.Expr, schema: pl.Schema) -> list[str] | None:
    """The columns that a bare selector (``pl.all()``, ``pl.col("a", "b")``) stands for; None if `expr` is none."""
    tree = _tree(expr)
    if not isinstance(tree, dict) or "Selector" not in tree:
        return None
    try:
        return pl.DataFrame(schema=schema).lazy().select(expr).collect_schema().names()
    except pl.exceptions.ColumnNotFoundError as exc:
        raise ColumnNotFound(f"{expr}: there is no such column. There are: {', '.join(schema)}.") from exc


def no_column(name: str, columns: Collection[str], where: str) -> ColumnNotFound:
    """The refusal of a column that is not there."""
    return ColumnNotFound(f"{where}: there is no column {name!r}. There are: {', '.join(columns) or 'none'}.")


def canonical(expr: pl.Expr) -> Any:
    """The expression as plain JSON: its tree, in which literals of several values are written out."""
    tree = _readable(_tree(expr))
    # JSON has no NaN and no infinities: there the text tells them apart.
    return [tree, str(expr)] if '"Float": null' in json.dumps(tree) else tree


def _tree(expr: pl.Expr) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return json.loads(expr.meta.serialize(format="json"))
    except (pl.exceptions.PolarsError, ValueError) as exc:
        raise NotRowByRow(
            f"{expr}: holds Python code or something else that cannot be looked into, so that nothing shows whether "
            "it works row by row."
        ) from exc


def _expression(node: Any) -> pl.Expr:
    """The expression of which `node` is the tree."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pl.Expr.deserialize(io.StringIO(json.dumps(node)), format="json")


def _is_packed(node: dict[str, Any]) -> bool:
    """Whether a literal is stored in a form that versions of Polars do not share."""
    literal = node["Literal"]
    return "Series" in literal or (
        "Scalar" in literal and isinstance(literal["Scalar"], dict) and "List" in literal["Scalar"]
    )


def _readable(tree: Any) -> Any:
    if isinstance(tree, list):
        return [_readable(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if isinstance(tree.get("Literal"), dict) and _is_packed(tree):
        values = pl.select(_expression(tree)).to_series()
        return {"Literal": [str(values.dtype), repr(values.to_list())]}
    return {name: _readable(item) for name, item in tree.items()}


class _Walk:
    def __init__(self, text: str, columns: Mapping[str, pl.DataType]) -> None:
        self._text = text
        self._columns = columns

    def visit(self, node: Any, *, within_list: bool = False, series: bool = False) -> None:
        """Refuses what must not be at `node` or below. `series`: a literal of several values is fine here."""
        kind: Any = node
        body: Any = None
        if isinstance(node, dict) and len(node) == 1:
            kind, body = next(iter(node.items()))
        match kind:
            case "Column":
                # Within a list Polars writes an item now and then as the column without a name.
                if body not in self._columns and not (within_list and body == ""):
                    raise no_column(body, self._columns, self._text)
            case "Literal":
                if "Series" in body and not series:
                    raise self._refusal("a Series stands for several rows; give a single value or a list instead")
            case "Element" | "Len" if within_list:
                pass
            case "Field":
                pass
            case "Alias":
                self.visit(body[0], within_list=within_list)
            case "RenameAlias" | "Cast":
                self.visit(body["expr"], within_list=within_list)
            case "KeepName":
                self.visit(body, within_list=within_list)
            case "BinaryExpr":
                self._visit_all((body["left"], body["right"]), within_list)
            case "Ternary":
                self._visit_all((body["predicate"], body["truthy"], body["falsy"]), within_list)
            case "Function":
                self._function(body, within_list)
            case "Eval":
                if body["variant"] not in ("List", "ListAgg", "Array", "ArrayAgg") and not (
                    isinstance(body["variant"], dict) and "Array" in body["variant"]
                ):
                    raise self._refusal("it evaluates over the rows so far")
                self.visit(body["expr"], within_list=within_list)
                self.visit(body["evaluation"], within_list=True)
            case "StructEval":
                self.visit(body["expr"], within_list=within_list)
                self._visit_all(body["evaluation"], within_list)
            case "Agg" | "Sort" | "SortBy" | "Filter" | "Slice" | "Gather" | "Explode" if within_list:
                self._visit_all(_nested(body), True)
            case "Selector":
                raise self._refusal(
                    "a selector within an expression may stand for several columns; write one expression for each"
                )
            case _:
                why = WHY.get(str(kind), f"uses {kind!r}, which is not known to work row by row")
                raise self._refusal(f"it {why}")

    def _visit_all(self, nodes: Any, within_list: bool) -> None:
        for node in nodes:
            self.visit(node, within_list=within_list)

    def _function(self, body: Any, within_list: bool) -> None:
        function = body["function"]
        name: Any = function
        inner: Any = None
        if isinstance(function, dict):
            name, inner = next(iter(function.items()))
        if name in FAMILIES:
            member = inner if isinstance(inner, str) else next(iter(inner), None)
            if member not in FAMILIES[name] and not (within_list and f"{name}.{member}" in WITHIN_LIST):
                raise self._refusal(f"the function {name}.{member} is not known to work row by row")
        elif name not in LEAVES and not (within_list and name in WITHIN_LIST):
            raise self._refusal(f"it {WHY.get(name, f'uses the function {name}, which does not work row by row')}")
        inputs = body["input"]
        self._arguments(name, inner, inputs, within_list)
        for at, node in enumerate(inputs):
            # What is replaced by what, and the holidays, which come last, are the same for every row.
            series = at in (1, 2) if name in ("Replace", "ReplaceStrict") else at == len(inputs) - 1
            self.visit(node, within_list=within_list, series=series and name in _TAKES_SERIES)

    def _arguments(self, name: str, inner: Any, inputs: list[Any], within_list: bool) -> None:
        """Refuses functions on the lists that look at more than the row, or guess, for what they are given."""
        match name, inner:
            case "Boolean", {"IsIn": _} if not within_list:
                searched = inputs[1]
                if not _is_literal(searched) and not 0 <= self._depth(inputs[0]) < self._depth(searched):
                    raise self._refusal(
                        "is_in looks for the value among those of all rows; give it a list, or a column of lists"
                    )
            case (("Replace" | "ReplaceStrict"), _) if not within_list:
                if not all(map(_is_literal, inputs[1:3])):
                    raise self._refusal("what is replaced by what would be taken from all rows; give it as values")
            case "Business", _ if not _is_literal(inputs[-1]):
                raise self._refusal("the holidays would be taken from all rows; give them as dates")
            case "StringExpr", {"Strptime": [_, {"format": None}]}:
                raise self._refusal("the format would be guessed from the rows that come together: give the format")
            case "Mode", {"maintain_order": False}:
                raise self._refusal("the order of what mode gives is random; give it maintain_order=True")
            case "Rank", {"options": {"method": "Random"}}:
                raise self._refusal("it draws lots")
            case "Bin", {"method": method}:
                if "Breaks" not in method.get("Intervals", {}).get("spec", {}):
                    raise self._refusal("where the bins end would depend on all rows; give the breaks")

    def _depth(self, node: Any) -> int:
        """How many lists its values lie in, -1 if that cannot be told."""
        try:
            over = pl.LazyFrame(schema=self._columns)
            found: Any = over.select(_expression(node).alias("value")).collect_schema()["value"]
        except (pl.exceptions.PolarsError, ValueError):
            return -1
        depth = 0
        while isinstance(found, (pl.List, pl.Array)):
            depth += 1
            found = found.inner
        return depth

    def _refusal(self, why: str) -> NotRowByRow:
        return NotRowByRow(
            f"{self._text}: {why}. An expression here sees one row; what looks at several belongs into "
            "groupby(...).reduce(...)."
        )


def _is_literal(node: Any) -> bool:
    match node:
        case {"Literal": _}:
            return True
        case {"Cast": {"expr": inner}} | {"Alias": [inner, _]}:
            return _is_literal(inner)
    return False


def _nested(body: Any) -> Iterator[Any]:
    """The expressions among the parts of a node."""
    parts = body.values() if isinstance(body, dict) else body if isinstance(body, list) else ()
    if isinstance(body, dict) and len(body) == 1 and next(iter(body)) in NODES:
        yield body
        return
    for part in parts:
        if part in ("Element", "Len"):
            yield part
        elif isinstance(part, (dict, list)):
            yield from _nested(part)
