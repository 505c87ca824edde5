"""Finding the newest manifest and those it follows, by reading alone."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from asyncpersist.checkpoint.layout import MANIFESTS, MARKER, OBJECTS, manifest_key, parse
from asyncpersist.checkpoint.manifest import FORMAT, Damaged, Manifest, decode, refuse_newer, seal, unseal
from asyncpersist.errors import DamagedState, ForeignRoot
from asyncpersist.objectstore.contract import KeyMissing, ObjectStore

__all__ = ["MARKER_BYTES", "Survey", "follow", "manifest_sequences", "read_manifest", "read_marker", "survey"]

MARKER_BYTES = seal(b'{"format":%d,"program":"asyncpersist"}' % FORMAT)

_PATIENCE = 20
_READ_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Survey:
    """What there is.

    `chain`: the newest manifest and its kept ancestors, the newest first. `pinned`: the manifests off the chain that it
    has names for, likewise. `sequences`: those of all manifests.
    """

    chain: tuple[Manifest, ...]
    pinned: tuple[Manifest, ...]
    sequences: frozenset[int]


async def read_marker(store: ObjectStore) -> bool:
    """Whether the store is a root of this package; False if it is empty.

    Raises `ForeignRoot` if it holds something else, `NewerFormat`, `DamagedState`.
    """
    try:
        data = await store.get(MARKER)
    except KeyMissing:
        # What a first claim left that was cut off in the middle is as good as nothing.
        names = [(entry.key, parse(entry.key)) for entry in await store.list(limit=8)]
        foreign = [key for key, name in names if name is None or name.kind != "marker"]
        if not foreign:
            return False
        try:
            # A first claim may have come between the two calls: it writes the marker before anything else.
            data = await store.get(MARKER)
        except KeyMissing as exc:
            raise ForeignRoot(
                f"{store.describe()} is not empty and no state of asyncpersist: it holds {foreign[0]}, "
                f"but no {MARKER}. An unfinished `asyncpersist copy` looks like this: repeat it. Otherwise name an "
                "empty directory or prefix for the state, or one to be made. Nothing was changed."
            ) from exc
    try:
        refuse_newer(unseal(data), store.describe())
    except Damaged as exc:
        raise DamagedState(
            f"{store.describe()}: {MARKER} is damaged: {exc}. It is the same in every root of this format: "
            "put it back from a backup or from another root. Nothing was changed."
        ) from exc
    return True


async def manifest_sequences(store: ObjectStore) -> set[int]:
    """The sequences of all manifests there are."""
    names = [parse(entry.key) for entry in await store.list(MANIFESTS)]
    return {name.number for name in names if name is not None and name.kind == "manifest" and not name.partial}


async def survey(store: ObjectStore) -> Survey:
    """What is kept, and which manifests there were just before it was followed; empty if nothing was ever claimed.

    Raises `DamagedState`, which names the manifest that is missing or damaged.
    """
    sequences = await manifest_sequences(store)
    for _ in range(_PATIENCE):
        if not sequences:
            if found := await store.list(OBJECTS, limit=1):
                # A first run may have come between the two calls: its claim is there before its objects.
                if sequences := await manifest_sequences(store):
                    continue
                raise DamagedState(
                    f"{store.describe()} holds objects ({found[0].key}) but no manifest under {MANIFESTS}: they were "
                    "deleted. Put them back from a backup, or name another directory to start anew. "
                    "Nothing was changed."
                )
            return Survey((), (), frozenset())
        try:
            return await _survey(store, sequences)
        except DamagedState:
            # The owner may have committed meanwhile, and its collector deleted what was just being followed.
            again = await manifest_sequences(store)
            if max(again, default=0) <= max(sequences):
                raise
            sequences = again
    return await _survey(store, sequences)


async def _survey(store: ObjectStore, sequences: Collection[int]) -> Survey:
    chain = await follow(store, sequences)
    return Survey(chain, await _read_pinned(store, chain), frozenset(sequences))


async def _read_pinned(store: ObjectStore, chain: Sequence[Manifest]) -> tuple[Manifest, ...]:
    linked = {manifest.sequence for manifest in chain}
    names = {sequence: name for name, sequence in chain[0].keep.items() if sequence not in linked}
    found = await _read_at_once(store, names)
    for sequence in names.keys() - found.keys():
        found[sequence] = await read_manifest(store, sequence, fallback=0, name=names[sequence])
    return tuple(found[sequence] for sequence in sorted(found, reverse=True))


async def follow(store: ObjectStore, sequences: Collection[int]) -> tuple[Manifest, ...]:
    """The newest of the manifests and its ancestors down to its horizon, the newest first. Raises as `survey` does."""
    newest = max(sequences)
    before = max((sequence for sequence in sequences if sequence < newest), default=0)
    head = await read_manifest(store, newest, fallback=before)
    found = await _read_at_once(store, [sequence for sequence in sequences if head.horizon <= sequence < newest])
    chain = [head]
    while chain[-1].parent is not None and chain[-1].sequence > head.horizon:
        child = chain[-1]
        parent = found.get(child.parent_sequence)
        if parent is None:
            parent = await read_manifest(store, child.parent_sequence, fallback=newest)
        if parent.token != child.parent:
            raise _damaged(store, parent.sequence, "it is not the one that its successor followed", newest)
        chain.append(parent)
    return tuple(chain)


async def _read_at_once(store: ObjectStore, sequences: Collection[int]) -> dict[int, Manifest]:
    """Those of the manifests that can be read, by their sequences."""
    found: dict[int, Manifest] = {}
    turns = iter(sequences)

    async def read_in_turn() -> None:
        for sequence in turns:
            # What is wrong with one is told if it turns out to be needed.
            with contextlib.suppress(DamagedState):
                found[sequence] = await read_manifest(store, sequence, fallback=0)

    await asyncio.gather(*(read_in_turn() for _ in range(_READ_AT_ONCE)))
    return found


async def read_manifest(store: ObjectStore, sequence: int, *, fallback: int, name: str | None = None) -> Manifest:
    """One manifest. Raises `DamagedState`, which proposes to restore the snapshot `fallback`; `NewerFormat`.

    `name`: it is needed only because it is kept by that name; then it is proposed to drop it.
    """
    try:
        data = await store.get(manifest_key(sequence))
    except KeyMissing as exc:
        raise _damaged(store, sequence, "it is missing", fallback, name) from exc
    try:
        manifest = (
            await asyncio.to_thread(decode, data, store.describe())
            if len(data) > 65536
            else decode(data, store.describe())
        )
    except Damaged as exc:
        raise _damaged(store, sequence, str(exc), fallback, name) from exc
    if manifest.sequence != sequence:
        raise _damaged(store, sequence, f"it holds the manifest of sequence {manifest.sequence}", fallback, name)
    return manifest


def _damaged(store: ObjectStore, sequence: int, what: str, fallback: int, name: str | None = None) -> DamagedState:
    here = store.describe()
    if name is not None:
        advice = f"run `asyncpersist snapshots {here} --drop {shlex.quote(name)}` to do without that snapshot"
    elif fallback > 0:
        advice = f"run `asyncpersist restore {here} --to {fallback}` to go on from that snapshot"
    else:
        advice = "name another directory to start anew"
    kept = "" if name is None else f", kept as {name!r},"
    return DamagedState(
        f"{here}: the manifest {manifest_key(sequence)}{kept} is damaged: {what}. "
        f"Put it back from a backup, or {advice}. Nothing was changed."
    )
