"""Looking at the newest snapshot of a state that a run may be writing to meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from asyncpersist.checkpoint.manifest import Manifest
from asyncpersist.checkpoint.root import Root
from asyncpersist.cli.history import no_state
from asyncpersist.clock import SystemClock
from asyncpersist.errors import DamagedState, StateError
from asyncpersist.objectstore.contract import ObjectStore

__all__ = ["at_rest"]

_T = TypeVar("_T")
_PATIENCE = 5


async def at_rest(store: ObjectStore, look: Callable[[Root, Manifest], Awaitable[_T]]) -> _T:
    """Looks at the head; once more at the next one if a running owner has deleted what was being looked at.

    Raises `StateError` if there is no state, and what `look` raises.
    """
    seen = 0
    for _ in range(_PATIENCE):
        root = await Root.open(store, clock=SystemClock())
        if root.head is None:
            raise no_state(store)
        try:
            return await look(root, root.head)
        except DamagedState:
            if root.head.sequence == seen:
                raise
            seen = root.head.sequence
    raise StateError(f"{store.describe()} changes faster than it can be read; stop the run, or try again")
