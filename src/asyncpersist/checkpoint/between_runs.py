"""Commits that no run makes: who may make one, and how. Whoever wrote before is fenced by it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from asyncpersist.checkpoint import protocol
from asyncpersist.checkpoint.answers import open_generations
from asyncpersist.checkpoint.layout import OBJECTS, parse
from asyncpersist.checkpoint.manifest import Answered, Manifest, encode
from asyncpersist.checkpoint.ownership import OwnerState, judge
from asyncpersist.checkpoint.processes import start_of, this_process
from asyncpersist.checkpoint.reading import manifest_sequences, read_manifest, read_marker
from asyncpersist.checkpoint.register import Pending, Register, describe_owner
from asyncpersist.checkpoint.retention import Retention
from asyncpersist.checkpoint.root import Root
from asyncpersist.clock import Clock
from asyncpersist.errors import DamagedState, StateError, StateInUse
from asyncpersist.objectstore.contract import ObjectStore

__all__ = ["Standing", "amend", "choose", "stand"]


@dataclass(frozen=True, slots=True)
class Standing:
    """A root that nobody runs on, or whose owner is to be deposed.

    `newest`: the newest manifest that can be read. `sequences`: those of all manifests, damaged ones among them.
    `exclusive`: every owner is proven to be gone; `ended`: the newest one's is.
    """

    newest: Manifest
    sequences: frozenset[int]
    exclusive: bool
    ended: bool

    @property
    def answers(self) -> dict[int, Answered]:
        """The generations of which there may be answers that no manifest names."""
        return open_generations(self.newest, ended=self.ended)

    @property
    def names(self) -> dict[str, int]:
        """The names there are; where a newer manifest is damaged, without those that must have been dropped since."""
        whole = self.newest.sequence == max(self.sequences)
        return {name: number for name, number in self.newest.keep.items() if whole or number in self.sequences}


async def stand(store: ObjectStore, *, takeover: bool) -> Standing:
    """Reads what a commit between runs has to know; changes nothing.

    Raises `StateInUse` unless the owner is proven to be gone, or `takeover`; `StateError` if there is no state;
    `DamagedState` if no manifest can be read.
    """
    await store.check_writable()
    sequences = await manifest_sequences(store) if await read_marker(store) else set()
    if not sequences:
        raise StateError(f"{store.describe()} holds no state: no run has claimed it. Name the state of a run.")
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
    return Standing(newest, frozenset(sequences), state.proven_gone and newest.exclusive, state.proven_gone)


async def choose(store: ObjectStore, standing: Standing, sequence: int) -> Manifest:
    """The manifest `sequence`. Raises `DamagedState` if there is none, it is damaged, or something of it condemned."""
    here = store.describe()
    if sequence not in standing.sequences:
        gone = " any more" if 0 < sequence < max(standing.sequences) else ""
        raise DamagedState(
            f"{here} has no snapshot {sequence}{gone}; it has {', '.join(map(str, sorted(standing.sequences)))}. "
            "Nothing was changed."
        )
    chosen = await read_manifest(store, sequence, fallback=max(standing.sequences - {sequence}, default=0))
    if condemned := {chosen.key, *chosen.names()} & set(standing.newest.condemned):
        raise DamagedState(
            f"{here}: the snapshot {sequence} has expired: {min(condemned)} is due to be deleted. "
            "Choose a newer snapshot. Nothing was changed."
        )
    return chosen


async def amend(
    store: ObjectStore,
    clock: Clock,
    standing: Standing,
    content: Manifest,
    retention: Retention,
    *,
    keep: Mapping[str, int],
    clean: bool,
    answers: Mapping[int, Answered] | None = None,
) -> Manifest:
    """Commits `content` once more, as the newest, with nobody as the owner, and returns what was committed.

    `answers`: what it says of those that no manifest named; None: that they still are not.

    What the newest manifest condemns has to be in `retention.condemned`: whoever committed that may still be about to
    delete it. Raises `Fenced` if a run claimed the root meanwhile, and as `Register.commit` does.
    """
    names = [parse(entry.key) for entry in await store.list(OBJECTS)]
    manifest = protocol.amendment(
        content,
        standing.newest,
        retention,
        sequence=max(standing.sequences) + 1,
        generation=max([standing.newest.generation, *(name.number for name in names if name is not None)]) + 1,
        token=clock.token(),
        now=clock.wall(),
        exclusive=standing.exclusive,
        clean=clean,
        keep=keep,
        answers=standing.answers if answers is None else answers,
    )
    await Register(store).commit(Pending(manifest, encode(manifest), retention.kept))
    return manifest


async def _newest_readable(store: ObjectStore, sequences: set[int]) -> Manifest:
    for sequence in sorted(sequences, reverse=True):
        try:
            return await read_manifest(store, sequence, fallback=sequence)
        except DamagedState:
            continue
    raise DamagedState(f"{store.describe()}: every manifest is damaged. Put the state back from a backup.")
