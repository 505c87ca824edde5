"""Deleting between runs what no kept snapshot needs, and letting older snapshots expire.

As ever, deletion is committed first: a manifest condemns, and only then is deleted, so that whoever is cut off in the
middle leaves a root that is whole, and the rest to the next run or to pruning once more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta

from asyncpersist.checkpoint.answers import open_generations
from asyncpersist.checkpoint.between_runs import amend, stand
from asyncpersist.checkpoint.layout import MANIFESTS, MARKER, OBJECTS, parse
from asyncpersist.checkpoint.manifest import Manifest
from asyncpersist.checkpoint.reading import Survey, survey
from asyncpersist.checkpoint.retention import Facts, Retention, lineage, retain
from asyncpersist.clock import Clock
from asyncpersist.errors import StateError
from asyncpersist.objectstore.contract import ObjectStore

__all__ = ["Pruning", "decide", "plan_pruning", "prune"]


@dataclass(frozen=True, slots=True)
class Pruning:
    """What pruning deletes of what is there, and what it keeps.

    `expired` are the snapshots that are still kept without it; `kept` those that it keeps, the newest first;
    `bytes` those of all `keys`.
    """

    expired: tuple[int, ...]
    kept: tuple[int, ...]
    keys: tuple[str, ...]
    objects: int
    bytes: int
    retention: Retention


def decide(
    found: Survey,
    stored: Mapping[str, int],
    *,
    now: float,
    retain_snapshots: int | None = None,
    retain_for: timedelta | None = None,
) -> Pruning:
    """What pruning deletes of what is `stored`: key -> bytes.

    Kept are the newest `retain_snapshots`, those not older than `retain_for`, whatever has a name, and always the
    newest; all if neither is given. Of what runs left lying nothing is kept but answers that the next run adopts.
    """
    head = found.chain[0]
    if retain_snapshots is None and retain_for is not None:
        retain_snapshots = 1
    retention = retain(
        Facts(
            ancestors=found.chain,
            named=head.names(),
            sequence=head.sequence + 1,
            # No run goes on, so that nothing it wrote and no manifest names will be named.
            generation=_above(head, stored),
            now=now,
            # The new manifest is no snapshot.
            retain_snapshots=None if retain_snapshots is None else retain_snapshots + 1,
            retain_for=None if retain_for is None else retain_for.total_seconds(),
            carried=head.condemned,
            stored=stored,
            keep=head.keep,
            pinned=found.pinned,
            answers=open_generations(head, ended=False),
        )
    )
    kept = {manifest.sequence for manifest in (*retention.kept, *retention.pinned)}
    before = {manifest.sequence for manifest in (*lineage(found.chain), *found.pinned)}
    # That the new manifest takes the place of the head is no reason to write it.
    keys = [key for key in retention.condemned if key in stored and key != head.key]
    return Pruning(
        expired=tuple(sorted(before - kept, reverse=True)),
        kept=tuple(sorted(kept, reverse=True)),
        keys=tuple(keys),
        objects=sum(key.startswith(OBJECTS) for key in keys),
        bytes=sum(stored[key] for key in keys),
        retention=retention,
    )


async def plan_pruning(
    store: ObjectStore, *, clock: Clock, retain_snapshots: int | None = None, retain_for: timedelta | None = None
) -> Pruning:
    """What `prune` would delete now; changes nothing. Raises `StateError` if there is no state, `DamagedState`."""
    return decide(
        await _surveyed(store),
        await _stored(store),
        now=clock.wall(),
        retain_snapshots=retain_snapshots,
        retain_for=retain_for,
    )


async def prune(
    store: ObjectStore,
    *,
    clock: Clock,
    retain_snapshots: int | None = None,
    retain_for: timedelta | None = None,
    takeover: bool = False,
) -> Pruning:
    """Deletes what `decide` says, and returns it; commits nothing if that is nothing.

    Raises `StateInUse` unless the owner is proven to be gone, or `takeover`; `DamagedState` if a kept manifest is
    damaged; `Fenced` if a run claimed the root meanwhile. If it is cut off, what it had condemned is deleted by the
    next run, or by pruning again.
    """
    standing = await stand(store, takeover=takeover)
    found = await _surveyed(store)
    pruning = decide(
        found, await _stored(store), now=clock.wall(), retain_snapshots=retain_snapshots, retain_for=retain_for
    )
    if pruning.keys:
        head = found.chain[0]
        await amend(store, clock, standing, head, pruning.retention, keep=head.keep, clean=head.ended_cleanly)
        await store.delete(pruning.retention.condemned)
    return pruning


async def _surveyed(store: ObjectStore) -> Survey:
    found = await survey(store)
    if not found.chain:
        raise StateError(f"{store.describe()} holds no state: no run has claimed it. Name the state of a run.")
    return found


async def _stored(store: ObjectStore) -> dict[str, int]:
    """The sizes of all that may be a run's; a store can hold much else besides."""
    return {entry.key: entry.size for prefix in (MARKER, MANIFESTS, OBJECTS) for entry in await store.list(prefix)}


def _above(head: Manifest, keys: Collection[str]) -> int:
    """The first generation beyond that of every object there is."""
    names = [parse(key) for key in keys]
    return max([head.generation, *(name.number for name in names if name is not None and name.kind != "manifest")]) + 1
