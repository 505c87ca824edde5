"""Whether a store honours create-if-absent, found by trying."""

from __future__ import annotations

import logging

from asyncpersist.errors import StateUnwritable
from asyncpersist.objectstore.contract import KeyExists, ObjectStore

__all__ = ["probe"]

_ATTEMPTS = 10

_log = logging.getLogger("asyncpersist")


async def probe(store: ObjectStore, key: str, data: bytes, *, single_writer: bool = False) -> bool:
    """Makes sure that `data` is under `key`, and returns whether the store refuses to create what is there.

    `data` must be the same for every caller, so that a store that overwrites does no harm. Such a store raises
    `StateUnwritable`; with `single_writer` it is accepted, with a warning to the logger `asyncpersist`.
    """
    # One creation that succeeds again proves nothing: where its answer was lost, it may have been repeated and have
    # met itself.
    for _ in range(_ATTEMPTS):
        try:
            await store.create(key, data)
        except KeyExists:
            return True
    found = f"{store.describe()}: the store overwrote {key} where it was asked to create it only if absent."
    if not single_writer:
        raise StateUnwritable(
            f"{found} Two runs could destroy each other's state there; use a store that honours create-if-absent. If "
            "there is never more than one run, single_writer=True accepts this one."
        )
    _log.warning(
        "%s It is used because of single_writer=True: NOTHING KEEPS A SECOND RUN FROM DESTROYING THE STATE of the "
        "first. Make sure that there is never more than one.",
        found,
    )
    return False
