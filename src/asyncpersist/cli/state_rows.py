"""The rows of a piece of state out of its objects, for looking at them without the operator that wrote them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import polars as pl

from asyncpersist.checkpoint.manifest import ObjectRef
from asyncpersist.checkpoint.root import Root
from asyncpersist.cli.printing import plain
from asyncpersist.columnar import codec
from asyncpersist.columnar.delta import ID, ORDER, WEIGHT
from asyncpersist.errors import DamagedState
from asyncpersist.io.source import OWN
from asyncpersist.operators.copies import ROW
from asyncpersist.operators.reducers.value_log import ENTRY
from asyncpersist.operators.remembered import ARGUMENTS, VALUE
from asyncpersist.runtime.offsets import OffsetTable

__all__ = ["key_of", "owner_and_name", "plain_rows", "read_rows"]


def owner_and_name(stream: str, identities: Sequence[str]) -> tuple[str, str]:
    """Whose stream it is and what it is called there: "offsets", "log", or the name of a piece of operator state."""
    kind, _, rest = stream.partition("/")
    if kind != "state":
        return rest, kind
    # Both names are the user's in part, and may hold a slash.
    owners = [identity for identity in identities if rest.startswith(f"{identity}/")]
    owner = max(owners, key=len) if owners else rest.rpartition("/")[0]
    return owner, rest[len(owner) + 1 :]


def key_of(name: str, columns: Sequence[str]) -> tuple[str, ...]:
    """The key of a piece of state, which its operator knows and its files do not say.

    Only what is of the key has no two underscores in front, which no column of a user's has, or is a number that tells
    apart what lies under the same columns; a set of values is keyed by everything but the weight, as are rows that wait
    for an answer. What functions returned is known by the row and the arguments.
    """
    if name == "offsets":
        return OffsetTable.key
    if ARGUMENTS in columns and VALUE in columns:
        return (ID, ARGUMENTS)
    if name.startswith("values:") or ARGUMENTS in columns:
        return tuple(column for column in columns if column != WEIGHT)
    if ROW in columns:
        return (ROW,)
    return tuple(column for column in columns if not column.startswith("__") or column in (ENTRY, ORDER))


async def read_rows(root: Root, name: str, refs: Sequence[ObjectRef]) -> tuple[tuple[str, ...], pl.DataFrame]:
    """The key, and the rows that are there now, ascending by the key; `refs` are not empty. Raises `DamagedState`."""
    parts = [await root.get(ref) for ref in refs]

    def work() -> tuple[tuple[str, ...], pl.DataFrame]:
        try:
            frames = [codec.decode(part) for part in parts]
            key = key_of(name, frames[0].columns)
            rows = codec.latest_rows(frames, key, drop_tombstones=True)
            if name == "offsets":
                rows = rows.filter(pl.col("partition") != OWN)
        except ValueError as exc:
            raise DamagedState(f"{refs[0].key} and what follows it cannot be read as state: {exc}") from exc
        return key, rows.sort(key) if key else rows

    return await asyncio.to_thread(work)


def plain_rows(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON has them; ids, which no program reads as numbers, in hexadecimal."""
    ids = [name for name, dtype in rows.schema.items() if dtype == pl.UInt128]
    return [
        {name: f"^{value:032X}" if name in ids and value is not None else plain(value) for name, value in row.items()}
        for row in rows.iter_rows(named=True)
    ]
