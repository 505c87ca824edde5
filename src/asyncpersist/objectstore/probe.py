"""Whether a store honours create-if-absent, found by trying."""

from __future__ import annotations

from asyncpersist.errors import StateUnwritable
from asyncpersist.objectstore.contract import KeyExists, ObjectStore

__all__ = ["probe"]


async def probe(store: ObjectStore, key: str, data: bytes) -> None:
    """Makes sure that `data` is under `key` and that a second `create` of it is refused.

    `data` must be the same for every caller, so that a store that overwrites does no harm.
    Raises `StateUnwritable` if the store overwrites.
    """
    try:
        await store.create(key, data)
    except KeyExists:
        return
    try:
        await store.create(key, data)
    except KeyExists:
        return
    raise StateUnwritable(
        f"{store.describe()}: the store overwrote {key} where it was asked to create it only if absent. Two runs could "
        "destroy each other's state there; use a store that honours create-if-absent."
    )
