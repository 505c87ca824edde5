"""Going back to an older snapshot: what the messages about damaged state propose.

Caches of functions belong to no epoch: they stay as they are in the newest manifest, except for what is damaged there.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from asyncpersist.checkpoint.between_runs import Standing, amend, choose, stand
from asyncpersist.checkpoint.caches import cached, uncached
from asyncpersist.checkpoint.layout import OBJECTS
from asyncpersist.checkpoint.manifest import Manifest, ObjectRef
from asyncpersist.checkpoint.reading import read_manifest
from asyncpersist.checkpoint.retention import Retention
from asyncpersist.checkpoint.verifying import Problem, problems
from asyncpersist.clock import Clock
from asyncpersist.errors import DamagedState
from asyncpersist.objectstore.contract import ObjectStore

__all__ = ["restore", "restored"]

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
    content, found = await restored(store, chosen, standing.newest)
    if found:
        raise DamagedState(
            f"{store.describe()}: the snapshot {sequence} needs {found[0].key}, which is damaged: {found[0].detail}. "
            "Choose another snapshot. Nothing was changed."
        )
    kept = await _lineage(store, standing, chosen)
    retention = Retention(kept, kept[-1].sequence, tuple(standing.newest.condemned))
    return await amend(store, clock, standing, content, retention, keep=standing.names, clean=False)


async def restored(store: ObjectStore, chosen: Manifest, newest: Manifest) -> tuple[Manifest, list[Problem]]:
    """What is committed to go back to a manifest, and what of it is missing or altered, so that this cannot be done."""
    theirs, ours = cached(newest.streams), cached(chosen.streams)
    # Where nothing of a stream is whole, what there was of it then is better than nothing.
    known = list({(ref.key, ref.start): ref for refs in (*theirs.values(), *ours.values()) for ref in refs}.values())
    damaged = {problem.key for problem in await problems(store, known, at_once=_AT_ONCE)}

    def whole(refs: Sequence[ObjectRef]) -> list[ObjectRef]:
        return [ref for ref in refs if ref.key not in damaged]

    caches = {stream: whole(refs) or whole(ours.get(stream, [])) for stream, refs in theirs.items()}
    streams = uncached(chosen.streams)
    found = await problems(store, [ref for refs in streams.values() for ref in refs], at_once=_AT_ONCE)
    caches = {stream: refs for stream, refs in caches.items() if refs}
    return msgspec.structs.replace(chosen, streams={**streams, **caches}, caches=newest.caches), found


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
