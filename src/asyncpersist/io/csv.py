"""CSV files with a header."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Unpack

from asyncpersist.io import fs
from asyncpersist.io.formats.csv_records import CsvParserSettings
from asyncpersist.io.fs import OnRestart, ReadOptions

if TYPE_CHECKING:
    from asyncpersist.table.schema import Schema
    from asyncpersist.table.table import Table

__all__ = ["read", "write"]


def read(
    path: str | os.PathLike[str],
    *,
    schema: type[Schema],
    csv_settings: CsvParserSettings | None = None,
    encoding: str = "utf-8",
    **options: Unpack[ReadOptions],
) -> Table:
    """A table of the records in CSV files; see `fs.read` for paths, `ReadOptions` for the other arguments.

    Columns are taken by the names in each file's header; others are ignored. An empty field is None in an
    optional column, else the column's default, else an empty string in a `str` column and an error in any
    other. `csv_settings` says how fields are delimited, quoted and escaped, and what begins a comment.

    `encoding` is one of Python's in which ASCII is itself: the ISO 8859 and Windows code pages, the EUC ones, GBK, Big5
    and Shift JIS, the last three not with every delimiter. Files in UTF-16 are to be converted first.
    """
    return fs.read(path, "csv", schema=schema, csv_settings=csv_settings, encoding=encoding, **options)


def write(
    table: Table,
    filename: str | os.PathLike[str],
    *,
    name: str | None = None,
    on_restart: OnRestart = "continue",
) -> None:
    """Writes the changes of a table as CSV with the columns `time` and `diff` at the end; see `fs.write`."""
    fs.write(table, filename, "csv", name=name, on_restart=on_restart)
