"""Which Polars expressions work row by row, found by walking their tree.

How rows fall into epochs must never show, so a value may depend on its own row alone. The tree is what
Polars itself serializes. All that is not on the lists below is refused: what aggregates, orders, windows or
draws lots, what is opaque Python, and what a newer Polars may bring.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Collection, Iterator
from typing import Any

import polars as pl

from asyncpersist.errors import ColumnNotFound, NotRowByRow

__all__ = ["canonical", "check", "columns_of", "expand", "no_column"]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_LEAVES = _names(
    """Abs Negate AsStruct Atan2 Cbrt Ceil Clip Coalesce Cut Erf Erfc Exp FillNull Floor Log Log1p
    MaxHorizontal MeanHorizontal MinHorizontal RepeatBy Replace ReplaceStrict Round RoundSF Sign
    SumHorizontal Truncate Reinterpret"""
)
"""Functions without a family."""

_FAMILIES: dict[str, frozenset[str]] = {
    "Bitwise": _names("CountOnes CountZeros LeadingOnes LeadingZeros TrailingOnes TrailingZeros"),
    "Boolean": _names(
        """AllHorizontal AnyHorizontal IsBetween IsClose IsFinite IsIn IsInfinite IsNan IsNotNan IsNotNull
    IsNull Not"""
    ),
    "Business": frozenset(["AddBusinessDay", "BusinessDayCount", "IsBusinessDay"]),
    "Pow": frozenset(["Generic", "Sqrt", "Cbrt"]),
    "Trigonometry": _names(
        """ArcCos ArcCosh ArcSin ArcSinh ArcTan ArcTanh Cos Cosh Cot Degrees Radians Sin Sinh Tan Tanh"""
    ),
    "StringExpr": _names(
        """Base64Decode Base64Encode ConcatHorizontal Contains ContainsAny CountMatches EndsWith
    EscapeRegex Extract ExtractAll ExtractGroups ExtractMany Find FindMany Format Head HexDecode
    HexEncode JsonDecode JsonPathMatch LenBytes LenChars Lowercase Normalize PadEnd PadStart Replace
    ReplaceMany Reverse Slice Split SplitExact SplitN SplitRegex StartsWith StripChars StripCharsEnd
    StripCharsStart StripPrefix StripSuffix Strptime Tail Titlecase ToDecimal ToInteger Uppercase
    ZFill"""
    ),
    "BinaryExpr": _names(
        """Base64Decode Base64Encode Contains EndsWith Get Head HexDecode HexEncode Reinterpret Size Slice
    StartsWith Tail"""
    ),
    "TemporalExpr": _names(
        """BaseUtcOffset CastTimeUnit Century Combine ConvertTimeZone DSTOffset Date DatetimeFunction Day
    DaysInMonth Duration Hour IsLeapYear IsoYear Microsecond Millennium Millisecond Minute Month
    MonthEnd MonthStart Nanosecond OffsetBy OrdinalDay Quarter Replace ReplaceTimeZone Round Second
    Time TimeStamp ToString TotalDays TotalHours TotalMicroseconds TotalMilliseconds TotalMinutes
    TotalNanoseconds TotalSeconds Truncate Week WeekDay WithTimeUnit Year"""
    ),
    "ListExpr": _names(
        """ArgMax ArgMin Concat Contains CountMatches Diff DropNulls Gather GatherEvery Get Join Length Max
    Mean Median Min SetOperation Shift Slice Sort Std Sum ToArray ToStruct Var"""
    ),
    "ArrayExpr": _names(
        """ArgMax ArgMin Concat Contains CountMatches Dot Get Join Length Max Mean Median Min Shift Slice
    Sort Std Sum ToList ToStruct Var"""
    ),
    "StructExpr": _names("Drop FieldByIndex FieldByName JsonEncode PrefixFields RenameFields SuffixFields"),
    "Categorical": frozenset(["EndsWith", "LenBytes", "LenChars", "StartsWith"]),
}

_WITHIN_LIST = _names(
    """ArgMax ArgMin ArgSort ArgUnique CumCount CumMax CumMin CumProd CumSum Diff DropNans DropNulls
    FillNullWithStrategy GatherEvery Interpolate Mode NullCount Product Quantile Rank Reverse Shift
    TopK Unique Boolean.All Boolean.Any Boolean.HasNulls Boolean.IsDuplicated Boolean.IsEmpty
    Boolean.IsFirstDistinct Boolean.IsLastDistinct Boolean.IsUnique"""
)
"""Functions over many values, which are fine over the items of one row's list."""

_WHY = {
    "Agg": "aggregates over rows",
    "Len": "counts rows",
    "Over": "is a window over rows",
    "Rolling": "is a window over rows",
    "Sort": "depends on the order of rows",
    "SortBy": "depends on the order of rows",
    "Gather": "picks rows",
    "Filter": "leaves rows out",
    "Slice": "leaves rows out",
    "Explode": "makes several rows of one",
    "AnonymousFunction": "is opaque Python",
    "AnonymousAgg": "is opaque Python",
    "Random": "draws lots",
}


def check(expr: pl.Expr, columns: Collection[str]) -> None:
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


def _values(node: dict[str, Any]) -> pl.Series:
    """What a literal node holds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        literal = pl.Expr.deserialize(io.StringIO(json.dumps(node)), format="json")
    return pl.select(literal).to_series()


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
        values = _values(tree)
        return {"Literal": [str(values.dtype), repr(values.to_list())]}
    return {name: _readable(item) for name, item in tree.items()}


class _Walk:
    def __init__(self, text: str, columns: Collection[str]) -> None:
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
                why = _WHY.get(str(kind), f"uses {kind!r}, which is not known to work row by row")
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
        if name in _FAMILIES:
            member = inner if isinstance(inner, str) else next(iter(inner), None)
            if member not in _FAMILIES[name] and not (within_list and f"{name}.{member}" in _WITHIN_LIST):
                raise self._refusal(f"the function {name}.{member} is not known to work row by row")
        elif name not in _LEAVES and not (within_list and name in _WITHIN_LIST):
            raise self._refusal(f"it {_WHY.get(name, f'uses the function {name}, which does not work row by row')}")
        for node in body["input"]:
            self.visit(node, within_list=within_list, series=name == "Business")

    def _refusal(self, why: str) -> NotRowByRow:
        return NotRowByRow(
            f"{self._text}: {why}. An expression here sees one row; what looks at several belongs into "
            "groupby(...).reduce(...)."
        )


def _nested(body: Any) -> Iterator[Any]:
    """The expressions among the parts of a node."""
    parts = body.values() if isinstance(body, dict) else body if isinstance(body, list) else ()
    if isinstance(body, dict) and len(body) == 1 and next(iter(body)) in _NODES:
        yield body
        return
    for part in parts:
        if part in ("Element", "Len"):
            yield part
        elif isinstance(part, (dict, list)):
            yield from _nested(part)


_NODES = _names(
    """Column Literal Alias RenameAlias KeepName BinaryExpr Cast Ternary Function Eval StructEval Agg
    Sort SortBy Filter Slice Gather Explode Selector Over Rolling AnonymousFunction AnonymousAgg
    Field"""
)
