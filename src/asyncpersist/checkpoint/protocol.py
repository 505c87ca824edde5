"""What the next manifest says: claims, snapshots, sweeps and releases as values, made from facts alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from asyncpersist.checkpoint.answers import open_generations
from asyncpersist.checkpoint.manifest import Answered, CacheFacts, LogFacts, Manifest, ObjectRef, Owner
from asyncpersist.checkpoint.retention import Retention, lineage
from asyncpersist.errors import StateError

__all__ = ["ClaimContended", "amendment", "check_name", "claim", "release", "says", "snapshot", "sweep"]

_LONGEST_NAME = 100


class ClaimContended(StateError):
    """Another run claimed the root at the same moment: open it again and start over."""


def check_name(name: str) -> str:
    """The name, if a snapshot may be kept by it. Raises `ValueError`."""
    if not name or len(name) > _LONGEST_NAME or not name.isprintable() or name != name.strip() or {"/", "@"} & {*name}:
        what = f"has to be 1 to {_LONGEST_NAME} printable characters, without / and @, not a space first or last"
        raise ValueError(f"{name!r} cannot be the name of a snapshot: it {what}")
    if name.isdigit():
        raise ValueError(f"{name!r} cannot be the name of a snapshot: it would be taken for the number of one")
    return name


def claim(
    chain: Sequence[Manifest],
    *,
    token: str,
    owner: Owner,
    exclusive: bool,
    now: float,
    mode: str,
    access: str,
    graph: Mapping[str, Any],
    sinks: Mapping[str, dict[str, Any]],
    gone: Collection[str] = (),
) -> Manifest:
    """The manifest by which `owner` takes the root over: the content of the chain's head under the next generation.

    It condemns nothing that the head does not, and of that not what is `gone`.

    What describes the content (mode, access, graph) stays the head's if there is any content. `sinks`: where new sinks
    start; a position the head holds wins. `exclusive`: the recorded owner is proven to be gone. That stays in doubt
    while an earlier takeover in doubt was not followed by a snapshot: until then its outputs may still be open.
    """
    head = chain[0] if chain else None
    sequence = 1 if head is None else head.sequence + 1
    kept = lineage(chain)
    if head is not None and head.epoch > 0:
        mode, access, graph = head.mode, head.access, head.graph
    return Manifest(
        sequence=sequence,
        token=token,
        parent=kept[0].token if kept else None,
        parent_sequence=kept[0].sequence if kept else 0,
        horizon=kept[-1].sequence if kept else sequence,
        generation=1 if head is None else head.generation + 1,
        kind="claim",
        epoch=0 if head is None else head.epoch,
        written_at=now,
        mode=mode,
        access=access,
        owner=owner,
        exclusive=exclusive and (head is None or head.exclusive),
        graph=dict(graph),
        streams={} if head is None else head.streams,
        sinks={**sinks, **({} if head is None else head.sinks)},
        condemned=[] if head is None else [key for key in head.condemned if key not in gone],
        progress={} if head is None else head.progress,
        logs={} if head is None else head.logs,
        keep={} if head is None else head.keep,
        caches={} if head is None else head.caches,
        answers=open_generations(head, ended=exclusive),
    )


def snapshot(
    head: Manifest,
    retention: Retention,
    *,
    token: str,
    now: float,
    epoch: int,
    mode: str,
    access: str,
    graph: Mapping[str, Any],
    streams: Mapping[str, Sequence[ObjectRef]],
    sinks: Mapping[str, Mapping[str, Any]],
    progress: Mapping[str, Any],
    logs: Mapping[str, LogFacts],
    keep: Mapping[str, int] | None = None,
    caches: Mapping[str, CacheFacts] | None = None,
    answers: Mapping[int, Answered] | None = None,
) -> Manifest:
    """The manifest of a snapshot that follows `head`. `keep`: the names it gives; None: those that the head gives.
    `caches` and `answers` None: what the head says of them.

    Raises `ValueError` if it names an object that has been condemned, or an epoch before the head's.
    """
    _refuse_condemned(head, streams)
    if epoch < head.epoch:
        raise ValueError(f"a snapshot of epoch {epoch} after one of epoch {head.epoch}")
    return Manifest(
        sequence=head.sequence + 1,
        token=token,
        parent=retention.parent,
        parent_sequence=retention.parent_sequence,
        horizon=retention.horizon,
        generation=head.generation,
        kind="snapshot",
        epoch=epoch,
        written_at=now,
        mode=mode,
        access=access,
        owner=head.owner,
        exclusive=True,
        graph=dict(graph),
        streams={name: list(refs) for name, refs in streams.items()},
        sinks={name: dict(position) for name, position in sinks.items()},
        condemned=list(retention.condemned),
        progress=dict(progress),
        logs=dict(logs),
        keep=head.keep if keep is None else dict(keep),
        caches=head.caches if caches is None else dict(caches),
        answers=head.answers if answers is None else dict(answers),
    )


def _refuse_condemned(head: Manifest, streams: Mapping[str, Sequence[ObjectRef]]) -> None:
    condemned = set(head.condemned)
    if named := [ref.key for refs in streams.values() for ref in refs if ref.key in condemned]:
        raise ValueError(f"a snapshot names {named[0]}, which an earlier one condemned")


def says(
    manifest: Manifest,
    *,
    epoch: int,
    streams: Mapping[str, Sequence[ObjectRef]],
    sinks: Mapping[str, Mapping[str, Any]],
    graph: Mapping[str, Any],
    progress: Mapping[str, Any],
    logs: Mapping[str, LogFacts],
    keep: str | None = None,
    caches: Mapping[str, CacheFacts] | None = None,
    answers: Mapping[int, Answered] | None = None,
) -> bool:
    """Whether a manifest is a snapshot of this very content, and kept by the name `keep` if that is given."""
    return (
        manifest.kind == "snapshot"
        and manifest.epoch == epoch
        and manifest.streams == {name: list(refs) for name, refs in streams.items()}
        and manifest.sinks == sinks
        and manifest.graph == graph
        and manifest.progress == progress
        and manifest.logs == logs
        and (caches is None or manifest.caches == caches)
        and (answers is None or manifest.answers == answers)
        and (keep is None or manifest.keep.get(keep) == manifest.sequence)
    )


def sweep(
    head: Manifest,
    retention: Retention,
    *,
    token: str,
    now: float,
    streams: Mapping[str, Sequence[ObjectRef]] | None = None,
    caches: Mapping[str, CacheFacts] | None = None,
    answers: Mapping[int, Answered] | None = None,
) -> Manifest:
    """The manifest by which an owner condemns what earlier runs left lying about, or adds to caches.

    It is the head's content; `streams`, `caches` and `answers` take the place of the head's if given. Raises
    `ValueError` if it names an object that has been condemned.
    """
    _refuse_condemned(head, streams or {})
    return msgspec.structs.replace(
        head,
        sequence=head.sequence + 1,
        token=token,
        parent=retention.parent,
        parent_sequence=retention.parent_sequence,
        horizon=retention.horizon,
        kind="sweep",
        written_at=now,
        condemned=list(retention.condemned),
        streams=head.streams if streams is None else {name: list(refs) for name, refs in streams.items()},
        caches=head.caches if caches is None else dict(caches),
        answers=head.answers if answers is None else dict(answers),
    )


def release(
    head: Manifest,
    retention: Retention,
    *,
    token: str,
    now: float,
    clean: bool = True,
    sinks: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Mapping[str, Any] | None = None,
    answers: Mapping[int, Answered] | None = None,
) -> Manifest:
    """The manifest by which an owner says that it has ended: the head's content.

    `clean`: it has written nothing beyond that. `sinks`, `progress` and `answers` take the place of the head's if
    given.
    """
    return msgspec.structs.replace(
        sweep(head, retention, token=token, now=now, answers=answers),
        kind="release",
        clean=clean,
        owner=msgspec.structs.replace(head.owner, released=True),
        sinks=head.sinks if sinks is None else {name: dict(position) for name, position in sinks.items()},
        progress=head.progress if progress is None else dict(progress),
    )


def amendment(
    content: Manifest,
    newest: Manifest,
    retention: Retention,
    *,
    sequence: int,
    generation: int,
    token: str,
    now: float,
    exclusive: bool,
    clean: bool,
    keep: Mapping[str, int],
    answers: Mapping[int, Answered],
) -> Manifest:
    """The manifest of a commit between runs: `content` once more, and the owner of the `newest` released."""
    return msgspec.structs.replace(
        content,
        sequence=sequence,
        token=token,
        parent=retention.parent,
        parent_sequence=retention.parent_sequence,
        horizon=retention.horizon,
        generation=generation,
        kind="release",
        clean=clean,
        written_at=now,
        owner=msgspec.structs.replace(newest.owner, released=True),
        exclusive=exclusive,
        condemned=list(retention.condemned),
        keep=dict(keep),
        answers=dict(answers),
    )
