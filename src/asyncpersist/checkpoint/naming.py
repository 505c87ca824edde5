"""Names of snapshots, given and taken between runs. One that has a name never expires."""

from __future__ import annotations

from asyncpersist.checkpoint.between_runs import Standing, amend, choose, stand
from asyncpersist.checkpoint.layout import OBJECTS
from asyncpersist.checkpoint.manifest import Manifest
from asyncpersist.checkpoint.protocol import check_name
from asyncpersist.checkpoint.reading import follow
from asyncpersist.checkpoint.retention import Retention, lineage
from asyncpersist.clock import Clock
from asyncpersist.errors import DamagedState, StateError
from asyncpersist.objectstore.contract import ObjectStore

__all__ = ["drop_name", "give_name"]


async def give_name(
    store: ObjectStore, name: str, sequence: int | None = None, *, clock: Clock, takeover: bool = False
) -> Manifest:
    """Keeps the snapshot `sequence`, or the newest, by a name, and returns what was committed.

    One that had the name loses it. Refused as `restore` is. Raises `ValueError` for what cannot be a name, and what
    `restore` raises; `StateError` if there is no snapshot yet.
    """
    check_name(name)
    standing = await stand(store, takeover=takeover)
    chain = await follow(store, standing.sequences)
    if sequence is None:
        links = lineage(chain)
        if not links:
            raise StateError(f"{store.describe()} has no snapshot yet that could be named. Nothing was changed.")
        sequence = links[0].sequence
    chosen = await choose(store, standing, sequence)
    if missing := chosen.names() - {entry.key for entry in await store.list(OBJECTS)}:
        raise DamagedState(
            f"{store.describe()}: the snapshot {sequence} needs {min(missing)}, which is missing. Name another "
            "snapshot. Nothing was changed."
        )
    return await _commit(store, clock, standing, chain, {**standing.newest.keep, name: sequence})


async def drop_name(store: ObjectStore, name: str, *, clock: Clock, takeover: bool = False) -> Manifest:
    """Takes a name away, and returns what was committed; also where the snapshot that has it is damaged.

    What the snapshot holds alone goes with the next run, or with `prune`; until then it can be named again. Raises
    `StateError` if there is no such name, and what `restore` raises.
    """
    standing = await stand(store, takeover=takeover)
    keep = {other: sequence for other, sequence in standing.newest.keep.items() if other != name}
    if len(keep) == len(standing.newest.keep):
        raise StateError(
            f"{store.describe()} keeps no snapshot by the name {name!r}; its names are: "
            f"{', '.join(sorted(keep)) or 'none'}. Nothing was changed."
        )
    return await _commit(store, clock, standing, await follow(store, standing.sequences), keep)


async def _commit(
    store: ObjectStore, clock: Clock, standing: Standing, chain: tuple[Manifest, ...], keep: dict[str, int]
) -> Manifest:
    head, kept = chain[0], lineage(chain)
    retention = Retention(kept, kept[-1].sequence if kept else max(standing.sequences) + 1, tuple(head.condemned))
    return await amend(store, clock, standing, head, retention, keep=keep, clean=head.ended_cleanly)
