"""Plain text files: every line is a row."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Unpack

from asyncpersist.io import fs
from asyncpersist.io.fs import ReadOptions

if TYPE_CHECKING:
    from asyncpersist.table.table import Table

__all__ = ["read"]


def read(path: str | os.PathLike[str], **options: Unpack[ReadOptions]) -> Table:
    """A table with the one column `data: str`, a line each, without its line end; see `fs.read` for paths,
    `ReadOptions` for the other arguments.

    Empty lines are rows too, and white space is kept. A line that is not UTF-8 is malformed.
    """
    return fs.read(path, "plaintext", **options)
