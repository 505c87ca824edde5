"""Which Polars expressions are taken: those whose value for a row depends on that row alone."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from typing import Any

import polars as pl
import polars.selectors as cs
import pytest
from polars import col

from asyncpersist.columnar.delta import Delta
from asyncpersist.dtypes import DType
from asyncpersist.errors import ColumnNotFound, GraphError, NotRowByRow, SchemaError
from asyncpersist.table.row_by_row import canonical
from asyncpersist.table.this import this
from tests.table.pieces import frame, rows_of, step, table

a, f, s, d, t = col("a"), col("f"), col("s"), col("d"), col("l").list

REFUSED: dict[str, pl.Expr] = {
    "difference from the mean": a - a.mean(),
    "sum": a.sum(),
    "mean within": (a + 1).mean() * 0 + a,
    "min": a.min(),
    "max in when": pl.when(a == a.max()).then(1).otherwise(0),
    "first": a.first(),
    "last": a.last(),
    "count": a.count(),
    "length": pl.len() + a,
    "n_unique": a.n_unique(),
    "any": (a > 0).any(),
    "quantile": a.quantile(0.5),
    "product": a.product(),
    "null count": a.null_count(),
    "implode": a.implode(),
    "window": a.sum().over("s"),
    "window of itself": a.over("s"),
    "rolling": a.rolling_mean(3),
    "rolling by": a.sum().rolling("d", period="1d"),
    "ewm": a.ewm_mean(span=2),
    "shift": a.shift(1),
    "diff": a.diff(),
    "pct_change": a.pct_change(),
    "cum_sum": a.cum_sum(),
    "cum_count": a.cum_count(),
    "forward fill": a.forward_fill(),
    "fill strategy": a.fill_null(strategy="mean"),
    "interpolate": a.interpolate(),
    "rank": a.rank(),
    "sort": a.sort(),
    "sort_by": a.sort_by("f"),
    "arg_sort": a.arg_sort(),
    "reverse": a.reverse(),
    "unique": a.unique(),
    "is_unique": a.is_unique(),
    "is_duplicated": a.is_duplicated(),
    "is_first_distinct": a.is_first_distinct(),
    "mode": a.mode(),
    "rle_id": a.rle_id(),
    "peaks": a.peak_max(),
    "head": a.head(1),
    "slice": a.slice(1),
    "gather": a.gather([0]),
    "get": a.get(0),
    "filter": a.filter(a > 0),
    "drop_nulls": a.drop_nulls(),
    "explode": col("l").explode(),
    "append": a.append(a),
    "sample": a.sample(1),
    "shuffle": a.shuffle(),
    "row number": pl.int_range(pl.len()),
    "repeat": pl.repeat(1, 3),
    "cumulative eval": a.cumulative_eval(pl.element().sum()),
    "string join": s.str.join(","),
    "a series": a + pl.lit(pl.Series([1])),
    "several values": a + pl.lit(pl.Series([1, 2, 3])),
    "top_k": a.top_k(1),
    "search_sorted": a.search_sorted(1),
    "is_in a column": a.is_in(col("l").explode()),
    "aggregation of a struct's field": pl.struct("a").struct.with_fields(pl.field("a").sum()),
    "unstable hash": a.hash(),
    "opaque": a.map_elements(lambda x: x, return_dtype=pl.Int64),
    "opaque batches": a.map_batches(lambda x: x, return_dtype=pl.Int64),
    "fold": pl.fold(pl.lit(0), lambda x, y: x + y, ["a", "f"], return_dtype=pl.Float64),
    "a hidden sum": pl.coalesce(col("o"), a.sum()),
    "sum within a list's function": t.contains(a.sum()),
    "sample of a list": t.sample(1),
    "is_in another column": a.is_in("o"),
    "is_in what is computed": a.is_in(col("o") + 1),
    "is_in a column of as many lists": col("l").is_in("l"),
    "is_in a column, of a struct": pl.struct("a", "o").struct.with_fields(x=pl.field("a").is_in(pl.field("o"))),
    "is_in a list of unknown depth": pl.struct("l").struct.with_fields(x=pl.field("l").is_in(col("l"))),
    "replace a column": s.replace(col("s"), "x"),
    "replace by a column": s.replace(pl.lit("x"), col("s")),
    "replace_strict columns": a.replace_strict(col("a"), col("o"), default=0),
    "holidays from a column": pl.business_day_count(col("d").dt.date(), col("d").dt.date(), holidays=col("d")),
    "a series among days": pl.business_day_count(
        pl.lit(pl.Series([datetime.date(2020, 1, 1)] * 2)), col("d").dt.date()
    ),
    "guessed datetime": s.str.to_datetime(strict=False),
    "guessed date": s.str.to_date(strict=False),
    "guessed time": s.str.to_time(strict=False),
    "guessed, with a zone": s.str.strptime(pl.Datetime("us", "UTC"), strict=False),
    "guessed within a list": s.str.split(",").list.eval(pl.element().str.to_date(strict=False)),
    "random order within a list": t.eval(pl.element().mode()),
    "random rank within a list": t.eval(pl.element().rank("random")),
    "shuffle within a list": t.eval(pl.element().shuffle()),
    "cum_prod": a.cum_prod(),
    "cum_min": a.cum_min(),
    "cum_max": a.cum_max(),
    "rle": a.rle(),
    "histogram": a.hist([1]),
    "quantile bins": a.bin_quantiles([0.5], labels=["x", "y"]),
    "rank bins": a.bin_ranks(2, labels=["x", "y"]),
    "bins of equal width": a.bin_intervals(2, labels=["x", "y"]),
    "a series in a place of rows": pl.lit(pl.Series([1, 2])).replace_strict([1], [2], default=0),
    "backward fill": a.backward_fill(),
    "interpolate by": f.interpolate_by("a"),
    "code of a category": s.cast(pl.Categorical).to_physical(),
    "index": a.index_of(1),
    "value counts": a.value_counts(),
    "bottom_k": a.bottom_k(1),
    "rolling rank": a.rolling_rank(2),
    "lower bound": a.lower_bound(),
    "ewm by": f.ewm_mean_by("d", half_life="1d"),
    "approximate": a.approx_n_unique(),
    "correlation": pl.corr("a", "f"),
    "reshape": a.reshape((-1, 1)),
    "extension": a.extend_constant(1, 1),
    "inspection": a.inspect(),
    "selector inside": cs.numeric() + 1,
    "all inside": pl.all().is_null(),
}


@pytest.mark.filterwarnings("ignore::polars.exceptions.PolarsInefficientMapWarning")
@pytest.mark.parametrize("expr", REFUSED.values(), ids=REFUSED)
def test_what_looks_at_other_rows_is_refused(expr: pl.Expr) -> None:
    over = table(a=int, f=float, s=str, d=datetime.datetime, l=list[int], o=int | None)
    for build in (lambda: over.select(x=expr), lambda: over.filter(expr), lambda: over.select(x=this.a + expr)):
        with pytest.raises(NotRowByRow) as caught:
            build()
        assert "row" in str(caught.value) or "column" in str(caught.value)


ACCEPTED: dict[str, pl.Expr] = {
    "arithmetic": (a + 1) * 2 - f / 3,
    "modulo": a % 3,
    "power": a**2,
    "comparison": (a > 1) & ~(f < 2) | (s == "x"),
    "missing": a.eq_missing(col("o")),
    "when": pl.when(a > 1).then(s).when(a < 0).then(pl.lit("neg")).otherwise(None),
    "cast": a.cast(pl.Float64),
    "null tests": col("o").is_null() | col("o").is_not_null(),
    "fill_null": col("o").fill_null(0),
    "fill_null by column": col("o").fill_null(a),
    "fill_nan": f.fill_nan(0.0),
    "abs": a.abs(),
    "neg": -a,
    "round": f.round(1),
    "floor": f.floor(),
    "clip": a.clip(0, 2),
    "between": a.is_between(0, 2),
    "is_in": a.is_in([1, 2]),
    "is_in a list column": a.is_in("l"),
    "is_in a list made of columns": a.is_in(pl.concat_list("a", "o")),
    "is_in an array": a.is_in(pl.concat_list("a", "o").list.to_array(2)),
    "is_in what is split": pl.lit("x").is_in(s.str.split(",")),
    "a list among lists": col("l").is_in([[2], [1, 1]]),
    "is_in of a list's items": t.eval(pl.element().is_in(pl.element() + 1)),
    "of a struct in values": pl.struct("a").struct.with_fields(x=pl.field("a").is_in([1, 2])).struct.field("x"),
    "replace a value": s.replace("x", "y"),
    "replace_strict by series": a.replace_strict(pl.Series([1, 2]), pl.Series([5, 6]), default=0),
    "replace by values": s.replace(["x", ""], ["y", "z"]),
    "replace with a column for the rest": a.replace_strict([1, 2], [3, 4], default=col("a")),
    "business days": pl.business_day_count(
        pl.date(2020, 1, a.clip(1, 28)), pl.date(2020, 2, 1), holidays=[datetime.date(2020, 1, 6)]
    ),
    "date with a format": s.str.to_date("%Y", strict=False).cast(pl.Datetime("us")),
    "bins with given breaks": a.bin_intervals([0, 2], labels=["x", "y", "z"]).cast(pl.String),
    "JSON of a given type": pl.format("[{}]", a).str.json_decode(pl.List(pl.Int64)),
    "decimal of a given scale": s.str.to_decimal(scale=2).cast(pl.Float64),
    "list mode in order": t.eval(pl.element().mode(maintain_order=True)),
    "list rank": t.eval(pl.element().rank()),
    "list cum_sum": t.eval(pl.element().cum_sum()),
    "list interpolate": t.eval(pl.element().interpolate()),
    "list fill": t.eval(pl.element().fill_null(strategy="mean")),
    "log": f.abs().log(),
    "exp": f.exp(),
    "sqrt": f.abs().sqrt(),
    "sign": a.sign(),
    "trigonometry": f.sin() + f.arctan(),
    "arctan2": pl.arctan2("a", "f"),
    "upper": s.str.to_uppercase(),
    "contains": s.str.contains("x"),
    "replace": s.str.replace_all("x", "y"),
    "slice of text": s.str.slice(0, 1),
    "split": s.str.split(","),
    "length of text": s.str.len_chars(),
    "concat_str": pl.concat_str("a", "s"),
    "format": pl.format("{}-{}", "a", "s"),
    "to_integer": s.str.to_integer(strict=False),
    "strptime": s.str.strptime(pl.Datetime("us"), "%Y", strict=False),
    "hex": s.str.encode("hex"),
    "coalesce": pl.coalesce("o", "a"),
    "max_horizontal": pl.max_horizontal("a", "f"),
    "sum_horizontal": pl.sum_horizontal("a", "f"),
    "any_horizontal": pl.any_horizontal(a > 1, f > 1),
    "mapping": a.replace_strict({1: "one"}, default="other"),
    "struct field": pl.struct(f0="a", f1="s").struct.field("f0"),
    "with_fields": pl.struct("a").struct.with_fields(a2=pl.field("a") + 1).struct.field("a2"),
    "struct": pl.struct(f0="a", f1="s"),
    "concat_list": pl.concat_list("a", "o"),
    "list sum": t.sum(),
    "list len": t.len(),
    "list get": t.get(0, null_on_oob=True),
    "list sort": t.sort(),
    "list unique": t.unique(maintain_order=True),
    "list reverse": t.reverse(),
    "list eval": t.eval(pl.element() * 2),
    "list eval with an aggregate": t.eval(pl.element() - pl.element().min()),
    "list filter": t.filter(pl.element() > 1),
    "list any": t.eval(pl.element() > 1).list.any(),
    "list join": t.eval(pl.element().cast(pl.String)).list.join("-"),
    "date": pl.datetime(2020, 1, a.clip(1, 28)),
    "duration": pl.duration(days=a),
    "date parts": pl.datetime(2020, 1, a.clip(1, 28)).dt.weekday(),
    "truncate": pl.datetime(2020, 1, a.clip(1, 28)).dt.truncate("1mo"),
    "alias": a.alias("z"),
    "suffix": a.name.suffix("_x"),
    "literal": pl.lit(1),
    "time of day as text": pl.datetime(2020, 1, a.clip(1, 28)).dt.strftime("%d"),
}

TYPES: dict[str, Any] = {"a": int, "f": float, "s": str, "l": list[int], "o": int | None}
ROWS = [(1, 1.5, "x,y", [3, 1, 3], None), (2, -2.0, "", [], 5), (-3, 0.25, "é", [2], 0), (0, 9.0, "x", [1, 1], 1)]


@pytest.mark.parametrize("expr", ACCEPTED.values(), ids=ACCEPTED)
def test_what_works_row_by_row_is_taken_and_does(expr: pl.Expr) -> None:
    over = table(**TYPES)
    result = over.select(x=expr)
    whole = rows_of(result, over, ROWS)
    assert repr(whole) == repr([rows_of(result, over, [row])[0] for row in ROWS])
    assert step(result, Delta(frame(over, []))).height == 0


@pytest.mark.parametrize(
    ("expr", "says"),
    [
        (s.str.to_datetime(), "give the format"),
        (a.is_in("o"), "give it a list"),
        (a.replace(col("a"), col("o")), "give it as values"),
        (t.eval(pl.element().mode()), "maintain_order=True"),
    ],
)
def test_a_refusal_says_what_to_give_instead(expr: pl.Expr, says: str) -> None:
    with pytest.raises(NotRowByRow, match=says):
        table(a=int, s=str, l=list[int], o=int | None).select(x=expr)


def test_a_selector_alone_stands_for_columns() -> None:
    over = table(**TYPES)
    assert list(over.select(pl.all()).columns) == list(TYPES)
    assert list(over.select(cs.string(), pl.col("a", "f")).columns) == ["s", "a", "f"]
    assert list(over.select(pl.exclude("l")).columns) == ["a", "f", "s", "o"]
    assert over.select(pl.all()).columns == over.columns
    with pytest.raises(ColumnNotFound, match="a, f, s, l, o"):
        over.select(pl.col("a", "nope"))


def test_unknown_columns_are_named_with_those_there_are() -> None:
    over = table(a=int, b=int)
    for build in (
        lambda: over.select(x=col("c") + 1),
        lambda: over.filter(col("c") > 0),
        lambda: over.select(col("c")),
    ):
        with pytest.raises(ColumnNotFound, match=r"'c'.*There are: a, b\."):
            build()
    with pytest.raises(ColumnNotFound):
        over.select(x=col("__id"))


def test_a_type_that_no_column_has_is_refused() -> None:
    over = table(a=int)
    with pytest.raises(SchemaError, match="Cast"):
        over.select(x=pl.date(2020, 1, col("a")))
    with pytest.raises(GraphError):
        over.select(x=col("a").str.to_uppercase())


def test_types_are_widened() -> None:
    result = table(a=int).select(x=col("a").cast(pl.Int8), y=col("a").cast(pl.Float32), z=col("a").cast(pl.UInt64))
    assert {str(dtype) for dtype in result.columns.values()} == {"int?", "float?"}
    assert result.columns["x"] == DType("int", optional=True)


def test_a_bare_column_keeps_its_type() -> None:
    assert table(a=int, j=dict).select(col("j"), x=col("a")).columns == {"j": DType("json"), "x": DType("int")}


CANONICAL = """
import json, math
import polars as pl
from asyncpersist.table.row_by_row import canonical
e = (pl.col("a") * 2 + pl.col("b").is_in([1, 2]).cast(pl.Int64)).alias("x")
print(json.dumps([canonical(e), canonical(pl.lit(math.nan) + pl.col("a")), canonical(pl.col("s").str.contains("x"))]))
"""


def test_the_canonical_form_is_the_same_in_every_process() -> None:
    def elsewhere(seed: str) -> str:
        env = {"PYTHONHASHSEED": seed, "PATH": ""}
        return subprocess.run(
            [sys.executable, "-c", CANONICAL], env=env, capture_output=True, text=True, check=True
        ).stdout

    first = elsewhere("1")
    assert first == elsewhere("2")
    assert "[[1, 2]]" in first


def test_the_canonical_form_tells_meanings_apart() -> None:
    exprs = [
        a,
        a + 1,
        a + 1.0,
        a + 2,
        1 + a,
        a.is_in([1, 2]),
        a.is_in([1, 3]),
        a + float("nan"),
        a + float("inf"),
        a + float("-inf"),
        s.str.contains("a"),
        s.str.contains("a", literal=True),
    ]
    assert len({json.dumps(canonical(expr)) for expr in exprs}) == len(exprs)
