"""What is made of Parquet files: which types fit which columns, and what is said of those that do not."""

from __future__ import annotations

import datetime
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import asyncpersist as ap
from asyncpersist.dtypes import DateTimeUtc, DType, Duration, Json, Pointer
from asyncpersist.errors import MalformedInput
from asyncpersist.io.formats import parquet
from asyncpersist.io.formats.format import Broken, RowFile
from asyncpersist.io.formats.parquet import Parquet
from tests.examples import examples
from tests.io.reading import values

DAY = datetime.datetime(2024, 2, 29)


def opened(path: Path, defaults: Mapping[str, Any] | None = None, /, **columns: Any) -> RowFile:
    return Parquet({name: DType.of(column) for name, column in columns.items()}, defaults or {}).open_rows(str(path))


def read(path: Path, defaults: Mapping[str, Any] | None = None, /, **columns: Any) -> pl.DataFrame:
    file = opened(path, defaults, **columns)
    try:
        frame = file.rows(0, file.height)
    finally:
        file.close()
        file.close()
    assert frame.schema == {name: DType.of(column).polars for name, column in columns.items()}
    return frame


def one(directory: Path, column: pl.Series, kind: Any, default: Mapping[str, Any] | None = None) -> list[Any]:
    pl.DataFrame([column.alias("v")]).write_parquet(directory / "a.parquet")
    return read(directory / "a.parquet", default, v=kind)["v"].to_list()


def of(dtype: Any, *items: Any) -> pl.Series:
    return pl.Series("v", items, dtype=dtype)


ARRAY = DType("array").polars


@pytest.mark.parametrize(
    ("column", "kind", "expected"),
    [
        (of(pl.Int8, 1, None, -2), int | None, [1, None, -2]),
        (of(pl.UInt64, 2**63 - 1), int, [2**63 - 1]),
        (of(pl.Float32, 1.5), float, [1.5]),
        (of(pl.Int64, 2**53, -(2**53)), float, [2.0**53, -(2.0**53)]),
        (of(pl.Boolean, True, None), bool | None, [True, None]),
        (of(pl.Categorical, "a", None, "b"), str | None, ["a", None, "b"]),
        (of(pl.Enum(["a"]), "a"), str, ["a"]),
        (of(pl.Binary, b"\0\xff"), bytes, [b"\0\xff"]),
        (of(pl.Date, DAY.date()), datetime.datetime, [DAY]),
        (of(pl.Datetime("ms"), DAY), datetime.datetime, [DAY]),
        (of(pl.Datetime("ns"), DAY, None), datetime.datetime | None, [DAY, None]),
        (of(pl.Datetime("us"), datetime.datetime.min, datetime.datetime.max), datetime.datetime, None),
        (of(pl.Datetime("ms", "Asia/Tokyo"), DAY), DateTimeUtc, [DAY.replace(tzinfo=datetime.UTC)]),
        (of(pl.Duration("ns"), datetime.timedelta(1)), Duration, [datetime.timedelta(1)]),
        (of(pl.String, '{"a" : [1, null]}', None), Json | None, ['{"a":[1,null]}', None]),
        (of(pl.List(pl.Int8), [1], [], None, [2, 3]), list[int] | None, [[1], [], None, [2, 3]]),
        (of(pl.List(pl.Int8), [], []), list[int], [[], []]),
        (of(pl.List(pl.Int8), None), list[int] | None, [None]),
        (of(pl.List(pl.Int8)), list[int], []),
        (of(pl.List(pl.Int64), [1, None]), list[int | None], [[1, None]]),
        (of(pl.List(pl.List(pl.Int8)), [[1], [2]], [[]], [None]), list[list[int] | None], [[[1], [2]], [[]], [None]]),
        (of(pl.List(pl.String), ["1 ", "[ ]"]), list[Json], [["1", "[]"]]),
        (of(pl.Array(pl.Float32, 2), [1, 2], [3, 4]), list[float], [[1.0, 2.0], [3.0, 4.0]]),
        (of(pl.Array(pl.Float32, 2), [1, 2]), np.ndarray, [{"data": [1.0, 2.0], "shape": [2]}]),
        (of(pl.List(pl.Int64), [1], [], None), np.ndarray | None, None),
        (of(ARRAY, {"data": [1.0, 2.0], "shape": [2, 1]}), np.ndarray, [{"data": [1.0, 2.0], "shape": [2, 1]}]),
        (
            of(pl.Struct({"f0": pl.Int8, "f1": pl.String}), {"f0": 1, "f1": "x"}, None),
            tuple[int, str] | None,
            [{"f0": 1, "f1": "x"}, None],
        ),
        (of(pl.Null, None, None), int | None, [None, None]),
    ],
)
def test_types_that_fit(tmp_path: Path, column: pl.Series, kind: Any, expected: list[Any] | None) -> None:
    found = one(tmp_path, column, kind)
    if expected is not None:
        assert found == expected
    elif kind is datetime.datetime:
        assert found == column.to_list()
    else:
        assert found == [{"data": [1.0], "shape": [1]}, {"data": [], "shape": [0]}, None]


