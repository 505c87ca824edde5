"""The functions of Polars whose value for a row depends on that row alone, as its serialized expressions name them.

Of some only with certain arguments: see `row_by_row`.
"""

from __future__ import annotations

__all__ = ["FAMILIES", "LEAVES", "NODES", "WHY", "WITHIN_LIST"]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


LEAVES = _names(
    """Abs Negate AsStruct Atan2 Bin Cbrt Ceil Clip Coalesce Cut Erf Erfc Exp FillNull Floor Log Log1p
    MaxHorizontal MeanHorizontal MinHorizontal RepeatBy Replace ReplaceStrict Round RoundSF Sign
    SumHorizontal Truncate Reinterpret"""
)
"""Functions without a family."""

FAMILIES: dict[str, frozenset[str]] = {
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

WITHIN_LIST = _names(
    """ArgMax ArgMin ArgSort ArgUnique CumCount CumMax CumMin CumProd CumSum Diff DropNans DropNulls
    FillNullWithStrategy GatherEvery Interpolate Mode NullCount Product Quantile Rank Reverse Shift
    TopK Unique Boolean.All Boolean.Any Boolean.HasNulls Boolean.IsDuplicated Boolean.IsEmpty
    Boolean.IsFirstDistinct Boolean.IsLastDistinct Boolean.IsUnique"""
)
"""Functions over many values, which are fine over the items of one row's list."""

WHY = {
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

NODES = _names(
    """Column Literal Alias RenameAlias KeepName BinaryExpr Cast Ternary Function Eval StructEval Agg
    Sort SortBy Filter Slice Gather Explode Selector Over Rolling AnonymousFunction AnonymousAgg
    Field"""
)
"""The kinds of nodes that an expression consists of."""
