"""Files of any format: what `jsonlines`, `csv` and `plaintext` have in common, and the reading and writing by
a format's name.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

from asyncpersist.dtypes import DType
from asyncpersist.errors import SchemaError, Unsupported
from asyncpersist.graph.context import current_graph
from asyncpersist.graph.node import SinkNode, SourceNode
from asyncpersist.io.file_sink import FileSink
from asyncpersist.io.file_source import FileSource
from asyncpersist.io.formats.csv import Csv
from asyncpersist.io.formats.csv_records import CsvParserSettings
from asyncpersist.io.formats.format import Format
from asyncpersist.io.formats.jsonlines import JsonLines
from asyncpersist.io.formats.plaintext import PlainText, PlainTextByFile

if TYPE_CHECKING:
    from asyncpersist.table.schema import Schema
    from asyncpersist.table.table import Table

__all__ = ["Mode", "OnError", "OnRestart", "read", "write"]

Mode = Literal["streaming", "static"]
OnError = Literal["raise", "skip"]
OnRestart = Literal["continue", "overwrite"]

_READABLE = "json, jsonlines, csv, plaintext, plaintext_by_file"


def read(
    path: str | os.PathLike[str],
    format: Literal["json", "jsonlines", "csv", "plaintext", "plaintext_by_file"],
    *,
    schema: type[Schema] | None = None,
    mode: Mode = "streaming",
    csv_settings: CsvParserSettings | None = None,
    json_field_paths: dict[str, str] | None = None,
    with_metadata: bool = False,
    name: str | None = None,
    autocommit_duration_ms: int | None = 1500,
    on_error: OnError = "raise",
    dead_letters: str | os.PathLike[str] | None = None,
) -> Table:
    """A table of the rows in files.

    `path` is a file, a directory (recursive, sorted; hidden and temporary names left out) or a glob; `.gz`
    and `.zst` are read as such. `format` says what is in them ("json" is "jsonlines"); "plaintext" and
    "plaintext_by_file" have the one column `data` and take no schema, the others need one. `mode="static"`
    reads what is there and ends. `name` makes the source the same one over changes of its definition.
    `autocommit_duration_ms` has no effect on a static read.

    A line that is malformed or does not fit the schema is an error that names file, line and text;
    `on_error="skip"` leaves it out and counts it, and `dead_letters` names a file to keep such lines in, as
    JSON lines `{file, line, text, error}`.

    Raises `TypeError` and `ValueError` for wrong arguments, `SchemaError` for a schema the format cannot
    read, `Unsupported` for what is not built yet: `mode="streaming"`, `with_metadata`, `json_field_paths`,
    primary keys.
    """
    where = f"io.fs.read({path!r})"
    _check_text("format", format)
    if str(format) in ("binary", "only_metadata"):
        raise Unsupported(f"{where}: format={format!r} is not built yet; there are {_READABLE}")
    if format not in ("json", "jsonlines", "csv", "plaintext", "plaintext_by_file"):
        raise ValueError(f"{where}: format={format!r} is none of {_READABLE}")
    where = f"reading {os.fspath(path) if isinstance(path, os.PathLike) else path!r}"
    if csv_settings is not None and (format != "csv" or not isinstance(csv_settings, CsvParserSettings)):
        raise TypeError(f'{where}: csv_settings takes a CsvParserSettings, with format="csv", got {csv_settings!r}')
    _check_options(where, mode=mode, with_metadata=with_metadata, autocommit_duration_ms=autocommit_duration_ms)
    if json_field_paths is not None:
        raise Unsupported(f"{where}: json_field_paths is not built yet; take the whole value as a Json column")
    if name is not None:
        _check_text("name", name)
    made: Format
    if format in ("plaintext", "plaintext_by_file"):
        if schema is not None:
            raise TypeError(f"{where}: format={format!r} has the one column `data` and takes no schema")
        made = PlainText() if format == "plaintext" else PlainTextByFile()
    else:
        columns, defaults = _columns_of(schema, where)
        if format == "csv":
            made = Csv(columns, defaults, csv_settings or CsvParserSettings())
        else:
            made = JsonLines(columns, defaults)
    source = FileSource(
        _path_text(path),
        made,
        on_error=on_error,
        dead_letters=None if dead_letters is None else _path_text(dead_letters),
    )
    node = SourceNode(
        kind="source",
        definition={
            "connector": "fs",
            "path": os.fsencode(_path_text(path)).decode("utf-8", "backslashreplace"),
            "columns": {column: str(dtype) for column, dtype in made.columns.items()},
            **made.definition(),
        },
        name=name,
        columns=made.columns,
        source=source,
    )
    from asyncpersist.table.table import Table

    return Table(node)


def write(
    table: Table,
    filename: str | os.PathLike[str],
    format: Literal["json", "jsonlines", "csv"],
    *,
    name: str | None = None,
    on_restart: OnRestart = "continue",
) -> None:
    """Writes the changes of `table` to a file, each row with its `time` (the epoch) and `diff` (1 or -1).

    With persistence the file goes on where it was (`on_restart="continue"`), or is a new one of what is new
    from now on (`"overwrite"`); without it every run starts a new file. Raises `TypeError` and `ValueError`
    for wrong arguments, `SchemaError` if the table has columns `time` or `diff`.
    """
    from asyncpersist.table.table import Table

    if not isinstance(table, Table):
        raise TypeError(f"writing takes a table first, got {table!r}")
    _check_text("format", format)
    if format not in ("json", "jsonlines", "csv"):
        raise ValueError(f"format={format!r}: an output file is json, jsonlines or csv")
    if name is not None:
        _check_text("name", name)
    path = _path_text(filename)
    kind: Literal["csv", "jsonlines"] = "csv" if format == "csv" else "jsonlines"
    sink = FileSink(path, kind, table.columns, on_restart=on_restart)
    definition = {
        "connector": "fs",
        "path": os.fsencode(path).decode("utf-8", "backslashreplace"),
        "format": kind,
        "columns": {column: str(dtype) for column, dtype in table.columns.items()},
    }
    current_graph().add(SinkNode(kind="sink", definition=definition, inputs=(table.node,), name=name, sink=sink))


def _check_options(where: str, *, mode: Any, with_metadata: Any, autocommit_duration_ms: Any) -> None:
    _check_text("mode", mode)
    if mode == "streaming":
        raise Unsupported(
            f'{where}: mode="streaming", which is the default, is not built yet; pass mode="static" '
            "to read what is there and end"
        )
    if mode != "static":
        raise ValueError(f'{where}: mode must be "static" or "streaming", got {mode!r}')
    if not isinstance(with_metadata, bool):
        raise TypeError(f"{where}: with_metadata must be a bool, got {with_metadata!r}")
    if with_metadata:
        raise Unsupported(f"{where}: with_metadata=True is not built yet")
    if autocommit_duration_ms is not None and (
        not isinstance(autocommit_duration_ms, int) or isinstance(autocommit_duration_ms, bool)
    ):
        raise TypeError(f"{where}: autocommit_duration_ms must be an int or None, got {autocommit_duration_ms!r}")


def _columns_of(schema: Any, where: str) -> tuple[dict[str, DType], dict[str, Any]]:
    from asyncpersist.table.schema import Schema

    if schema is None:
        raise TypeError(f"{where}: this format needs a schema")
    if not (isinstance(schema, type) and issubclass(schema, Schema)):
        raise TypeError(f"{where}: schema must be a subclass of Schema, got {schema!r}")
    if schema.primary_key_columns():
        raise Unsupported(f"{where}: a primary key in the schema of files is not built yet")
    columns = dict(schema.dtypes())
    pointers = [column for column, dtype in columns.items() if "pointer" in str(dtype)]
    if pointers:
        raise SchemaError(f"{where}: the columns {pointers} are pointers, which cannot be read from files")
    return columns, dict(schema.default_values())


def _check_text(what: str, value: Any) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a str, got {value!r}")


def _path_text(path: Any) -> str:
    if not isinstance(path, (str, os.PathLike)) or not isinstance(text := os.fspath(path), str):
        raise TypeError(f"a path must be a str or a path of str, got {path!r}")
    if not text or "\0" in text:
        raise ValueError(f"{text!r} is no path")
    return text