@pytest.mark.parametrize(
    ("column", "kind", "why"),
    [
        (of(pl.Int64, 1, None), int, "column 'v', row 2: expected int, got None"),
        (of(pl.Null, None), str, "row 1: expected str, got None"),
        (of(pl.UInt64, 1, 2**63), int, "row 2: expected int, got 9223372036854775808 as UInt64, which does not fit"),
        (of(pl.Int64, None, 2**53 + 1), float | None, "row 2: expected float.*, got 9007199254740993"),
        (of(pl.Datetime("ns"), DAY).dt.offset_by("1ns"), datetime.datetime, "not in whole microseconds"),
        (of(pl.Int64, 2**62).cast(pl.Datetime("ms")), datetime.datetime, "out of range"),
        (of(pl.Int64, 2**62).cast(pl.Datetime("us")), datetime.datetime, "out of range"),
        (of(pl.Int64, 2**62).cast(pl.Duration("ms")), Duration, "out of range"),
        (of(pl.String, "1", "{"), Json, "row 2: expected json: no valid JSON"),
        (of(pl.List(pl.Int8), [1], None, [], [2, None]), list[int] | None, "row 4: in a list: expected int, got None"),
        (of(pl.Struct({"f0": pl.Int8}), None, {"f0": None}), tuple[int] | None, "row 2: in a tuple: expected int"),
        (of(ARRAY, {"data": [1.0], "shape": [2]}), np.ndarray, "a shape that its data does not have"),
        (of(ARRAY, {"data": [1.0], "shape": None}), np.ndarray, "got None"),
        (of(pl.List(pl.Int64), [None]), np.ndarray, "got None"),
        (of(pl.Float64, 1.0), int, "expected int, which its type Float64 cannot become"),
        (of(pl.Decimal(10, 2), 1), float, "which its type Decimal"),
        (of(pl.String, "x"), bytes, "which its type String"),
        (of(pl.Datetime("us"), DAY), DateTimeUtc, "expected utc_datetime, which its type"),
        (of(pl.Datetime("us", "UTC"), DAY), datetime.datetime, "expected naive_datetime, which its type"),
        (of(pl.List(pl.String), ["x"]), list[int], "which its type List"),
        (of(pl.Struct({"a": pl.Int64}), {"a": 1}), tuple[int], "which its type Struct"),
        (of(pl.String, "^00"), Pointer, "expected pointer"),
    ],
)
def test_types_that_do_not_fit(tmp_path: Path, column: pl.Series, kind: Any, why: str) -> None:
    with pytest.raises(Broken, match=why):
        one(tmp_path, column, kind)


def test_none_and_defaults(tmp_path: Path) -> None:
    pl.DataFrame({"d": [1, None], "o": [None, 2], "more": ["x", "y"]}).write_parquet(tmp_path / "a")
    defaults = {"d": 7, "o": 8, "l": [1], "n": None}
    found = read(tmp_path / "a", defaults, l=list[int], d=int, o=int | None, n=str | None)
    assert found.rows() == [([1], 1, None, None), ([1], 7, 2, None)]
    assert read(tmp_path / "a", {"z": 5}, z=int).rows() == [(5,), (5,)]
    with pytest.raises(Broken, match=r"lacks the columns \['z'\] of the schema; there are \['d', 'o', 'more'\]"):
        read(tmp_path / "a", z=int)
    assert one(tmp_path, of(pl.List(pl.Int64), None, [2]), list[int], {"v": [1]}) == [[1], [2]]


