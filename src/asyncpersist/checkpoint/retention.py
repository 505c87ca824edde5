"""What a new manifest condemns: a decision over facts.

Deletion is committed first. A manifest lists the keys it condemns; only those are deleted, after it is committed, and a
condemned key is never named again. Everything is classified before anything is condemned.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from asyncpersist.checkpoint.layout import parse
from asyncpersist.checkpoint.manifest import Answered, Manifest

__all__ = ["Facts", "Retention", "lineage", "outside", "retain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known when a manifest that may condemn is about to be committed.

    `ancestors`: the head and its parent chain, the newest first. `named`: the keys the new manifest names.
    `carried`: condemned by the head and not known to be gone. `abandoned`: keys of this run that no manifest will
    ever name. `superseded`: manifests below the new one that were passed over, kept ones perhaps among them.
    `stored`: every key in the store, None if it was not listed; listed after this run's claim.
    `keep`: the names the new manifest gives; `pinned`: those off the chain that the head named.
    `answers`: of which generations there may be answers that no manifest names, as the new manifest says it.
    `now` and `retain_for` in seconds; `retain_snapshots` counts the new one, None lets no snapshot expire.
    """

    ancestors: Sequence[Manifest]
    named: Collection[str]
    sequence: int
    generation: int
    now: float
    retain_snapshots: int | None
    retain_for: float | None
    carried: Collection[str] = ()
    abandoned: Collection[str] = ()
    superseded: Collection[str] = ()
    stored: Collection[str] | None = None
    keep: Mapping[str, int] = field(default_factory=dict)
    pinned: Sequence[Manifest] = ()
    answers: Mapping[int, Answered] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Retention:
    """The decision. `kept`: the ancestors that stay, the parent first; `horizon`: the oldest one's sequence.

    `pinned`: those that stay for their name alone, the newest first.
    """

    kept: tuple[Manifest, ...]
    horizon: int
    condemned: tuple[str, ...]
    pinned: tuple[Manifest, ...] = ()

    @property
    def parent(self) -> str | None:
        """The token of the parent."""
        return self.kept[0].token if self.kept else None

    @property
    def parent_sequence(self) -> int:
        """The parent's sequence, 0 if there is none."""
        return self.kept[0].sequence if self.kept else 0


def lineage(chain: Sequence[Manifest]) -> tuple[Manifest, ...]:
    """What a manifest that follows the head of `chain` links to, the parent first: the snapshots on it.

    Claims, sweeps and releases hold nothing of their own, so that they are passed over. Where there is no snapshot but
    content (one of those was restored), the oldest holds it and stands for one.
    """
    snapshots = tuple(manifest for manifest in chain if manifest.kind == "snapshot")
    return snapshots or tuple(manifest for manifest in chain[-1:] if manifest.epoch > 0)


def outside(keep: Mapping[str, int], kept: Iterable[Manifest], known: Iterable[Manifest]) -> tuple[Manifest, ...]:
    """Those of the `known` manifests that have a name and are not `kept` anyway, the newest first."""
    named = set(keep.values()) - {manifest.sequence for manifest in kept}
    found = {manifest.sequence: manifest for manifest in known if manifest.sequence in named}
    return tuple(found[sequence] for sequence in sorted(found, reverse=True))


def retain(facts: Facts) -> Retention:
    """Which ancestors stay and which keys are condemned.

    Kept are, of the lineage, the newest `retain_snapshots`, those not older than `retain_for`, and whatever lies
    between them; only an oldest part ever expires, and of that nothing that has a name. The parent is always kept, so
    that a commit whose outcome is unknown condemns nothing that its successor may still name.

    Condemned are the keys that no kept manifest names and that an expired or superseded one named, that this run
    abandoned, that were condemned before, or that are orphans: objects of an older generation than this run's,
    manifests off the chain below the new one, remains of writes that never ended. Those of its own generation may still
    be named. Answers that are not accounted for are no orphans, however old: the next run names them.
    """
    links = lineage(facts.ancestors)
    oldest = 0
    for index, manifest in enumerate(links):
        young = facts.retain_for is not None and facts.now - manifest.written_at <= facts.retain_for
        if facts.retain_snapshots is None or index + 2 <= facts.retain_snapshots or young:
            oldest = index
    kept = links[: oldest + 1]
    known = (*facts.ancestors, *facts.pinned)
    pinned = outside(facts.keep, kept, known)
    stay = (*kept, *pinned)
    retained = set(facts.named).union({manifest.key for manifest in stay}, *(manifest.names() for manifest in stay))
    condemned = {*facts.carried, *facts.abandoned, *facts.superseded}
    for manifest in known:
        condemned.add(manifest.key)
        condemned |= manifest.names()
    if facts.stored is not None:
        condemned |= {key for key in facts.stored if _orphaned(key, facts)}
    horizon = kept[-1].sequence if kept else facts.sequence
    return Retention(kept, horizon, tuple(sorted(condemned - retained)), pinned)


def _orphaned(key: str, facts: Facts) -> bool:
    """Whether nobody who may still write can name `key`, provided no kept manifest does."""
    name = parse(key)
    if name is None:
        return False
    if name.kind == "object":
        return name.number < facts.generation
    if name.kind == "answers":
        answered = facts.answers.get(name.number)
        return name.number < facts.generation and (answered is None or name.serial <= answered.named)
    if name.kind == "manifest":
        return name.number < facts.sequence
    return name.partial
