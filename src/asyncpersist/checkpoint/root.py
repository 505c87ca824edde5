"""A root: the directory or prefix that holds the state of one graph, and the protocol by which runs commit to it.

The life of a run::

    root = await Root.open(store, clock=clock)      # reads only
    await root.check(takeover=False)                # everything that can be refused, reads only
    manifest = await root.claim(...)                # from here on the root is this run's
    await root.sweep()                              # deletes what killed runs left
    answers = await root.adopt()                    # what earlier runs wrote and did not come to name
    refs = await root.put(Piece(data, ...), ...)    # any number, at once if wanted; pieces of one call in one object
    await root.put_answers(...)                     # one after the other; good before anything names them
    await root.commit(epoch=..., streams=..., ...)  # the one commit point of a snapshot
    await root.collect()                            # deletes what the committed manifest condemns
    await root.release()                            # an end, clean or not
    root.abandon()                                  # where that cannot be committed

`head` is always the newest manifest known to be committed. The streams of a snapshot are made out of `head.streams`:
an object that is left out is condemned once no kept snapshot names it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from asyncpersist.checkpoint import protocol
from asyncpersist.checkpoint.answers import (
    AnswerPiece,
    Answers,
    accounted,
    encode_answers,
    open_generations,
    read_answers,
    unnamed,
)
from asyncpersist.checkpoint.caches import cached, uncached
from asyncpersist.checkpoint.layout import MANIFESTS, MARKER, OBJECTS, object_key
from asyncpersist.checkpoint.leftovers import Leftovers
from asyncpersist.checkpoint.manifest import Answered, CacheFacts, LogFacts, Manifest, ObjectRef, Owner, encode
from asyncpersist.checkpoint.ownership import OwnerState, judge, owner_of
from asyncpersist.checkpoint.processes import start_of, this_process
from asyncpersist.checkpoint.protocol import ClaimContended
from asyncpersist.checkpoint.reading import MARKER_BYTES, Survey, read_marker, survey
from asyncpersist.checkpoint.register import Pending, Register, describe_owner
from asyncpersist.checkpoint.retention import Facts, Retention, lineage, outside, retain
from asyncpersist.checkpoint.verifying import Problem, advice, joined, load, problems
from asyncpersist.clock import Clock
from asyncpersist.errors import DamagedState, Fenced, StateInUse, StateUnwritable, StoreUnavailable
from asyncpersist.objectstore.contract import ObjectStore
from asyncpersist.objectstore.probe import probe

__all__ = ["ClaimContended", "Piece", "Problem", "Root"]

_LISTING_EVERY = 1000
_MANY = 200
_MANY_SNAPSHOTS = 32
_LEFT_LYING = 8
"""Manifests that nobody follows, up to which a restart does not commit only to get rid of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Bytes to be written, and what is known of them, as in an `ObjectRef`."""

    data: bytes
    rows: int
    first_epoch: int
    last_epoch: int
    compacted: bool = False


_live_runs: set[tuple[int, str]] = set()
"""Process id and token of every run of this process that has claimed a root and not ended; a fork inherits none."""


class Root:
    """One run's access to a root. Made by `open`. Calls that write manifests must not overlap; `put` and `get` may."""

    def __init__(
        self,
        store: ObjectStore,
        clock: Clock,
        chain: tuple[Manifest, ...],
        retain_snapshots: int,
        retain_for: float | None,
        sequences: Collection[int] = (),
        pinned: tuple[Manifest, ...] = (),
    ) -> None:
        self._store = store
        self._clock = clock
        self._chain = chain
        self._pinned = pinned
        self._retain_snapshots = retain_snapshots
        self._retain_for = retain_for
        self._run: str | None = None
        self._register = Register(store)
        self._leftovers = Leftovers(chain, sequences)
        self._until_listing = 0
        self._summing = asyncio.Lock()
        self._serial = 0
        """That of the last answers that this run has made ready."""
        self._accounted: dict[int, Answered] | None = None
        """What is known of answers of earlier runs once those are named that were adopted."""

    @classmethod
    async def open(
        cls, store: ObjectStore, *, clock: Clock, retain_snapshots: int = 10, retain_for: timedelta | None = None
    ) -> Root:
        """Reads what is committed; changes nothing.

        An empty or absent root has no head. Raises `ForeignRoot`, `NewerFormat`, `DamagedState`, `StoreUnavailable`,
        `StateUnwritable` where the path cannot be a directory.
        """
        found = await survey(store) if await read_marker(store) else Survey((), (), frozenset())
        seconds = None if retain_for is None else retain_for.total_seconds()
        return cls(store, clock, found.chain, retain_snapshots, seconds, found.sequences, found.pinned)

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
    def pinned(self) -> tuple[Manifest, ...]:
        """What is kept for its name alone, off the chain, the newest first."""
        return self._pinned

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
        single_writer: bool = False,
    ) -> Manifest:
        """Takes the root over: commits a manifest with the head's content, the next generation and this run as owner.

        `sinks`: the initial positions of sinks; those the head has keep theirs. `single_writer` accepts a store that
        does not honour create-if-absent. Nothing is written before every check has passed. Raises `StateInUse`,
        `StateUnwritable`; `ClaimContended` where another claim came first: open the root again; `StoreUnavailable`,
        after which the root must be opened again too.
        """
        if self._run is not None:
            raise RuntimeError("this root has been claimed already; open it again for another run")
        await self._store.check_writable()
        here = await asyncio.to_thread(this_process)
        state = await self.owner_state()
        if state is OwnerState.RUNNING and not takeover:
            raise StateInUse(self._in_use())
        await probe(self._store, MARKER, MARKER_BYTES, single_writer=single_writer)
        now, run = self._clock.wall(), self._clock.token()
        manifest = protocol.claim(
            self._chain,
            token=self._clock.token(),
            owner=owner_of(here, run, now),
            exclusive=state.proven_gone,
            now=now,
            mode=mode,
            access=access,
            graph=graph or {},
            sinks=sinks or {},
            gone=self._leftovers.gone,
        )
        _live_runs.add((os.getpid(), run))
        try:
            await self._commit(manifest, lineage(self._chain))
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

    async def put(self, *pieces: Piece) -> list[ObjectRef]:
        """Writes pieces as one object under a new name and returns what a manifest says of each.

        They count for nothing until a commit names them; if none ever will, say so to `discard`.
        Raises `StoreUnavailable`, `StateUnwritable`.
        """
        key = object_key(self._claimed_head().generation, self._clock.token(), "arrow")
        # One after the other: with many large pieces at once, threads that sum up would keep all processors.
        async with self._summing:
            data, sums = await joined([piece.data for piece in pieces])
        self._leftovers.unnamed.add(key)
        try:
            await self._store.put(key, data)
        except BaseException:
            self._leftovers.discarded.add(key)
            raise
        starts = itertools.accumulate((len(piece.data) for piece in pieces), initial=0)
        return [
            ObjectRef(
                key=key,
                start=start if len(pieces) > 1 else None,
                length=len(piece.data),
                checksum=summed,
                rows=piece.rows,
                first_epoch=piece.first_epoch,
                last_epoch=piece.last_epoch,
                compacted=piece.compacted,
            )
            for piece, start, summed in zip(pieces, starts, sums, strict=False)
        ]

    def answers(
        self, pieces: Sequence[AnswerPiece], facts: Mapping[str, CacheFacts] | None = None
    ) -> tuple[bytes, Answers]:
        """Makes an object of answers ready, to be written by `put_answers`. Computes; from any thread."""
        head = self._claimed_head()
        self._serial += 1
        return encode_answers(head.generation, self._serial, pieces, epoch=head.epoch, facts=facts or {})

    async def put_answers(self, data: bytes, answers: Answers) -> None:
        """Writes answers: once this returns, a later run finds them, named or not.

        To be called for one after the other, in the order in which they were made ready; may be repeated. Raises
        `StoreUnavailable`, `StateUnwritable`.
        """
        self._claimed_head()
        await self._store.put(answers.key, data)

    async def adopt(self) -> list[Answers]:
        """The answers of earlier runs that no manifest names, in the order in which they apply.

        To be called once after the claim, if at all; every commit from then on that says how far answers are named has
        to name these as well. Raises `StoreUnavailable`.
        """
        head = self._claimed_head()
        keys, found = await self._unnamed(head.answers)
        self._accounted = accounted(head.answers, keys)
        return found

    async def unnamed_answers(self) -> list[Answers]:
        """What a run would adopt now; by reading alone, without a claim. Raises `StoreUnavailable`."""
        return (await self._unnamed(open_generations(self.head, ended=False)))[1]

    async def _unnamed(self, answers: Mapping[int, Answered]) -> tuple[list[str], list[Answers]]:
        if self.head is None or not answers:
            return [], []
        stored = [entry.key for entry in await self._store.list(OBJECTS)]
        keys = unnamed(stored, answers, self.head.condemned)
        return keys, await read_answers(self._store, keys)

    def _answered(self, answered: int | None) -> dict[int, Answered]:
        """What the next manifest says of answers, if it names this run's up to a serial, and what was adopted."""
        head = self._claimed_head()
        if answered is None:
            return head.answers
        before = head.answers if self._accounted is None else self._accounted
        return {**before, head.generation: Answered(named=answered)} if answered else dict(before)

    def discard(self, refs: Iterable[ObjectRef]) -> None:
        """Says that no later snapshot will name these objects; the next commit condemns those that none names."""
        self._leftovers.discarded.update(ref.key for ref in refs)

    async def commit(
        self,
        *,
        epoch: int,
        streams: Mapping[str, Sequence[ObjectRef]],
        sinks: Mapping[str, Mapping[str, Any]],
        graph: Mapping[str, Any],
        progress: Mapping[str, Any] | None = None,
        logs: Mapping[str, LogFacts] | None = None,
        mode: str | None = None,
        access: str | None = None,
        keep: str | None = None,
        caches: Mapping[str, CacheFacts] | None = None,
        answered: int | None = None,
    ) -> Manifest:
        """Commits a snapshot: its whole content, not a difference. Mode and access default to the head's.

        `keep`: the name by which it is kept for ever; one that had the name loses it. Raises `ValueError` for what
        cannot be a name. `caches`: what is known of them, None: what the head knows. `answered`: up to which serial the
        streams have this run's answers; None: it names none that the head does not.

        A commit in doubt is settled first; if it was of the same content, that was all. Raises `Fenced` where another
        run has taken over; `StoreUnavailable` where the commit did not happen or, if `in_doubt`, may have. Then either
        repeat the call, or call `settle` before another snapshot is put together, so that it builds on the right
        `head`. A cancelled call may be in doubt as well.
        """
        self._claimed_head()
        if keep is not None:
            protocol.check_name(keep)
        settled = await self.settle()
        head = self._claimed_head()
        answers = self._answered(answered)
        if settled is not None and protocol.says(
            settled,
            epoch=epoch,
            streams=streams,
            sinks=sinks,
            graph=graph,
            progress=progress or {},
            logs=logs or {},
            keep=keep,
            caches=caches,
            answers=answers,
        ):
            return settled
        stored = await self._list() if self._until_listing <= 0 else None
        now = self._clock.wall()
        names = head.keep if keep is None else {**head.keep, keep: head.sequence + 1}
        facts = self._leftovers.facts(
            self._chain,
            {ref.key for refs in streams.values() for ref in refs},
            now=now,
            stored=stored,
            retain_snapshots=self._retain_snapshots,
            retain_for=self._retain_for,
            keep=names,
            pinned=self._pinned,
            answers=answers,
        )
        retention = await _decided(facts)
        manifest = protocol.snapshot(
            head,
            retention,
            token=self._clock.token(),
            now=self._clock.wall(),
            epoch=epoch,
            mode=head.mode if mode is None else mode,
            access=head.access if access is None else access,
            graph=graph,
            streams=streams,
            sinks=sinks,
            progress=progress or {},
            logs=logs or {},
            keep=names,
            caches=caches,
            answers=answers,
        )
        await self._commit(manifest, retention.kept)
        self._until_listing = _LISTING_EVERY if stored is not None else self._until_listing - 1
        return manifest

    async def commit_caches(
        self, streams: Mapping[str, Sequence[ObjectRef]], *, caches: Mapping[str, CacheFacts], answered: int
    ) -> Manifest:
        """Commits the head's content with these `streams` for all that it has of caches; that counts as no snapshot.

        The rest is as in `commit`, also what is raised; a commit in doubt has to be settled before `streams` are made.
        """
        settled = await self.settle()
        head = self._claimed_head()
        answers, wanted = self._answered(answered), cached(streams)
        if settled is not None and (cached(head.streams), head.caches, head.answers) == (wanted, caches, answers):
            return settled
        content = {**uncached(head.streams), **wanted}
        facts = self._leftovers.facts(
            self._chain,
            {ref.key for refs in content.values() for ref in refs},
            now=self._clock.wall(),
            pinned=self._pinned,
            answers=answers,
        )
        retention = await _decided(facts)
        manifest = protocol.sweep(
            head,
            retention,
            token=self._clock.token(),
            now=self._clock.wall(),
            streams=content,
            caches=caches,
            answers=answers,
        )
        return await self._commit(manifest, retention.kept)

    async def settle(self) -> Manifest | None:
        """Finds out the outcome of a commit in doubt, by bringing it about; None if none was in doubt.

        Returns the manifest, which is now the head. Raises `Fenced`; `StoreUnavailable` while it stays in doubt.
        """
        pending = self._register.pending
        return None if pending is None else await self._carry_out(pending)

    async def sweep(self) -> int:
        """Deletes what earlier runs left lying about, and returns how many keys; to be called once after the claim.

        What the head condemns is deleted. If there are objects that no manifest names, or many manifests that nobody
        follows, they are condemned first, by a commit of the head's content. So storage is bounded even where no
        snapshot ever succeeds. Raises as `commit` does; it may be left out.
        """
        await self.settle()
        head = self._claimed_head()
        deleted = await self.collect()
        stored = await self._list()
        retention = await _decided(
            self._leftovers.facts(self._chain, head.names(), now=self._clock.wall(), stored=stored, pinned=self._pinned)
        )
        left = set(retention.condemned) - set(head.condemned)
        if len(left) <= _LEFT_LYING and not any(key.startswith(OBJECTS) for key in left):
            return deleted
        manifest = protocol.sweep(head, retention, token=self._clock.token(), now=self._clock.wall())
        await self._commit(manifest, retention.kept)
        self._until_listing = _LISTING_EVERY
        return deleted + await self.collect()

    async def release(
        self,
        *,
        clean: bool = True,
        sinks: Mapping[str, Mapping[str, Any]] | None = None,
        progress: Mapping[str, Any] | None = None,
    ) -> Manifest:
        """The end: commits the head's content with the owner released, and ends the run.

        It condemns what this run wrote and no manifest names, and deletes it if the store allows. `clean`: outputs hold
        nothing beyond their positions. `sinks` and `progress` take the place of the head's if given. Raises as `commit`
        does; the run has not ended then, and the call may be repeated.
        """
        committed = await self.settle()
        if committed is None or committed.kind != "release":
            head = self._claimed_head()
            # So that the keys condemned do not become more from run to run.
            with contextlib.suppress(StoreUnavailable, StateUnwritable):
                await self.collect()
            facts = self._leftovers.facts(
                self._chain, head.names(), now=self._clock.wall(), ending=True, pinned=self._pinned
            )
            manifest = protocol.release(
                head,
                retain(facts),
                token=self._clock.token(),
                now=self._clock.wall(),
                clean=clean,
                sinks=sinks,
                progress=progress,
                answers=self._closed(head),
            )
            committed = await self._commit(manifest, lineage(self._chain))
        self.abandon()
        with contextlib.suppress(StoreUnavailable, StateUnwritable):
            await self._delete(committed)
        return committed

    def _closed(self, head: Manifest) -> dict[int, Answered]:
        """What the last manifest of this run says of answers: where all of its own are named, nothing of them."""
        own = head.answers.get(head.generation, Answered())
        others = {number: answered for number, answered in head.answers.items() if number != head.generation}
        if own.named == self._serial:
            return others
        return {**others, head.generation: Answered(named=own.named, ended=True)}

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
        return await self._delete(self._claimed_head())

    async def _delete(self, manifest: Manifest) -> int:
        if condemned := self._leftovers.deletable(manifest):
            await self._store.delete(condemned)
            self._leftovers.gone.update(condemned)
        return len(condemned)

    # Reading

    async def get(self, ref: ObjectRef) -> bytes:
        """The bytes of an object, verified. Raises `DamagedState`, which names it."""
        data, problem = await load(self._store, ref)
        if problem is not None:
            raise DamagedState(advice(self._store.describe(), problem, (*self._chain, *self._pinned)))
        return data

    async def verify(self, manifest: Manifest | None = None, *, at_once: int = 4) -> list[Problem]:
        """Every object of a manifest (the head) that is missing or altered."""
        chosen = self.head if manifest is None else manifest
        return await problems(self._store, [] if chosen is None else chosen.objects(), at_once=at_once)

    async def _list(self) -> set[str]:
        """The keys of all that may be a run's; a store can hold much else besides."""
        found = await asyncio.gather(*(self._store.list(prefix) for prefix in (MARKER, MANIFESTS, OBJECTS)))
        return {entry.key for entries in found for entry in entries}

    async def _commit(self, manifest: Manifest, kept: tuple[Manifest, ...]) -> Manifest:
        return await self._carry_out(Pending(manifest, encode(manifest), kept))

    async def _carry_out(self, commit: Pending) -> Manifest:
        await self._register.commit(commit)
        links = (commit.manifest, *commit.kept)
        pinned = outside(commit.manifest.keep, links, (*self._chain, *self._pinned))
        self._leftovers.committed(self._chain, commit.manifest, (*commit.kept, *pinned))
        self._chain, self._pinned = links, pinned
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
        ours = self.head.owner.run in self.live_runs()
        who = "another run of this process" if ours else describe_owner(self.head.owner)
        return (
            f"{self._store.describe()} is in use by {who}. Stop that {'run' if ours else 'process'}, name another "
            "place for the state, or say takeover=True to depose it. Nothing was changed."
        )


async def _decided(facts: Facts) -> Retention:
    """What is kept and condemned; where many keys were listed, decided in a thread."""
    many = len(facts.ancestors) > _MANY_SNAPSHOTS or (facts.stored is not None and len(facts.stored) > _MANY)
    return await asyncio.to_thread(retain, facts) if many else retain(facts)