@pytest.mark.parametrize("mapped", [False, True])
def test_slices_are_what_the_file_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mapped: bool) -> None:
    if mapped:
        monkeypatch.setattr(parquet, "_IN_MEMORY", 0)
    frame = pl.DataFrame({"i": range(5000), "s": [f"s{i}" for i in range(5000)]})
    for height in (0, 1, 1024, 1025, 5000):
        frame.head(height).write_parquet(tmp_path / "a", row_group_size=700)
        file = opened(tmp_path / "a", s=str, i=int)
        # What was opened is read, whatever comes into its place.
        frame.head(3).write_parquet(tmp_path / "b")
        (tmp_path / "b").rename(tmp_path / "a")
        assert (file.height, file.row_bytes >= 1) == (height, True)
        for start in range(0, height, 600):
            expected = frame.head(height).slice(start, 600).select("s", "i")
            assert file.rows(start, 600).equals(expected)
        file.close()


@settings(examples(15), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.none() | st.lists(st.none() | st.tuples(st.integers(-5, 5), st.none() | st.text(max_size=2)))),
    st.integers(1, 4),
)
def test_nested_values_come_back(tmp_path: Path, items: list[Any], size: int) -> None:
    kind = list[tuple[int, str | None] | None] | None
    narrow = pl.List(pl.Struct({"f0": pl.Int8, "f1": pl.Categorical}))
    plain = [None if row is None else [None if t is None else {"f0": t[0], "f1": t[1]} for t in row] for row in items]
    pl.DataFrame([pl.Series("v", plain, dtype=narrow)]).write_parquet(tmp_path / "a")
    file = opened(tmp_path / "a", v=kind)
    found = [file.rows(start, size)["v"].to_list() for start in range(0, len(items), size)]
    file.close()
    assert [value for part in found for value in part] == plain


def test_files_that_are_broken(tmp_path: Path) -> None:
    path = tmp_path / "a"
    pl.DataFrame({"i": range(2000), "s": ["x"] * 2000}).write_parquet(path)
    whole = path.read_bytes()
    for text in (b"", b"PAR1", b"word\n", whole[:-1]):
        path.write_bytes(text)
        with pytest.raises(Broken, match="no Parquet file that can be read"):
            read(path, i=int, s=str)
    chance = random.Random(3)
    for _ in range(60):
        damaged = bytearray(whole)
        for place in chance.sample(range(len(whole)), 3):
            damaged[place] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            read(path, i=int, s=str)
        except Broken:
            continue


async def test_parquet_files_are_read(tmp_path: Path) -> None:
    pl.DataFrame({"i": range(3000)}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"j": ["x"], "i": [-1]}).write_parquet(tmp_path / "b.parquet")
    format = Parquet({"i": DType("int")}, {})
    assert await values(tmp_path, format, chunk_bytes=4000) == [(i,) for i in [*range(3000), -1]]
    (tmp_path / "c.parquet").write_text("x")
    with pytest.raises(MalformedInput, match=r"c.parquet'.* it is no Parquet file"):
        await values(tmp_path, format)
    assert len(await values(tmp_path, format, on_error="skip")) == 3001


async def test_a_job_from_parquet_to_parquet(tmp_path: Path) -> None:
    class Line(ap.Schema):
        word: str

    (tmp_path / "in").mkdir()
    config = ap.persistence.Config(ap.persistence.Backend.filesystem(tmp_path / "state"))
    for words in (["a", "b", "a"], ["b"]):
        pl.DataFrame({"word": words}, schema={"word": pl.Categorical}).write_parquet(
            tmp_path / "in" / f"{len(words)}.parquet"
        )
        with ap.Graph() as graph:
            lines = ap.io.parquet.read(tmp_path / "in", schema=Line, mode="static", name="lines")
            counts = lines.groupby(ap.this.word).reduce(ap.this.word, n=ap.reducers.count())
            ap.io.parquet.write(counts, tmp_path / "out")
        await ap.run(graph, persistence_config=config)
    changes = pl.read_parquet(tmp_path / "out")
    assert changes.schema == {"word": pl.String(), "n": pl.Int64(), "time": pl.Int64(), "diff": pl.Int64()}
    now = changes.group_by("word", "n").agg(pl.col("diff").sum()).filter(pl.col("diff") != 0)
    assert sorted(now.rows()) == [("a", 2, 1), ("b", 2, 1)]
    assert changes["diff"].to_list()[-2:] == [-1, 1]
    assert len(list((tmp_path / "out").iterdir())) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out", "state"]
