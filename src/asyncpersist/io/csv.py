"""CSV files with a header."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from asyncpersist.io import fs
from asyncpersist.io.formats.csv_records import CsvParserSettings
from asyncpersist.io.fs import Mode, OnError, OnRestart

if TYPE_CHECKING:
    from asyncpersist.table.schema import Schema
    from asyncpersist.table.table import Table

__all__ = ["read", "write"]


def read(
    path: str | os.PathLike[str],
    *,
    schema: type[Schema],
    csv_settings: CsvParserSettings | None = None,
    mode: Mode = "streaming",
    with_metadata: bool = False,
    autocommit_duration_ms: int | None = 1500,
    name: str | None = None,
    on_error: OnError = "raise",
    dead_letters: str | os.PathLike[str] | None = None,
) -> Table:
    """A table of the records in CSV files; see `fs.read` for the arguments and what is raised.

    Columns are taken by the names in each file's header; others are ignored. An empty field is None in an
    optional column, else the column's default, else an empty string in a `str` column and an error in any
    other.
    """
    return fs.read(
        path,
        "csv",
        schema=schema,
        csv_settings=csv_settings,
        mode=mode,
        with_metadata=with_metadata,
        autocommit_duration_ms=autocommit_duration_ms,
        name=name,
        on_error=on_error,
        dead_letters=dead_letters,
    )


def write(
    table: Table,
    filename: str | os.PathLike[str],
    *,
    name: str | None = None,
    on_restart: OnRestart = "continue",
) -> None:
    """Writes the changes of a table as CSV with the columns `time` and `diff` at the end; see `fs.write`."""
    fs.write(table, filename, "csv", name=name, on_restart=on_restart)
