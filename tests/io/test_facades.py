"""What a user calls: names, arguments, and what is refused when the graph is built."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import asyncpersist as ap
from asyncpersist import io
from asyncpersist.dtypes import DType, Pointer
from asyncpersist.errors import SchemaError, Unsupported
from asyncpersist.graph.context import Graph
from asyncpersist.graph.node import OperatorNode, SourceNode
from asyncpersist.table.schema import Schema, column_definition, schema_from_types
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
    (io.parquet.read, {"schema": Pair}),
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
    assert definition("a") == definition("a", encoding="UTF8")
    assert definition("a", encoding="latin-1") == definition("a", encoding="iso-8859-1") != definition("a")
    assert definition("a") != source_of(io.jsonlines.read("a", schema=Pair, mode="static")).definition


@pytest.mark.parametrize(("read", "given"), READS)
def test_streaming_is_the_default_and_no_part_of_the_identity(
    read: Callable[..., Table], given: dict[str, Any]
) -> None:
    streaming, static = source_of(read("a", **given)), source_of(read("a", **given, mode="static"))
    assert (streaming.source.streaming, static.source.streaming) == (True, False)
    assert streaming.definition == static.definition
    assert not streaming.ordered


@pytest.mark.parametrize(("read", "given"), READS)
async def test_metadata_is_a_column_at_the_end(
    tmp_path: Path, read: Callable[..., Table], given: dict[str, Any]
) -> None:
    plain, table = (read(tmp_path, **given, mode="static", with_metadata=known) for known in (False, True))
    assert dict(table.columns) == {**plain.columns, "_metadata": DType("json")}
    assert source_of(table).definition != source_of(plain).definition


async def test_metadata_says_where_a_row_is_from(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xff\n")
    os.utime(tmp_path / "a", (5, 5))
    table = io.fs.read(tmp_path, "binary", mode="static", with_metadata=True)
    assert dict(table.columns) == {"data": DType("bytes"), "_metadata": DType("json")}
    [(data, metadata, _)] = rows(await batches(source_of(table).source))
    assert data == b"\xff\n"
    assert json.loads(metadata) == {"path": str(tmp_path / "a"), "size": 2, "modified_at": 5}


@pytest.mark.parametrize("read", [io.jsonlines.read, io.csv.read, io.parquet.read])
def test_a_primary_key_makes_a_source_an_upsert(read: Callable[..., Table]) -> None:
    table = read("a", schema=Keyed, name="in", with_metadata=True)
    node = table.node
    assert isinstance(node, OperatorNode)
    assert (node.kind, node.definition["primary_key"]) == ("upsert", ["k"])
    assert list(node.columns) == ["k", "_metadata"]
    [source] = node.inputs
    assert isinstance(source, SourceNode)
    assert (source.ordered, source.name) == (True, "in")


def test_what_is_not_built_yet() -> None:
    with pytest.raises(Unsupported, match="json_field_paths"):
        io.jsonlines.read("a", schema=Pair, mode="static", json_field_paths={"k": "/a/k"})
    with pytest.raises(Unsupported, match="only_metadata"):
        io.fs.read("a", "only_metadata", mode="static")  # type: ignore[arg-type]
    table = io.plaintext.read("a")
    with Graph() as graph:
        for name in ("a.csv.gz", "a.ZST"):
            with pytest.raises(Unsupported, match="compressed output"):
                io.csv.write(table, name)
    assert graph.sinks == []


def test_dead_letters_are_kept_out_of_inputs_and_outputs(tmp_path: Path) -> None:
    def read(path: str, letters: str) -> Table:
        return io.plaintext.read(tmp_path / path, on_error="skip", dead_letters=tmp_path / letters)

    with Graph() as graph:
        with pytest.raises(ValueError, match="the input itself"):
            read("a", "b/../a")
        table = read("a", "bad.jsonl")
        with pytest.raises(ValueError, match="lies in the output"):
            io.csv.write(table.select(x=table.data), tmp_path / "bad.jsonl")
        io.parquet.write(table, tmp_path / "out")
        io.csv.write(table, tmp_path / "out.csv")
        for taken in ("out/bad.jsonl", "out.csv"):
            with pytest.raises(ValueError, match="lies in the output"):
                read("b", taken)
        other = io.plaintext.read(tmp_path / "c")
        with pytest.raises(ValueError, match="lies in the output"):
            io.jsonlines.write(other, tmp_path / "bad.jsonl")
        read("a", "out.jsonl")
    assert len(graph.sinks) == 2


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
    with pytest.raises(TypeError, match="encoding"):
        io.fs.read("a", "json", schema=Pair, encoding="utf-8")
    with pytest.raises(ValueError, match="none of json, jsonlines, csv"):
        io.fs.read("a", "orc", schema=Pair)  # type: ignore[arg-type]
    with pytest.raises(SchemaError, match="_metadata"):
        io.csv.read("a", schema=schema_from_types(_metadata=str), with_metadata=True)


@pytest.mark.parametrize(
    ("encoding", "error", "why"),
    [
        (5, TypeError, "must be a str"),
        ("klingon", ValueError, "no text encoding that Python knows"),
        ("hex", ValueError, "no text encoding that Python knows"),
        ("utf-16", ValueError, "iconv -f utf-16 -t utf-8"),
        ("utf-7", ValueError, "not plain single bytes"),
        ("cp037", ValueError, "not plain single bytes"),
        ("iso2022_jp", ValueError, "not plain single bytes"),
        ("mac_arabic", ValueError, "not plain single bytes"),
    ],
)
def test_encodings_that_cannot_be_read(encoding: Any, error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why):
        io.csv.read("a", schema=Pair, encoding=encoding)


def test_a_delimiter_that_occurs_within_characters_is_refused() -> None:
    io.csv.read("a", schema=Pair, encoding="shift_jis")
    with pytest.raises(ValueError, match=r"the byte of '\|' also occurs within other characters"):
        io.csv.read("a", schema=Pair, encoding="shift_jis", csv_settings=io.CsvParserSettings(delimiter="|"))


def test_building_a_read_looks_at_nothing() -> None:
    assert io.plaintext.read("/nowhere/at/all", mode="static").columns


def test_writing_adds_a_sink_to_the_graph(tmp_path: Path) -> None:
    table = io.csv.read(tmp_path, schema=Pair, mode="static")
    with Graph() as graph:
        io.csv.write(table, tmp_path / "a.csv", name="out")
        io.jsonlines.write(table, "b.jsonl", on_restart="overwrite")
        io.fs.write(table, "c.jsonl", "json")
        io.parquet.write(table, "d")
    names = [(sink.name, sink.definition["path"], sink.definition["format"]) for sink in graph.sinks]
    assert names == [
        ("out", str(tmp_path / "a.csv"), "csv"),
        (None, "b.jsonl", "jsonlines"),
        (None, "c.jsonl", "jsonlines"),
        (None, "d", "parquet"),
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


def test_null_outputs_of_one_graph_differ() -> None:
    def identities() -> list[str]:
        table = io.plaintext.read("a")
        with Graph() as graph:
            io.null.write(table)
            io.null.write(table, name="out")
            io.null.write(table.select(x=table.data))
        return [node.sink.identity for node in graph.sinks]

    assert len(set(identities())) == 3
    assert identities() == identities()
    for wrong in ({"table": "t"}, {"name": 5}):
        with pytest.raises(TypeError):
            io.null.write(**({"table": io.plaintext.read("a")} | wrong))  # type: ignore[arg-type]


async def test_a_table_can_be_computed_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("x\n")
    config = ap.persistence.Config(ap.persistence.Backend.filesystem(tmp_path / "state"))
    for persistence in (None, config, config):
        with Graph() as graph:
            io.null.write(io.plaintext.read(tmp_path / "in", mode="static"))
        await ap.run(graph, persistence_config=persistence)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "state"]


def test_all_names_what_there_is() -> None:
    for module in (io, io.csv, io.fs, io.jsonlines, io.null, io.parquet, io.plaintext):
        for name in module.__all__:
            assert getattr(module, name) is not None
    assert list(inspect.signature(io.csv.write).parameters)[:2] == ["table", "filename"]
