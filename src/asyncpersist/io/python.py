"""Rows from Python: objects that give them, and tables of what they give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from asyncpersist.graph.node import SourceNode
from asyncpersist.io.definitions import refuse_futures
from asyncpersist.io.keyed import keyed
from asyncpersist.io.subject import ConnectorSubject
from asyncpersist.io.subject_reader import SubjectSource
from asyncpersist.io.subject_rows import RowShape

if TYPE_CHECKING:
    from asyncpersist.table.schema import Schema
    from asyncpersist.table.table import Table

__all__ = ["ConnectorSubject", "read"]


def read(
    subject: ConnectorSubject,
    *,
    schema: type[Schema],
    name: str | None = None,
    autocommit_duration_ms: int | None = None,
    resume: Literal["restart", "live"] | None = None,
    max_backlog_size: int | None = None,
) -> Table:
    """A table of the rows that `subject` gives.

    A primary key in the schema makes it an upsert: a row replaces the one before it under its key, and `remove` needs
    the key alone. Otherwise rows are kept apart even if they are equal. `name` makes the source the same one over
    changes of its definition, which is the class of the subject and the schema.

    Rows are available at once; `autocommit_duration_ms` lets one wait so long for others, to be in one epoch with them.
    `max_backlog_size` bounds how many rows the subject may be ahead of what was taken from it, which is bounded in
    bytes in any case.

    With persistence, a subject needs `offset` and `seek`; or `resume` says what a restart means for it: "restart" that
    its rows come again from the beginning, "live" that those which came meanwhile are missed. With either, its offsets
    are not asked for. What was given before a restart is kept in any case: rows that come again replace themselves
    under a primary key, and without one each of them counts once more after every restart.

    Raises `TypeError` and `ValueError` for wrong arguments.
    """
    from asyncpersist.table.schema import Schema
    from asyncpersist.table.table import Table

    if not isinstance(subject, ConnectorSubject):
        raise TypeError(f"io.python.read takes an object of a class derived from ConnectorSubject, got {subject!r}")
    what = type(subject).__name__
    where = f"the subject {what}" if name is None else f"the subject {name!r} ({what})"
    if not (isinstance(schema, type) and issubclass(schema, Schema)):
        raise TypeError(f"{where}: schema must be a subclass of Schema, got {schema!r}")
    if not schema.column_names():
        raise ValueError(f"{where}: the schema has no columns")
    if name is not None and not isinstance(name, str):
        raise TypeError(f"{where}: name must be a str, got {name!r}")
    if resume not in (None, "restart", "live"):
        raise ValueError(f'{where}: resume must be None, "restart" or "live", got {resume!r}')
    _check_count(where, "autocommit_duration_ms", autocommit_duration_ms, least=0)
    _check_count(where, "max_backlog_size", max_backlog_size, least=1)
    key = schema.primary_key_columns() or []
    columns = schema.dtypes()
    refuse_futures(columns, where)
    source = SubjectSource(
        subject,
        RowShape(columns, schema.default_values(), key, where=where),
        keyed=bool(key),
        delay=(autocommit_duration_ms or 0) / 1000,
        resume=resume,
        max_rows=max_backlog_size,
    )
    node = SourceNode(
        kind="source",
        definition={
            "connector": "python",
            "subject": type(subject).__qualname__,
            "columns": {column: str(dtype) for column, dtype in columns.items()},
        },
        name=name,
        columns=columns,
        source=source,
        key=tuple(key),
        ordered=bool(key),
    )
    return Table(keyed(node, key, replaces=True) if key else node)


def _check_count(where: str, what: str, value: Any, *, least: int) -> None:
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{where}: {what} must be an int or None, got {value!r}")
    if value < least:
        raise ValueError(f"{where}: {what} must be at least {least}, got {value}")
