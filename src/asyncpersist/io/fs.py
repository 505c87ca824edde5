"""Files of any format: reading and writing by a format's name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, Unpack

from asyncpersist.errors import Unsupported
from asyncpersist.io import definitions
from asyncpersist.io.definitions import ReadOptions
from asyncpersist.io.file_sink import FileSink
from asyncpersist.io.formats.binary import BinaryByFile
from asyncpersist.io.formats.csv import Csv
from asyncpersist.io.formats.csv_records import CsvParserSettings
from asyncpersist.io.formats.format import Format
from asyncpersist.io.formats.jsonlines import JsonLines
from asyncpersist.io.formats.parquet import Parquet
from asyncpersist.io.formats.plaintext import PlainText, PlainTextByFile
from asyncpersist.io.render import OnRestart

if TYPE_CHECKING:
    from asyncpersist.table.schema import Schema
    from asyncpersist.table.table import Table

__all__ = ["OnRestart", "ReadFormat", "ReadOptions", "WriteFormat", "read", "write"]

ReadFormat = Literal["json", "jsonlines", "csv", "parquet", "plaintext", "plaintext_by_file", "binary"]
WriteFormat = Literal["json", "jsonlines", "csv"]

_READABLE = "json, jsonlines, csv, parquet, plaintext, plaintext_by_file, binary"
_WITHOUT_SCHEMA: dict[str, type[Format]] = {
    "plaintext": PlainText,
    "plaintext_by_file": PlainTextByFile,
    "binary": BinaryByFile,
}
_COMPRESSED = (".gz", ".zst", ".zstd", ".bz2", ".xz", ".zip")


def read(
    path: str | os.PathLike[str],
    format: ReadFormat,
    *,
    schema: type[Schema] | None = None,
    csv_settings: CsvParserSettings | None = None,
    encoding: str | None = None,
    json_field_paths: dict[str, str] | None = None,
    **options: Unpack[ReadOptions],
) -> Table:
    """A table of the rows in files.

    `path` is a file, a directory (recursive, sorted; hidden and temporary names left out) or a glob; `.gz`
    and `.zst` are read as such. `format` says what is in them ("json" is "jsonlines"). "plaintext" (a row is a line),
    "plaintext_by_file" and "binary" (a row is a file, of up to 64 MiB, as text or as bytes) have the one column `data`
    and take no schema; the others need one. With a primary key in the schema there is one row for each key: of the
    rows under it that are there the one that was read last. `csv_settings` and `encoding` go with CSV, see `csv.read`.
    The other arguments are those of `ReadOptions`.

    Raises `TypeError` and `ValueError` for wrong arguments, `SchemaError` for a schema the format cannot
    read, `Unsupported` for what is not built yet: `json_field_paths` and the format "only_metadata".
    """
    if not isinstance(format, str):
        raise TypeError(f"format must be a str, got {format!r}")
    where = definitions.title_of(path)
    if str(format) == "only_metadata":
        raise Unsupported(
            f'{where}: format="only_metadata" is not built yet; read "binary" with with_metadata=True and take the '
            "column _metadata alone"
        )
    if csv_settings is not None and (format != "csv" or not isinstance(csv_settings, CsvParserSettings)):
        raise TypeError(f'{where}: csv_settings takes a CsvParserSettings, with format="csv", got {csv_settings!r}')
    if encoding is not None and format != "csv":
        raise TypeError(f'{where}: encoding goes with format="csv"; other text is UTF-8')
    if json_field_paths is not None:
        raise Unsupported(f"{where}: json_field_paths is not built yet; take the whole value as a Json column")
    if format in _WITHOUT_SCHEMA:
        if schema is not None:
            raise TypeError(f"{where}: format={format!r} has the one column `data` and takes no schema")
        return definitions.file_table(path, _WITHOUT_SCHEMA[format](), options)
    if format not in ("json", "jsonlines", "csv", "parquet"):
        raise ValueError(f"{where}: format={format!r} is none of {_READABLE}")
    columns, defaults, primary_key = definitions.schema_columns(schema, where)
    made: Format
    if format == "csv":
        made = Csv(columns, defaults, csv_settings or CsvParserSettings(), "utf-8" if encoding is None else encoding)
    elif format == "parquet":
        made = Parquet(columns, defaults)
    else:
        made = JsonLines(columns, defaults)
    return definitions.file_table(path, made, options, primary_key=primary_key)


def write(
    table: Table,
    filename: str | os.PathLike[str],
    format: WriteFormat,
    *,
    name: str | None = None,
    on_restart: OnRestart = "continue",
) -> None:
    """Writes the changes of `table` to a file, each row with its `time` (the epoch) and `diff` (1 or -1).

    With persistence the file goes on where it was (`on_restart="continue"`), or is a new one of what is new
    from now on (`"overwrite"`); without it every run starts a new file. Raises `TypeError` and `ValueError`
    for wrong arguments, `SchemaError` if the table has columns `time` or `diff`, `Unsupported` for a compressed file.
    """
    definitions.check_table(table)
    if not isinstance(format, str):
        raise TypeError(f"format must be a str, got {format!r}")
    if str(format) == "parquet":
        raise ValueError('format="parquet" is written to a directory of files: use io.parquet.write')
    if format not in ("json", "jsonlines", "csv"):
        raise ValueError(f"format={format!r}: an output file is json, jsonlines or csv")
    path = definitions.path_text(filename)
    if path.lower().endswith(_COMPRESSED):
        raise Unsupported(
            f"writing {path!r}: compressed output is not built yet; write it plain, or to Parquet, which is compressed"
        )
    kind: Literal["csv", "jsonlines"] = "csv" if format == "csv" else "jsonlines"
    sink = FileSink(path, kind, table.columns, on_restart=on_restart)
    definition = {
        "connector": "fs",
        "path": os.fsencode(path).decode("utf-8", "backslashreplace"),
        "format": kind,
    }
    definitions.add_output(table, sink, definition, name=name)
