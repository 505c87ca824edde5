"""A root: the directory or prefix that holds the state of one graph, and the protocol by which runs commit to it.

The life of a run::

    root = await Root.open(store, clock=clock)      # reads only
    await root.check(takeover=False)                # everything that can be refused, reads only
    manifest = await root.claim(...)                # from here on the root is this run's
    ref = await root.put(data, rows=..., ...)       # any number, at once if wanted
    await root.commit(epoch=..., streams=..., ...)  # the one commit point of a snapshot
    await root.collect()                            # deletes what the committed manifest condemns
    await root.release()                            # a clean end
    root.abandon()                                  # in every other end

`head` is always the newest manifest known to be committed. The streams of a snapshot are made out of `head.streams`:
an object that is left out is condemned once no kept snapshot names it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from asyncpersist.checkpoint import protocol
from asyncpersist.checkpoint.layout import MARKER, object_key
from asyncpersist.checkpoint.manifest import Manifest, ObjectRef, Owner, checksum, encode
from asyncpersist.checkpoint.ownership import OwnerState, judge, owner_of
from asyncpersist.checkpoint.processes import start_of, this_process
from asyncpersist.checkpoint.protocol import ClaimContended
from asyncpersist.checkpoint.reading import MARKER_BYTES, read_chain, read_marker
from asyncpersist.checkpoint.register import Pending, Register, describe_owner
from asyncpersist.checkpoint.retention import Facts, retain
from asyncpersist.clock import Clock
from asyncpersist.errors import DamagedState, Fenced, StateInUse
from asyncpersist.objectstore.contract import KeyMissing, ObjectStore
from asyncpersist.objectstore.probe import probe

__all__ = ["ClaimContended", "Problem", "Root"]

_INLINE = 32 * 1024
_LISTING_EVERY = 1000

_live_runs: set[tuple[int, str]] = set()
"""Process id and token of every run of this process that has claimed a root and not ended; a fork inherits none."""


@dataclass(frozen=True, slots=True)
class Problem:
    """An object that cannot be loaded, and why."""

    key: str
    detail: str


class Root:
    """One run's access to a root. Made by `open`. Calls that write manifests must not overlap; `put` and `get` may."""

    def __init__(
        self,
        store: ObjectStore,
        clock: Clock,
        chain: tuple[Manifest, ...],
        retain_snapshots: int,
        retain_for: float | None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._chain = chain
        self._retain_snapshots = retain_snapshots
        self._retain_for = retain_for
        self._run: str | None = None
        self._register = Register(store)
        self._discarded: set[str] = set()
        self._gone: set[str] = set()
        self._until_listing = 0

    @classmethod
    async def open(
        cls, store: ObjectStore, *, clock: Clock, retain_snapshots: int = 10, retain_for: timedelta | None = None
    ) -> Root:
        """Reads what is committed; changes nothing.

        An empty or absent root has no head. Raises `ForeignRoot`, `NewerFormat`, `DamagedState`, `StoreUnavailable`,
        `StateUnwritable` where the path cannot be a directory.
        """
        chain = await read_chain(store) if await read_marker(store) else ()
        return cls(store, clock, chain, retain_snapshots, None if retain_for is None else retain_for.total_seconds())

    # What is known

    @staticmethod
    def live_runs() -> set[str]:
        """The tokens of this process's runs that have claimed a root and not ended."""
        return {run for pid, run in _live_runs if pid == os.getpid()}

    @property
    def store(self) -> ObjectStore:
        return self._store

    @property
    def head(self) -> Manifest | None:
        """The newest manifest known to be committed; None on an empty root."""
        return self._chain[0] if self._chain else None

    @property
    def chain(self) -> tuple[Manifest, ...]:
        """The head and the ancestors that are kept, the newest first."""
        return self._chain

    @property
    def claimed(self) -> bool:
        """Whether this run has claimed the root and not ended."""
        return self._run is not None

    @property
    def exclusive(self) -> bool:
        """After the claim: every owner before this run is proven to be gone, so that none holds an output open."""
        return self._claimed_head().exclusive

    @property
    def in_doubt(self) -> bool:
        """Whether a commit was begun whose outcome is not known; `settle` finds it out."""
        return self._register.pending is not None

    async def owner_state(self) -> OwnerState:
        """What is known of the head's owner now."""
        return await asyncio.to_thread(self._judge, None if self.head is None else self.head.owner)

    # Checking and claiming

    async def check(self, *, takeover: bool = False) -> None:
        """Everything that a claim refuses, by reading alone. Raises `StateInUse`, `StateUnwritable`."""
        await self._store.check_writable()
        if not takeover and await self.owner_state() is OwnerState.RUNNING:
            raise StateInUse(self._in_use())

    async def claim(
        self,
        *,
        mode: str,
        access: str,
        graph: Mapping[str, Any] | None = None,
        sinks: Mapping[str, dict[str, Any]] | None = None,
        takeover: bool = False,
    ) -> Manifest:
        """Takes the root over: commits a manifest with the head's content, the next generation and this run as owner.

        `sinks`: the initial positions of sinks; those the head has keep theirs. Nothing is written before every check
        has passed. Raises `StateInUse`, `StateUnwritable`; `ClaimContended` where another claim came first: open the
        root again; `StoreUnavailable`, after which the root must be opened again too.
        """
        if self._run is not None:
            raise RuntimeError("this root has been claimed already; open it again for another run")
        await self._store.check_writable()
        here = await asyncio.to_thread(this_process)
        state = await self.owner_state()
        if state is OwnerState.RUNNING and not takeover:
            raise StateInUse(self._in_use())
        await probe(self._store, MARKER, MARKER_BYTES)
        now, run = self._clock.wall(), self._clock.token()
        manifest = protocol.claim(
            self.head,
            token=self._clock.token(),
            owner=owner_of(here, run, now),
            exclusive=state.proven_gone,
            now=now,
            mode=mode,
            access=access,
            graph=graph or {},
            sinks=sinks or {},
        )
        _live_runs.add((os.getpid(), run))
        try:
            await self._commit(manifest, self._chain)
        except Fenced as exc:
            raise ClaimContended(
                f"{self._store.describe()}: another run claimed the state at the same moment. {exc}"
            ) from exc
        finally:
            if self.head is not manifest:
                _live_runs.discard((os.getpid(), run))
        self._run = run
        return manifest

    # Writing

    async def put(
        self, data: bytes, *, rows: int, first_epoch: int, last_epoch: int, extension: str = "arrow"
    ) -> ObjectRef:
        """Writes an object under a new name and returns what a manifest says of it.

        It counts for nothing until a commit names it; if none ever will, say so to `discard`.
        Raises `StoreUnavailable`, `StateUnwritable`.
        """
        key = object_key(self._claimed_head().generation, self._clock.token(), extension)
        digest = checksum(data) if len(data) <= _INLINE else await asyncio.to_thread(checksum, data)
        try:
            await self._store.put(key, data)
        except BaseException:
            self._discarded.add(key)
            raise
        return ObjectRef(
            key=key, length=len(data), checksum=digest, rows=rows, first_epoch=first_epoch, last_epoch=last_epoch
        )

    def discard(self, refs: Iterable[ObjectRef]) -> None:
        """Says that no later snapshot will name these objects; the next commit condemns those that none names."""
        self._discarded.update(ref.key for ref in refs)

    async def commit(
        self,
        *,
        epoch: int,
        streams: Mapping[str, Sequence[ObjectRef]],
        sinks: Mapping[str, Mapping[str, Any]],
        graph: Mapping[str, Any],
        progress: Mapping[str, Any] | None = None,
        mode: str | None = None,
        access: str | None = None,
    ) -> Manifest:
        """Commits a snapshot: its whole content, not a difference. Mode and access default to the head's.

        A commit in doubt is settled first; if it was of the same content, that was all. Raises `Fenced` where another
        run has taken over; `StoreUnavailable` where the commit did not happen or, if `in_doubt`, may have. Then either
        repeat the call, or call `settle` before another snapshot is put together, so that it builds on the right
        `head`. A cancelled call may be in doubt as well.
        """
        self._claimed_head()
        settled = await self.settle()
        head = self._claimed_head()
        if settled is not None and protocol.says(
            settled, epoch=epoch, streams=streams, sinks=sinks, graph=graph, progress=progress or {}
        ):
            return settled
        stored: set[str] | None = None
        if self._until_listing <= 0:
            stored = {entry.key for entry in await self._store.list()}
        now = self._clock.wall()
        retention = retain(
            Facts(
                ancestors=self._chain,
                named={ref.key for refs in streams.values() for ref in refs},
                sequence=head.sequence + 1,
                generation=head.generation,
                now=now,
                retain_snapshots=self._retain_snapshots,
                retain_for=self._retain_for,
                carried=set(head.condemned) - self._gone,
                abandoned=self._discarded,
                stored=stored,
            )
        )
        manifest = protocol.snapshot(
            head,
            retention,
            token=self._clock.token(),
            now=now,
            epoch=epoch,
            mode=head.mode if mode is None else mode,
            access=head.access if access is None else access,
            graph=graph,
            streams=streams,
            sinks=sinks,
            progress=progress or {},
        )
        await self._commit(manifest, retention.kept)
        self._until_listing = _LISTING_EVERY if stored is not None else self._until_listing - 1
        return manifest

    async def settle(self) -> Manifest | None:
        """Finds out the outcome of a commit in doubt, by bringing it about; None if none was in doubt.

        Returns the manifest, which is now the head. Raises `Fenced`; `StoreUnavailable` while it stays in doubt.
        """
        pending = self._register.pending
        return None if pending is None else await self._carry_out(pending)

    async def release(
        self,
        *,
        sinks: Mapping[str, Mapping[str, Any]] | None = None,
        progress: Mapping[str, Any] | None = None,
    ) -> Manifest:
        """A clean end: commits the head's content with the owner released, and ends the run.

        `sinks` and `progress` take the place of the head's if given. Raises as `commit` does; the run has not ended
        then, and the call may be repeated.
        """
        settled = await self.settle()
        if settled is not None and settled.kind == "release":
            self.abandon()
            return settled
        manifest = protocol.release(
            self._claimed_head(),
            token=self._clock.token(),
            now=self._clock.wall(),
            gone=self._gone,
            sinks=sinks,
            progress=progress,
        )
        committed = await self._commit(manifest, self._chain)
        self.abandon()
        return committed

    def abandon(self) -> None:
        """This run has ended and writes no more; the store stays open. Idempotent."""
        if self._run is not None:
            _live_runs.discard((os.getpid(), self._run))
        self._run = None

    async def confirm(self) -> None:
        """Raises `Fenced` if another run has taken the root over. That it has not is true of the moment only."""
        await self._register.confirm(self._claimed_head().sequence)

    async def collect(self) -> int:
        """Deletes what the head condemns, unless this run has done so; returns how many keys. May be repeated."""
        condemned = [key for key in self._claimed_head().condemned if key not in self._gone]
        if condemned:
            await self._store.delete(condemned)
            self._gone.update(condemned)
        return len(condemned)

    # Reading

    async def get(self, ref: ObjectRef) -> bytes:
        """The bytes of an object, verified. Raises `DamagedState`, which names it."""
        data, problem = await self._load(ref)
        if problem is not None:
            raise DamagedState(self._damaged(problem))
        return data

    async def verify(self, manifest: Manifest | None = None, *, at_once: int = 4) -> list[Problem]:
        """Every object of a manifest (the head) that is missing or altered."""
        chosen = self.head if manifest is None else manifest
        gate = asyncio.Semaphore(at_once)

        async def look(ref: ObjectRef) -> Problem | None:
            async with gate:
                return (await self._load(ref))[1]

        found = await asyncio.gather(*(look(ref) for ref in ([] if chosen is None else chosen.objects())))
        return [problem for problem in found if problem is not None]

    async def _load(self, ref: ObjectRef) -> tuple[bytes, Problem | None]:
        try:
            data = await self._store.get(ref.key)
        except KeyMissing:
            return b"", Problem(ref.key, "it is missing")
        if len(data) != ref.length:
            return b"", Problem(ref.key, f"it has {len(data)} bytes, not {ref.length}")
        digest = checksum(data) if len(data) <= _INLINE else await asyncio.to_thread(checksum, data)
        if digest != ref.checksum:
            return b"", Problem(ref.key, "its bytes do not fit their checksum")
        return data, None

    async def _commit(self, manifest: Manifest, kept: tuple[Manifest, ...]) -> Manifest:
        return await self._carry_out(Pending(manifest, encode(manifest), kept))

    async def _carry_out(self, commit: Pending) -> Manifest:
        await self._register.commit(commit)
        self._chain = (commit.manifest, *commit.kept)
        condemned = set(commit.manifest.condemned)
        self._discarded -= condemned
        self._gone &= condemned
        return commit.manifest

    def _claimed_head(self) -> Manifest:
        self._register.refuse_fenced()
        if self._run is None or self.head is None:
            raise RuntimeError("the root has not been claimed by this run, or the run has ended")
        return self.head

    def _judge(self, owner: Owner | None) -> OwnerState:
        return judge(owner, this_process(), self.live_runs(), None if owner is None else start_of(owner.pid))

    # Messages

    def _in_use(self) -> str:
        assert self.head is not None
        return (
            f"{self._store.describe()} is in use by {describe_owner(self.head.owner)}. Stop that process, name another "
            "directory for the state, or say takeover=True to depose it. Nothing was changed."
        )

    def _damaged(self, problem: Problem) -> str:
        here = self._store.describe()
        older = [m.sequence for m in self._chain[1:] if m.kind == "snapshot" and problem.key not in m.names()]
        advice = (
            f"run `asyncpersist restore {here} {older[0]}` to go on from that older snapshot"
            if older
            else "name another directory to start anew"
        )
        return (
            f"{here}: the object {problem.key} is damaged: {problem.detail}. Put it back from a backup, or {advice}. "
            "Nothing was changed."
        )
