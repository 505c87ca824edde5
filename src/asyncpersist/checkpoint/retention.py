"""What a new manifest condemns: a decision over facts.

Deletion is committed first. A manifest lists the keys it condemns; only those are deleted, after it is committed, and a
condemned key is never named again. Everything is classified before anything is condemned.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from asyncpersist.checkpoint.layout import parse
from asyncpersist.checkpoint.manifest import Manifest

__all__ = ["Facts", "Retention", "retain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known when a snapshot is about to be committed.

    `ancestors`: the kept manifests on the parent chain, the parent first. `named`: the keys the new manifest names.
    `carried`: condemned by the parent and not known to be gone. `abandoned`: keys of this run that no manifest will
    ever name. `stored`: every key in the store, None if it was not listed; listed after this run's claim.
    `now` and `retain_for` in seconds; `retain_snapshots` counts the new one.
    """

    ancestors: Sequence[Manifest]
    named: Collection[str]
    sequence: int
    generation: int
    now: float
    retain_snapshots: int
    retain_for: float | None
    carried: Collection[str] = ()
    abandoned: Collection[str] = ()
    stored: Collection[str] | None = None


@dataclass(frozen=True, slots=True)
class Retention:
    """The decision. `kept`: the ancestors that stay, the parent first; `horizon`: the oldest one's sequence."""

    kept: tuple[Manifest, ...]
    horizon: int
    condemned: tuple[str, ...]


def retain(facts: Facts) -> Retention:
    """Which ancestors stay and which keys are condemned.

    Kept are the newest `retain_snapshots` snapshots, those not older than `retain_for`, and whatever lies between them;
    only an oldest part of the chain ever expires. Claims and releases do not count. The parent is always kept, so that
    a commit whose outcome is unknown condemns nothing that its successor may still name.

    Condemned are the keys that no kept manifest names and that an expired one named, that this run abandoned, that were
    condemned before, or that are orphans: objects of an older generation than this run's, manifests off the chain
    below the new one, remains of writes that never ended. Those of its own generation may still be named.
    """
    oldest = 0
    snapshots = 1
    for index, manifest in enumerate(facts.ancestors):
        if manifest.kind != "snapshot":
            continue
        snapshots += 1
        young = facts.retain_for is not None and facts.now - manifest.written_at <= facts.retain_for
        if snapshots <= facts.retain_snapshots or young:
            oldest = index
    kept = tuple(facts.ancestors[: oldest + 1])
    expired = facts.ancestors[oldest + 1 :]
    retained = set(facts.named).union({manifest.key for manifest in kept}, *(manifest.names() for manifest in kept))
    condemned = set(facts.carried) | set(facts.abandoned)
    for manifest in expired:
        condemned.add(manifest.key)
        condemned |= manifest.names()
    if facts.stored is not None:
        condemned |= {key for key in facts.stored if _orphaned(key, facts)}
    return Retention(kept, kept[-1].sequence if kept else facts.sequence, tuple(sorted(condemned - retained)))


def _orphaned(key: str, facts: Facts) -> bool:
    """Whether nobody who may still write can name `key`, provided no kept manifest does."""
    name = parse(key)
    if name is None:
        return False
    if name.kind == "object":
        return name.number < facts.generation
    if name.kind == "manifest":
        return name.number < facts.sequence
    return name.partial
