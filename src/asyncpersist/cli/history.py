"""What snapshots a root has, told by reading alone: of a damaged root, too, and of one that a run is writing to."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from asyncpersist.checkpoint.manifest import Manifest
from asyncpersist.checkpoint.ownership import OwnerState
from asyncpersist.checkpoint.reading import Survey, manifest_sequences, read_manifest, read_marker, survey
from asyncpersist.checkpoint.root import Root
from asyncpersist.clock import SystemClock
from asyncpersist.errors import DamagedState, StateError
from asyncpersist.objectstore.contract import KeyMissing, ObjectStore

__all__ = ["Entry", "History", "no_state", "read_history"]

_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Entry:
    """One manifest. `manifest` None: it is damaged, as `damage` says. `kept`: the next run still knows it.

    `names`: by which it is kept for ever.
    """

    sequence: int
    manifest: Manifest | None
    damage: str
    kept: bool
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class History:
    """All manifests of a root, the newest first; at least one.

    `head`: what the next run goes on from; None if it cannot, as `fault` says. `newest`: the newest that can be read.
    """

    store: ObjectStore
    entries: tuple[Entry, ...]
    head: Manifest | None
    newest: Manifest | None
    fault: DamagedState | None
    owner_state: OwnerState | None

    @property
    def kept(self) -> tuple[Manifest, ...]:
        """The kept manifests that can be read, the newest first."""
        return tuple(e.manifest for e in self.entries if e.kept and e.manifest is not None)

    def root(self) -> Root:
        """For reading the objects of what is kept."""
        return Root(self.store, SystemClock(), self.kept, 1, None)

    def number(self, point: str) -> int:
        """The number that a number or a name stands for. Raises `StateError` if there is no such name."""
        if point.isdecimal():
            return int(point)
        for entry in self.entries:
            if point in entry.names:
                return entry.sequence
        names = ", ".join(sorted(name for entry in self.entries for name in entry.names))
        raise StateError(
            f"{self.store.describe()} keeps no snapshot by the name {point!r}; its names are: {names or 'none'}. "
            "Nothing was changed."
        )

    def find(self, point: str | int) -> Manifest:
        """One manifest, by its number or name. Raises `StateError` if there is none, or it is damaged."""
        here, sequence = self.store.describe(), self.number(str(point))
        for entry in self.entries:
            if entry.sequence == sequence:
                if entry.manifest is None:
                    raise DamagedState(
                        f"{here}: the snapshot {sequence} is damaged: {entry.damage}. Choose another snapshot. "
                        "Nothing was changed."
                    )
                return entry.manifest
        gone = " any more" if 0 < sequence < self.entries[0].sequence else ""
        raise StateError(
            f"{here} has no snapshot {sequence}{gone}; it has {', '.join(str(e.sequence) for e in self.entries)}. "
            "Nothing was changed."
        )


def no_state(store: ObjectStore) -> StateError:
    return StateError(f"{store.describe()} holds no state: no run has claimed it. Name the state of a run.")


async def read_history(store: ObjectStore) -> History:
    """Everything there is; changes nothing.

    Raises `StateError` if there is no state, and as `read_marker` does; damaged manifests are told, not raised.
    """
    if not await read_marker(store):
        raise no_state(store)
    listed = await manifest_sequences(store)
    fault: DamagedState | None = None
    there = Survey((), (), frozenset())
    try:
        there = await survey(store)
    except DamagedState as exc:
        fault = exc
    known = {manifest.sequence: manifest for manifest in (*there.chain, *there.pinned)}
    gate = asyncio.Semaphore(_AT_ONCE)
    found = await asyncio.gather(*(_read(store, sequence, gate) for sequence in listed - known.keys()))
    readable = known | {sequence: manifest for sequence, manifest, _ in found if manifest is not None}
    damaged = {sequence: damage for sequence, _, damage in found if damage}
    if not readable and not damaged:
        raise fault or no_state(store)
    newest = readable[max(readable)] if readable else None
    horizon = newest.horizon if newest is not None else 0
    names: dict[int, tuple[str, ...]] = {}
    for name, sequence in sorted(newest.keep.items()) if newest is not None else ():
        names[sequence] = (*names.get(sequence, ()), name)
    entries = tuple(
        Entry(
            sequence,
            readable.get(sequence),
            damaged.get(sequence, ""),
            kept=sequence in known if fault is None else sequence >= horizon or sequence in names,
            names=names.get(sequence, ()),
        )
        for sequence in sorted(readable.keys() | damaged.keys(), reverse=True)
    )
    owner_state = None
    if newest is not None:
        owner_state = await Root(store, SystemClock(), (newest,), 1, None).owner_state()
    return History(store, entries, there.chain[0] if there.chain else None, newest, fault, owner_state)


async def _read(store: ObjectStore, sequence: int, gate: asyncio.Semaphore) -> tuple[int, Manifest | None, str]:
    async with gate:
        try:
            return sequence, await read_manifest(store, sequence, fallback=0), ""
        except DamagedState as exc:
            # Listed and then gone: a running owner has deleted it.
            gone = isinstance(exc.__cause__, KeyMissing)
            return sequence, None, "" if gone else str(exc.__cause__ or exc)
