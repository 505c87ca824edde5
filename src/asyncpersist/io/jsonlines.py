"""JSON Lines files: one JSON object a line."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Unpack

from asyncpersist.io import fs
from asyncpersist.io.fs import OnRestart, ReadOptions

if TYPE_CHECKING:
    from asyncpersist.table.schema import Schema
    from asyncpersist.table.table import Table

__all__ = ["read", "write"]


def read(
    path: str | os.PathLike[str],
    *,
    schema: type[Schema],
    json_field_paths: dict[str, str] | None = None,
    **options: Unpack[ReadOptions],
) -> Table:
    """A table of the objects in files of JSON lines; see `fs.read` for paths, `ReadOptions` for the other arguments.

    Keys that are no columns are ignored. A key that is missing or null is None in an optional column, else
    the column's default, else an error.
    """
    return fs.read(path, "jsonlines", schema=schema, json_field_paths=json_field_paths, **options)


def write(
    table: Table,
    filename: str | os.PathLike[str],
    *,
    name: str | None = None,
    on_restart: OnRestart = "continue",
) -> None:
    """Writes the changes of a table as JSON lines with `time` and `diff`; see `fs.write`."""
    fs.write(table, filename, "jsonlines", name=name, on_restart=on_restart)
