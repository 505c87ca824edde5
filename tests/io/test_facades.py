"""What a user calls: names, arguments, and what is refused when the graph is built."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asyncpersist import io
from asyncpersist.dtypes import DType, Pointer
from asyncpersist.errors import SchemaError, Unsupported
from asyncpersist.graph.context import Graph
from asyncpersist.graph.node import SourceNode
from asyncpersist.table.schema import Schema, column_definition
from asyncpersist.table.table import Table
from tests.io.reading import batches, rows


class Pair(Schema):
    k: str
    n: int = column_definition(default_value=7)


class Keyed(Schema):
    k: str = column_definition(primary_key=True)


class Pointing(Schema):
    p: list[Pointer]


READS: list[tuple[Callable[..., Table], dict[str, Any]]] = [
    (io.jsonlines.read, {"schema": Pair}),
    (io.csv.read, {"schema": Pair}),
    (io.plaintext.read, {}),
]


def source_of(table: Table) -> SourceNode:
    assert isinstance(table.node, SourceNode)
    return table.node


@pytest.mark.parametrize(
    ("name", "text", "read"),
    [
        ("a.jsonl", '{"k":"x"}\n', lambda path: io.jsonlines.read(path, schema=Pair, mode="static", name="in")),
        ("a.jsonl", '{"k":"x"}\n', lambda path: io.fs.read(path, "json", schema=Pair, mode="static", name="in")),
        ("a.csv", "k\nx\n", lambda path: io.csv.read(path, schema=Pair, mode="static", name="in")),
        ("a.csv", "k\nx\n", lambda path: io.fs.read(path, format="csv", schema=Pair, mode="static", name="in")),
    ],
)
async def test_reading_with_a_schema(tmp_path: Path, name: str, text: str, read: Callable[[Path], Table]) -> None:
    (tmp_path / name).write_text(text)
    table = read(tmp_path)
    assert dict(table.columns) == {"k": DType("str"), "n": DType("int")}
    node = source_of(table)
    assert (node.kind, node.name, dict(node.columns)) == ("source", "in", dict(table.columns))
    assert json.loads(json.dumps(node.definition)) == node.definition
    assert [row[:-1] for row in rows(await batches(node.source))] == [("x", 7)]


async def test_reading_plain_text(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x\ny\n")
    for table, expected in (
        (io.plaintext.read(tmp_path, mode="static"), ["x", "y"]),
        (io.fs.read(tmp_path, "plaintext", mode="static"), ["x", "y"]),
        (io.fs.read(tmp_path, "plaintext_by_file", mode="static"), ["x\ny\n"]),
    ):
        assert dict(table.columns) == {"data": DType("str")}
        assert [row[0] for row in rows(await batches(source_of(table).source))] == expected


def test_what_identifies_a_source() -> None:
    def definition(path: str, **settings: Any) -> Any:
        return dict(source_of(io.csv.read(path, schema=Pair, mode="static", **settings)).definition)

    assert definition("a") == definition("a", autocommit_duration_ms=None, on_error="skip", dead_letters="d")
    assert definition("a") != definition("b")
    assert definition("a") != definition("a", csv_settings=io.CsvParserSettings(delimiter=";"))
    assert definition("a") != source_of(io.jsonlines.read("a", schema=Pair, mode="static")).definition


@pytest.mark.parametrize(("read", "given"), READS)
def test_what_is_not_built_yet_is_refused(read: Callable[..., Table], given: dict[str, Any]) -> None:
    with pytest.raises(Unsupported, match='pass mode="static"'):
        read("a", **given)
    with pytest.raises(Unsupported, match="with_metadata"):
        read("a", **given, mode="static", with_metadata=True)


def test_more_that_is_not_built_yet() -> None:
    with pytest.raises(Unsupported, match="primary key"):
        io.csv.read("a", schema=Keyed, mode="static")
    with pytest.raises(Unsupported, match="json_field_paths"):
        io.jsonlines.read("a", schema=Pair, mode="static", json_field_paths={"k": "/a/k"})
    for format in ("binary", "only_metadata"):
        with pytest.raises(Unsupported, match=format):
            io.fs.read("a", format, mode="static")  # type: ignore[arg-type]


@pytest.mark.parametrize(("read", "given"), READS)
@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"mode": "batch"}, ValueError),
        ({"mode": 1}, TypeError),
        ({"on_error": "ignore"}, ValueError),
        ({"dead_letters": "d"}, ValueError),
        ({"dead_letters": 5, "on_error": "skip"}, TypeError),
        ({"name": 5}, TypeError),
        ({"with_metadata": "yes"}, TypeError),
        ({"autocommit_duration_ms": "soon"}, TypeError),
        ({"paths": "a"}, TypeError),
        ({"path": 5}, TypeError),
        ({"path": b"a"}, TypeError),
        ({"path": ""}, ValueError),
    ],
)
def test_wrong_arguments(
    read: Callable[..., Table], given: dict[str, Any], wrong: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        read(**({"path": "a", "mode": "static"} | given | wrong))


def test_wrong_schemas_and_formats() -> None:
    for schema in (None, dict, {"k": str}, Pair()):
        with pytest.raises(TypeError, match="schema"):
            io.fs.read("a", "csv", schema=schema, mode="static")  # type: ignore[arg-type]
    with pytest.raises(SchemaError, match=r"\['p'\]"):
        io.jsonlines.read("a", schema=Pointing, mode="static")
    with pytest.raises(TypeError, match="takes no schema"):
        io.fs.read("a", "plaintext", schema=Pair, mode="static")
    with pytest.raises(TypeError, match="csv_settings"):
        io.fs.read("a", "json", schema=Pair, csv_settings=io.CsvParserSettings(), mode="static")
    with pytest.raises(TypeError, match="csv_settings"):
        io.csv.read("a", schema=Pair, csv_settings=";", mode="static")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="parquet"):
        io.fs.read("a", "parquet", mode="static")  # type: ignore[arg-type]


def test_building_a_read_looks_at_nothing() -> None:
    assert io.plaintext.read("/nowhere/at/all", mode="static").columns


def test_writing_adds_a_sink_to_the_graph(tmp_path: Path) -> None:
    table = io.csv.read(tmp_path, schema=Pair, mode="static")
    with Graph() as graph:
        io.csv.write(table, tmp_path / "a.csv", name="out")
        io.jsonlines.write(table, "b.jsonl", on_restart="overwrite")
        io.fs.write(table, "c.jsonl", "json")
    names = [(sink.name, sink.definition["path"], sink.definition["format"]) for sink in graph.sinks]
    assert names == [
        ("out", str(tmp_path / "a.csv"), "csv"),
        (None, "b.jsonl", "jsonlines"),
        (None, "c.jsonl", "jsonlines"),
    ]
    for sink in graph.sinks:
        assert sink.kind == "sink"
        assert sink.inputs == (table.node,)
        assert json.loads(json.dumps(sink.definition)) == sink.definition


def test_wrong_writes_add_nothing(tmp_path: Path) -> None:
    table = io.plaintext.read(tmp_path, mode="static")
    with Graph() as graph:
        for wrong, error in (
            ({"table": "t"}, TypeError),
            ({"filename": 5}, TypeError),
            ({"name": 5}, TypeError),
            ({"on_restart": "append"}, ValueError),
            ({"format": "parquet"}, ValueError),
        ):
            with pytest.raises(error):
                io.fs.write(**({"table": table, "filename": "a", "format": "csv"} | wrong))  # type: ignore[arg-type]
    assert graph.sinks == []


def test_all_names_what_there_is() -> None:
    for module in (io, io.csv, io.fs, io.jsonlines, io.plaintext):
        for name in module.__all__:
            assert getattr(module, name) is not None
    assert list(inspect.signature(io.csv.write).parameters)[:2] == ["table", "filename"]
