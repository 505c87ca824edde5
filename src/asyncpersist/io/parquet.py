"""Parquet files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Unpack

from asyncpersist.io import definitions, fs
from asyncpersist.io.fs import OnRestart, ReadOptions
from asyncpersist.io.parquet_sink import ParquetSink

if TYPE_CHECKING:
    from asyncpersist.table.schema import Schema
    from asyncpersist.table.table import Table

__all__ = ["read", "write"]


def read(path: str | os.PathLike[str], *, schema: type[Schema], **options: Unpack[ReadOptions]) -> Table:
    """A table of the rows in Parquet files; see `fs.read` for paths, `ReadOptions` for the other arguments.

    Only the columns of the schema are read. Their types in the file may be others where nothing is lost: narrower
    integers and floats, categories, dates, other units of time. None in a column that is not optional is the column's
    default, else an error, and so is a column that the file lacks. Any change of a file is a change of all its rows;
    `on_error="skip"` leaves out a file in which anything is wrong. Replace a large file by renaming a new one over it:
    one of more than 64 MiB is mapped into memory while it is read, and must not be cut.
    """
    return fs.read(path, "parquet", schema=schema, **options)


def write(
    table: Table,
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    on_restart: OnRestart = "continue",
) -> None:
    """Writes the changes of a table to Parquet files in the directory `path`, with `time` and `diff` at the end.

    The directory is made if it is missing, and must hold nothing else. Its files are `part-000000001.parquet` and so
    on: a snapshot ends one if anything changed, and so does every million rows; without persistence rows wait a second
    for others. `pl.read_parquet(path)` reads them all. No source of the same run may read this directory.
    How it goes on after a restart is as in `fs.write`. Raises `TypeError` and `ValueError` for wrong arguments,
    `SchemaError` if the table has columns `time` or `diff`.
    """
    definitions.check_table(table)
    text = definitions.path_text(path)
    sink = ParquetSink(text, table.columns, on_restart=on_restart)
    definition = {
        "connector": "fs",
        "path": os.fsencode(text).decode("utf-8", "backslashreplace"),
        "format": "parquet",
    }
    definitions.add_output(table, sink, definition, name=name)
