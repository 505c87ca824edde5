"""Going back to an older snapshot: what the messages about damaged state propose."""

from __future__ import annotations

from asyncpersist.checkpoint.between_runs import Standing, amend, choose, stand
from asyncpersist.checkpoint.layout import OBJECTS
from asyncpersist.checkpoint.manifest import Manifest
from asyncpersist.checkpoint.reading import read_manifest
from asyncpersist.checkpoint.retention import Retention
from asyncpersist.checkpoint.verifying import problems
from asyncpersist.clock import Clock
from asyncpersist.errors import DamagedState
from asyncpersist.objectstore.contract import ObjectStore

__all__ = ["restore"]

_AT_ONCE = 4


async def restore(store: ObjectStore, sequence: int, *, clock: Clock, takeover: bool = False) -> Manifest:
    """Commits the content of the manifest `sequence` once more, as the newest, and returns what was committed.

    Its ancestors stay as far as they are there; newer snapshots are left to the next run, which condemns those without
    a name: until then this can be undone. Refused unless the owner of the newest readable manifest is proven to be
    gone, or `takeover`. Raises `StateInUse`; `DamagedState` if that snapshot is itself damaged, condemned, or not
    there; `Fenced` if a run claimed the root meanwhile.
    """
    standing = await stand(store, takeover=takeover)
    chosen = await choose(store, standing, sequence)
    if found := await problems(store, chosen.objects(), at_once=_AT_ONCE):
        raise DamagedState(
            f"{store.describe()}: the snapshot {sequence} needs {found[0].key}, which is damaged: {found[0].detail}. "
            "Choose another snapshot. Nothing was changed."
        )
    kept = await _lineage(store, standing, chosen)
    retention = Retention(kept, kept[-1].sequence, tuple(standing.newest.condemned))
    return await amend(store, clock, standing, chosen, retention, keep=standing.names, clean=False)


async def _lineage(store: ObjectStore, standing: Standing, chosen: Manifest) -> tuple[Manifest, ...]:
    """The chosen one and those of its ancestors of which everything is there and stays, the newest first."""
    present = {entry.key for entry in await store.list(OBJECTS)} - set(standing.newest.condemned)
    kept = [chosen]
    while (parent := kept[-1].parent_sequence) in standing.sequences and kept[-1].sequence > chosen.horizon:
        try:
            ancestor = await read_manifest(store, parent, fallback=0)
        except DamagedState:
            break
        whole = ancestor.names() <= present and ancestor.key not in standing.newest.condemned
        if ancestor.token != kept[-1].parent or not whole:
            break
        kept.append(ancestor)
    return tuple(kept)
