"""What readers and writers of files have in common when a graph is defined: arguments, nodes, and what is refused.

Nothing here looks at what is in files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from asyncpersist.dtypes import DType
from asyncpersist.errors import SchemaError
from asyncpersist.graph.context import current_graph
from asyncpersist.graph.node import Node, SinkNode, SourceNode
from asyncpersist.io.file_labels import METADATA
from asyncpersist.io.file_source import FileSource
from asyncpersist.io.formats.format import Format
from asyncpersist.io.keyed import keyed
from asyncpersist.io.sink import Sink

if TYPE_CHECKING:
    from asyncpersist.table.table import Table

__all__ = [
    "Mode",
    "OnError",
    "ReadOptions",
    "add_output",
    "check_table",
    "file_table",
    "path_text",
    "refuse_futures",
    "schema_columns",
    "title_of",
]

Mode = Literal["streaming", "static"]
OnError = Literal["raise", "skip"]


class ReadOptions(TypedDict, total=False):
    """The arguments that all readers of files have; all are optional.

    `mode`: "streaming", the default, follows what is added, changed and deleted for as long as the run lives; "static"
    reads what is there and ends. `with_metadata=True` adds the Json column `_metadata` at the end, with the `path`,
    `size` and `modified_at` of the row's file. `name` makes the source the same one over changes of its definition.

    `on_error="raise"` makes what is malformed or does not fit the schema an error, which names file, line and text;
    `"skip"` leaves it out and counts it, and `dead_letters` names a file to keep it in, as JSON lines
    `{file, line, text, error}`. `autocommit_duration_ms` has no effect: rows are taken as soon as they are read.
    """

    mode: Mode
    with_metadata: bool
    name: str | None
    autocommit_duration_ms: int | None
    on_error: OnError
    dead_letters: str | os.PathLike[str] | None


def file_table(path: Any, format: Format, options: ReadOptions, *, primary_key: list[str] | None = None) -> Table:
    """The table of the files at `path`. Raises `TypeError` and `ValueError` for wrong arguments, `SchemaError`."""
    from asyncpersist.table.table import Table

    where = title_of(path)
    unknown = sorted(options.keys() - ReadOptions.__annotations__.keys())
    if unknown:
        raise TypeError(f"{where}: there are no arguments {unknown}; there are {list(ReadOptions.__annotations__)}")
    _check_types(where, options)
    text = path_text(path)
    letters = options.get("dead_letters")
    letters = None if letters is None else path_text(letters)
    if letters is not None:
        _refuse_letters(where, os.path.realpath(letters), text)
    with_metadata = options.get("with_metadata", False)
    columns = dict(format.columns)
    if with_metadata:
        if METADATA in columns:
            raise SchemaError(f"{where}: with_metadata=True adds a column {METADATA!r}, which the schema has too")
        columns[METADATA] = DType("json")
    source = FileSource(
        text,
        format,
        mode=options.get("mode", "streaming"),
        with_metadata=with_metadata,
        on_error=options.get("on_error", "raise"),
        dead_letters=letters,
    )
    node = SourceNode(
        kind="source",
        definition={
            "connector": "fs",
            "path": os.fsencode(text).decode("utf-8", "backslashreplace"),
            "columns": {column: str(dtype) for column, dtype in columns.items()},
            **format.definition(),
        },
        name=options.get("name"),
        columns=columns,
        source=source,
        key=tuple(primary_key or ()),
        ordered=primary_key is not None,
    )
    return Table(node if primary_key is None else keyed(node, primary_key, replaces=False))


def schema_columns(schema: Any, where: str) -> tuple[dict[str, DType], dict[str, Any], list[str] | None]:
    """The types, the defaults and the primary key of a schema whose columns can be read from files."""
    from asyncpersist.table.schema import Schema

    if schema is None:
        raise TypeError(f"{where}: this format needs a schema")
    if not (isinstance(schema, type) and issubclass(schema, Schema)):
        raise TypeError(f"{where}: schema must be a subclass of Schema, got {schema!r}")
    columns = dict(schema.dtypes())
    refuse_futures(columns, where)
    for kind, what in (("pointer", "pointers"), ("object", "Python objects")):
        if found := [column for column, dtype in columns.items() if kind in str(dtype)]:
            raise SchemaError(f"{where}: the columns {found} are {what}, which cannot be read from files")
    return columns, dict(schema.default_values()), schema.primary_key_columns()


def refuse_futures(columns: Mapping[str, DType], where: str) -> None:
    """Raises `SchemaError` for a schema that no source can have: it was taken from a table with futures."""
    if futures := [name for name, dtype in columns.items() if dtype.kind == "future"]:
        raise SchemaError(
            f"{where}: the columns {futures} are futures, which are computed and never read. Take the schema of the "
            "table's `await_futures()`."
        )


def add_output(table: Table, sink: Sink, definition: Mapping[str, Any], *, name: Any) -> None:
    """Makes `sink` part of the current graph. Raises what is wrong with it before anything is added."""
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name must be a str, got {name!r}")
    graph = current_graph()
    for source in _sources([table.node, *graph.sinks]):
        if isinstance(source, FileSource) and source.dead_letters is not None:
            _refuse_shared(os.path.realpath(source.dead_letters), sink.identity)
    columns = {column: str(dtype) for column, dtype in table.columns.items()}
    if sink.output is not None and (objects := [name for name, dtype in columns.items() if "object" in dtype]):
        raise SchemaError(f"{sink.identity}: the columns {objects} are Python objects, which files cannot hold")
    definition = {**definition, "columns": columns}
    graph.add(SinkNode(kind="sink", definition=definition, inputs=(table.node,), name=name, sink=sink))


def check_table(table: Any) -> None:
    """Raises `TypeError` for what is no table."""
    from asyncpersist.table.table import Table

    if not isinstance(table, Table):
        raise TypeError(f"writing takes a table first, got {table!r}")


def path_text(path: Any) -> str:
    """A path as text. Raises `TypeError`, `ValueError`."""
    if not isinstance(path, (str, os.PathLike)) or not isinstance(text := os.fspath(path), str):
        raise TypeError(f"a path must be a str or a path of str, got {path!r}")
    if not text or "\0" in text:
        raise ValueError(f"{text!r} is no path")
    return text


def title_of(path: Any) -> str:
    """What errors of a read begin with."""
    return f"reading {os.fspath(path) if isinstance(path, os.PathLike) else path!r}"


def _check_types(where: str, options: ReadOptions) -> None:
    for name, value in options.items():
        match name:
            case "with_metadata":
                expected, fits = "a bool", isinstance(value, bool)
            case "autocommit_duration_ms":
                fits = value is None or (isinstance(value, int) and not isinstance(value, bool))
                expected = "an int or None"
            case "name":
                expected, fits = "a str or None", value is None or isinstance(value, str)
            case "mode" | "on_error":
                expected, fits = "a str", isinstance(value, str)
            case _:
                continue
        if not fits:
            raise TypeError(f"{where}: {name} must be {expected}, got {value!r}")


def _refuse_letters(where: str, letters: str, path: str) -> None:
    """Raises `ValueError` where the file of the dead letters is known to be something else, too."""
    if letters == os.path.realpath(path):
        raise ValueError(f"{where}: dead_letters names the input itself; name another file")
    for node in current_graph().sinks:
        _refuse_shared(letters, node.sink.identity)


def _refuse_shared(letters: str, output: str) -> None:
    if letters == output or letters.startswith(output + os.sep):
        raise ValueError(f"{letters!r} is named for dead letters and lies in the output {output!r}; name another file")


def _sources(nodes: list[Any]) -> Iterator[Any]:
    """The sources of everything that leads to these nodes."""
    seen: set[int] = set()
    todo: list[Node] = list(nodes)
    while todo:
        node = todo.pop()
        if id(node) not in seen:
            seen.add(id(node))
            todo.extend(node.inputs)
            if isinstance(node, SourceNode):
                yield node.source
