"""Schemas: what a class says about columns, and what is refused."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest

import asyncpersist as ap
from asyncpersist.dtypes import DateTimeUtc, DType, Json
from asyncpersist.errors import SchemaError
from asyncpersist.table.schema import Schema, column_definition, schema_from_types


class Base(Schema):
    key: str = column_definition(primary_key=True)
    amount: int | None


class Derived(Base):
    amount: float
    tags: list[str] = column_definition(default_value=["x"])
    note: Optional[str] = None  # noqa: UP045
    at: DateTimeUtc
    data: Json
    vector: np.ndarray


def test_columns_of_base_classes_come_first_and_can_be_given_another_type() -> None:
    assert Derived.column_names() == ["key", "amount", "tags", "note", "at", "data", "vector"]
    assert {name: str(dtype) for name, dtype in Derived.dtypes().items()} == {
        "key": "str",
        "amount": "float",
        "tags": "list[str]",
        "note": "str?",
        "at": "utc_datetime",
        "data": "json",
        "vector": "array",
    }
    assert Base.dtypes()["amount"] == DType("int", optional=True)
    assert Derived.primary_key_columns() == ["key"]
    assert schema_from_types(a=int).primary_key_columns() is None
    assert Derived.default_values() == {"tags": ["x"], "note": None}
    assert Derived.typehints() == Derived.dtypes()


def test_definitions_stand_for_annotations_and_names() -> None:
    class Renamed(Schema):
        field: int = column_definition(name="a field")
        other = column_definition(dtype=float, default_value=1)

    assert {name: str(column.dtype) for name, column in Renamed.columns().items()} == {
        "a field": "int",
        "other": "float",
    }
    assert Renamed.columns()["other"].has_default
    assert not Renamed.columns()["a field"].has_default


def test_text_annotations_see_the_functions_around_the_class() -> None:
    local = int | None

    class Here(Schema):
        a: local
        b: "str"  # noqa: UP037

    assert [str(dtype) for dtype in Here.dtypes().values()] == ["int?", "str"]


def test_from_types() -> None:
    made = schema_from_types(_name="Line", word=str, n=Optional[int])  # noqa: UP045
    assert made.__name__ == "Line"
    assert made.dtypes() == {"word": DType("str"), "n": DType("int", optional=True)}


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"id": int}, ["id", "reserved"]),
        ({"__x": int}, ["__x", "reserved"]),
        ({"*": int}, ["*", "reserved", "pattern"]),
        ({"^a.*$": int}, ["^a.*$", "reserved", "pattern"]),
        ({"^$": int}, ["^$", "reserved", "pattern"]),
        ({"\ud800": int}, ["ud800", "reserved", "text"]),
        ({"a": complex}, [".a", "complex"]),
        ({"a": int | str}, [".a"]),
        ({"a": "Nonsense"}, [".a", "Nonsense"]),
    ],
)
def test_columns_that_cannot_be_are_named(columns: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(SchemaError) as caught:
        schema_from_types(**columns)
    assert all(word in str(caught.value) for word in words)


def test_a_name_twice() -> None:
    with pytest.raises(SchemaError, match="two columns 'a'"):

        class Twice(Schema):
            a: int
            b: int = column_definition(name="a")


@pytest.mark.parametrize("name", ["a*", "^a", "a$", "**", "$^", "a b", 'a"b', "é"])
def test_other_odd_names_are_fine(name: str) -> None:
    assert schema_from_types(**{name: int}).column_names() == [name]


@pytest.mark.parametrize("name", ["*", "^b$"])
def test_a_definition_cannot_name_a_column_like_a_pattern(name: str) -> None:
    with pytest.raises(SchemaError, match="reserved"):
        type("Named", (Schema,), {"a": column_definition(dtype=int, name=name)})


def test_a_schema_that_is_read_has_columns(tmp_path: Path) -> None:
    class Empty(Schema):
        pass

    assert Empty.column_names() == []
    for read in (ap.io.csv.read, ap.io.jsonlines.read):
        with ap.Graph(), pytest.raises(SchemaError, match="Empty: the schema has no columns"):
            read(tmp_path, schema=Empty, mode="static")


def test_a_column_without_a_type() -> None:
    with pytest.raises(SchemaError, match=r"Untyped\.a"):

        class Untyped(Schema):
            a = column_definition(default_value=1)


def test_a_primary_key_cannot_be_none() -> None:
    with pytest.raises(SchemaError, match="primary key"):

        class Key(Schema):
            a: int | None = column_definition(primary_key=True)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, "x"),
        (int, True),
        (int, 2**63),
        (int, None),
        (float, "1"),
        (bool, 1),
        (str, b"x"),
        (datetime.datetime, datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)),
        (DateTimeUtc, datetime.datetime(2020, 1, 1)),
        (list[int], ["x"]),
        (tuple[int, str], (1,)),
        (tuple[int, str], ("x", 1)),
    ],
)
def test_defaults_must_fit(annotation: Any, value: Any) -> None:
    with pytest.raises(SchemaError, match="default"):
        type("Wrong", (Schema,), {"__annotations__": {"a": annotation}, "a": column_definition(default_value=value)})


@pytest.mark.parametrize(
    ("annotation", "value"),
    [(float, 1), (int | None, None), (Json, {"a": [1]}), (tuple[int, str], (1, "x")), (list[int], [])],
)
def test_defaults_that_fit(annotation: Any, value: Any) -> None:
    made = type("Right", (Schema,), {"__annotations__": {"a": annotation}, "a": column_definition(default_value=value)})
    assert made.default_values() == {"a": value}
