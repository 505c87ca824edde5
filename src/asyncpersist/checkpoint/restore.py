"""Going back to an older snapshot: what the messages about damaged state propose."""

from __future__ import annotations

import asyncio

import msgspec

from asyncpersist.checkpoint.layout import OBJECTS, parse
from asyncpersist.checkpoint.manifest import Manifest, encode
from asyncpersist.checkpoint.ownership import OwnerState, judge
from asyncpersist.checkpoint.processes import start_of, this_process
from asyncpersist.checkpoint.reading import manifest_sequences, read_manifest, read_marker
from asyncpersist.checkpoint.register import Pending, Register, describe_owner
from asyncpersist.checkpoint.root import Root
from asyncpersist.clock import Clock
from asyncpersist.errors import DamagedState, StateInUse
from asyncpersist.objectstore.contract import ObjectStore

__all__ = ["restore"]


async def restore(store: ObjectStore, sequence: int, *, clock: Clock, takeover: bool = False) -> Manifest:
    """Commits the content of the manifest `sequence` once more, as the newest, and returns what was committed.

    Newer and older snapshots are left to the next run, which condemns them. Refused unless the owner of the newest
    readable manifest is proven to be gone, or `takeover`.
    Raises `StateInUse`; `DamagedState` if that snapshot is itself damaged, or there is none of that number; `Fenced` if
    a run claimed the root meanwhile.
    """
    await store.check_writable()
    sequences = await manifest_sequences(store) if await read_marker(store) else set()
    if sequence not in sequences:
        raise DamagedState(
            f"{store.describe()} has no snapshot {sequence}; it has "
            f"{', '.join(map(str, sorted(sequences))) or 'none'}. Nothing was changed."
        )
    newest = await _newest_readable(store, sequences)
    state = await asyncio.to_thread(
        lambda: judge(newest.owner, this_process(), Root.live_runs(), start_of(newest.owner.pid))
    )
    if not (state.proven_gone or takeover):
        certainty = "is in use by" if state is OwnerState.RUNNING else "may be in use by"
        raise StateInUse(
            f"{store.describe()} {certainty} {describe_owner(newest.owner)}. Stop that process, or take the state "
            "from it with --takeover. Nothing was changed."
        )
    chosen = await read_manifest(store, sequence, fallback=max(sequences - {sequence}, default=0))
    if problems := await Root(store, clock, (chosen,), 1, None).verify():
        raise DamagedState(
            f"{store.describe()}: the snapshot {sequence} needs {problems[0].key}, which is damaged: "
            f"{problems[0].detail}. Choose another snapshot. Nothing was changed."
        )
    if condemned := {chosen.key, *chosen.names()} & set(newest.condemned):
        raise DamagedState(
            f"{store.describe()}: the snapshot {sequence} has expired: {min(condemned)} is due to be deleted. "
            "Choose a newer snapshot. Nothing was changed."
        )
    names = [parse(entry.key) for entry in await store.list(OBJECTS)]
    generation = max([newest.generation, *(name.number for name in names if name is not None)])
    manifest = msgspec.structs.replace(
        chosen,
        sequence=max(sequences) + 1,
        token=clock.token(),
        parent=chosen.token,
        parent_sequence=sequence,
        horizon=sequence,
        generation=generation + 1,
        kind="release",
        clean=False,
        written_at=clock.wall(),
        owner=msgspec.structs.replace(newest.owner, released=True),
        exclusive=state.proven_gone and newest.exclusive,
        condemned=[],
    )
    await Register(store).commit(Pending(manifest, encode(manifest), (chosen,)))
    return manifest


async def _newest_readable(store: ObjectStore, sequences: set[int]) -> Manifest:
    for sequence in sorted(sequences, reverse=True):
        try:
            return await read_manifest(store, sequence, fallback=sequence)
        except DamagedState:
            continue
    raise DamagedState(f"{store.describe()}: every manifest is damaged. Put the state back from a backup.")
