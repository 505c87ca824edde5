"""Asyncio-native incremental tables with exactly-once snapshots.

Connectors feed an incremental table computation inside the caller's event loop; a timer snapshots offsets and state;
after a kill a run goes on where it was. ``import asyncpersist as ap``, define tables, ``await ap.run(...)``.
"""

from __future__ import annotations

from asyncpersist import errors, io, persistence, udfs
from asyncpersist.dtypes import (
    PENDING,
    DateTimeNaive,
    DateTimeUtc,
    Duration,
    Json,
    Pointer,
    PyObjectWrapper,
    wrap_py_object,
)
from asyncpersist.graph.context import Graph
from asyncpersist.persistence import PersistenceMode, SnapshotAccess
from asyncpersist.runtime.runtime import Runtime, run
from asyncpersist.runtime.statistics import Statistics
from asyncpersist.table import reducers
from asyncpersist.table.expression import ColumnExpression
from asyncpersist.table.functions import (
    cast,
    coalesce,
    declare_type,
    fill_error,
    if_else,
    is_none,
    is_not_none,
    make_tuple,
    require,
    unwrap,
)
from asyncpersist.table.schema import Schema, column_definition, schema_from_types
from asyncpersist.table.table import Table
from asyncpersist.table.this import left, right, this
from asyncpersist.udfs.definition import UDF, apply, apply_async, apply_with_type, udf

__all__ = [
    "PENDING",
    "UDF",
    "ColumnExpression",
    "DateTimeNaive",
    "DateTimeUtc",
    "Duration",
    "Graph",
    "Json",
    "PersistenceMode",
    "Pointer",
    "PyObjectWrapper",
    "Runtime",
    "Schema",
    "SnapshotAccess",
    "Statistics",
    "Table",
    "apply",
    "apply_async",
    "apply_with_type",
    "cast",
    "coalesce",
    "column_definition",
    "declare_type",
    "errors",
    "fill_error",
    "if_else",
    "io",
    "is_none",
    "is_not_none",
    "left",
    "make_tuple",
    "persistence",
    "reducers",
    "require",
    "right",
    "run",
    "schema_from_types",
    "this",
    "udf",
    "udfs",
    "unwrap",
    "wrap_py_object",
]

__version__ = "0.1.0"
