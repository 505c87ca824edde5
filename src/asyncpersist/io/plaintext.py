"""Plain text files: every line is a row."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from asyncpersist.io import fs
from asyncpersist.io.fs import Mode, OnError

if TYPE_CHECKING:
    from asyncpersist.table.table import Table

__all__ = ["read"]


def read(
    path: str | os.PathLike[str],
    *,
    mode: Mode = "streaming",
    with_metadata: bool = False,
    autocommit_duration_ms: int | None = 1500,
    name: str | None = None,
    on_error: OnError = "raise",
    dead_letters: str | os.PathLike[str] | None = None,
) -> Table:
    """A table with the one column `data: str`, a line each, without its line end; see `fs.read` for the
    arguments.

    Empty lines are rows too, and white space is kept. A line that is not UTF-8 is malformed.
    """
    return fs.read(
        path,
        "plaintext",
        mode=mode,
        with_metadata=with_metadata,
        autocommit_duration_ms=autocommit_duration_ms,
        name=name,
        on_error=on_error,
        dead_letters=dead_letters,
    )
