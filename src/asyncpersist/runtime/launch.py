"""How a run begins: what can be refused is refused by reading alone, then the root is claimed, then all is opened."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property

import anyio.to_thread
import polars as pl

from asyncpersist.checkpoint.answers import Answers
from asyncpersist.checkpoint.caches import others
from asyncpersist.checkpoint.manifest import Manifest
from asyncpersist.checkpoint.protocol import ClaimContended
from asyncpersist.checkpoint.root import Root
from asyncpersist.clock import Clock
from asyncpersist.columnar.delta import ID
from asyncpersist.columnar.state import State
from asyncpersist.disk import Disk
from asyncpersist.errors import DamagedState, ModeChanged, OutputError, StateError
from asyncpersist.graph.node import SinkNode, SourceNode
from asyncpersist.graph.plan import Plan, Vertex
from asyncpersist.io.source import Needs, SourceReader
from asyncpersist.objectstore.contract import ObjectStore
from asyncpersist.persistence import Config, SnapshotAccess
from asyncpersist.persistence.keeping import Keeping, keeping_of
from asyncpersist.runtime import recovery
from asyncpersist.runtime.caches import Caches
from asyncpersist.runtime.copied_logs import copied
from asyncpersist.runtime.dataflow import Dataflow
from asyncpersist.runtime.log_reading import LogReader
from asyncpersist.runtime.log_rule import LogRule, rule_of
from asyncpersist.runtime.offsets import OffsetTable
from asyncpersist.runtime.outlet import Outlet
from asyncpersist.runtime.refusals import refuse_shared_places
from asyncpersist.runtime.resuming.resumption import Resumption, resume
from asyncpersist.runtime.resuming.situation import Situation
from asyncpersist.runtime.scratch import Scratch
from asyncpersist.runtime.snapshots import Snapshots

__all__ = ["Launch", "Launched"]

logger = logging.getLogger("asyncpersist")

_OUTLET_BYTES = 64 << 20
"""Bound on stepped but unwritten output, per sink."""


@dataclass(frozen=True, slots=True)
class Launched:
    """A run that is open.

    Without persistence there is no root, nothing to take snapshots with, no head and nothing to go on from; a replay
    that may not write has a head, and no root that it owns. `logs`: by source, those there are; `states`: by stream,
    what is kept.
    """

    root: Root | None = None
    snapshots: Snapshots | None = None
    head: Manifest | None = None
    resumption: Resumption | None = None
    logs: Mapping[str, LogReader] = field(default_factory=dict)
    states: Mapping[str, State] = field(default_factory=dict)
    readers: list[SourceReader] = field(default_factory=list)
    outlets: dict[str, Outlet] = field(default_factory=dict)
    unseen: Mapping[str, int] = field(default_factory=dict)
    """By source, the epoch up to which operators have not seen what it gave, where it goes on all the same."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What a run is made of: `plan`, what it computes with, and `offsets` by source, both empty, to be filled.

    `old_plan` makes the plan of the same graph by the rules of format 1. `caches`: those that its functions have in the
    root; their states are filled as well, in every mode.
    """

    plan: Plan
    old_plan: Callable[[], Plan]
    config: Config | None
    dataflow: Dataflow
    offsets: Mapping[str, OffsetTable]
    takeover: bool
    disk: Disk
    clock: Clock
    caches: Caches | None = None

    @cached_property
    def keeping(self) -> Keeping:
        """What the run keeps; nothing without a configuration."""
        nothing = Keeping(writes=False, finds=False, logs="none", outputs="none")
        return nothing if self.config is None else keeping_of(self.config)

    @property
    def starts_sources(self) -> bool:
        """Whether sources are ever read."""
        return self.keeping.replay is None or self.config is None or self.config.continue_after_replay

    @cached_property
    def rules(self) -> dict[str, LogRule]:
        """By source, how a log is kept that is for one run alone."""
        return {
            vertex.identity: rule_of(self.plan, position, persistent=self.config is not None)
            for position, vertex in enumerate(self.plan.vertices)
            if isinstance(vertex.node, SourceNode)
        }

    async def open(self, closing: AsyncExitStack, scratch: Scratch) -> Launched:
        """Checks, claims, fills the state and opens sinks and sources; what is to be closed is pushed on `closing`.

        Raises what recovery raises. Nothing is changed on any disk unless everything could be claimed.
        """
        await refuse_shared_places(self.plan, self.config)
        if self.config is None:
            await self._check(None, clean=False)
            outlets = await self._open_sinks(None, None, closing)
            return Launched(readers=await self._open_sources(None, closing), outlets=outlets)
        store = await anyio.to_thread.run_sync(self.config.backend.open_store, self.disk)
        if self.config.backend.owns_store:
            closing.push_async_callback(store.aclose)
        if not self.keeping.writes:
            return await self._open_to_read(store, closing, scratch)
        root, resumption, head, fetched, cached = await self._claim(self.config, store)
        closing.callback(root.abandon)
        assert root.head is not None
        states = self._kept_states(resumption)
        snapshots = self._snapshots(self.config, root, resumption, head)
        closing.push_async_callback(snapshots.give_up)
        await recovery.fill({**states, **self._sought(resumption)}, fetched)
        await self._fill_caches(root, cached, await snapshots.adopt())
        try:
            outlets = await self._open_sinks(root, resumption, closing)
        except (OSError, OutputError) as exc:
            reason = await recovery.reason(root, exc)
            if reason is exc:
                raise
            raise reason from exc
        readers = await self._open_sources(resumption, closing)
        logs = self._logs(root, resumption, head)
        unseen = dict.fromkeys(self._unseen(resumption), 0 if head is None else head.epoch)
        return Launched(root, snapshots, head, resumption, logs, states, readers, outlets, unseen)

    async def _open_to_read(self, store: ObjectStore, closing: AsyncExitStack, scratch: Scratch) -> Launched:
        """A replay that changes nothing: neither is the root claimed, nor what belongs to its owner touched."""
        seen = 0
        while True:
            root = await Root.open(store, clock=self.clock)
            head = self._in_present_words(root.head)
            resumption, logs = self._replayed(root, head, store)
            try:
                fetched = await recovery.fetch(root, head, self._sought(resumption))
                cached = await recovery.fetch(root, root.head, self._cached_states)
                unnamed = await root.unnamed_answers() if self._cached_states else []
                await recovery.add_answers(root, cached, self._cached_states, unnamed)
                if self._reads_for_long or not (await root.owner_state()).proven_gone:
                    logs = await copied(logs, scratch)
                break
            except DamagedState:
                # The owner may have deleted meanwhile what its newest snapshot does not need.
                if head is None or head.sequence == seen:
                    raise
                seen = head.sequence
        await recovery.fill(self._sought(resumption), fetched)
        await recovery.fill(self._cached_states, cached)
        await self._check(resumption, clean=False)
        outlets = await self._open_sinks(None, resumption, closing)
        readers = await self._open_sources(resumption, closing)
        return Launched(None, None, head, resumption, logs, {}, readers, outlets)

    async def _fill_caches(self, root: Root, cached: dict[str, pl.DataFrame], adopted: Sequence[Answers]) -> None:
        if self.caches is not None and root.head is not None:
            self.caches.found(others(root.head, self.caches.states))
        await recovery.add_answers(root, cached, self._cached_states, adopted)
        await recovery.fill(self._cached_states, cached)

    @property
    def _cached_states(self) -> Mapping[str, State]:
        return {} if self.caches is None else self.caches.states

    @property
    def _reads_for_long(self) -> bool:
        """Whether a replay may still read logs when an owner who had ended has come back."""
        return self.keeping.replay == "realtime" or self.starts_sources

    def _replayed(
        self, root: Root, head: Manifest | None, store: ObjectStore
    ) -> tuple[Resumption, dict[str, LogReader]]:
        """What is replayed. Raises `StateError` if there is nothing, or nothing of these sources."""
        if head is None or not any(stream.startswith("log/") for stream in head.streams):
            raise StateError(
                f"{store.describe()} holds nothing to replay: no log of a source. Record one first, with "
                "SnapshotAccess.RECORD, or name the state of a run that keeps logs."
            )
        resumption = self._resume(head, store)
        logs = self._logs(root, resumption, head)
        if not logs and not any(identity in head.logs for identity in resumption.sources):
            recorded = ", ".join(head.graph[identity]["description"] for identity in sorted(head.logs))
            raise StateError(
                f"{store.describe()} holds nothing to replay of the sources of this graph: there are logs of "
                f"{recorded}. A source is found by its name=, or else by its definition."
            )
        return resumption, logs

    async def _claim(
        self, config: Config, store: ObjectStore
    ) -> tuple[Root, Resumption, Manifest | None, dict[str, pl.DataFrame], dict[str, pl.DataFrame]]:
        """The root, claimed, and what its head holds: of state, and of caches."""
        while True:
            root = await Root.open(
                store, clock=self.clock, retain_snapshots=config.retain_snapshots, retain_for=config.retain_for
            )
            head = self._in_present_words(root.head)
            if head is not None and head.epoch and not self.keeping.finds:
                raise ModeChanged(
                    f"{store.describe()} holds a recording or the state of a run already, and RECORD only writes to an "
                    "empty place: replay it with SnapshotAccess.REPLAY, or name another directory. Nothing was changed."
                )
            resumption = self._resume(head, store)
            await root.check(takeover=self.takeover)
            wanted = {**self._loaded_states(resumption), **self._sought(resumption)}
            fetched = await recovery.fetch(root, head if self.keeping.finds else None, wanted)
            cached = await recovery.fetch(root, root.head, self._cached_states)
            # Where sources continue has to be known for what they refuse.
            for stream, table in self._sought(resumption).items():
                if (frame := fetched.pop(stream, None)) is not None:
                    await anyio.to_thread.run_sync(table.load, frame)
            await self._check(resumption, clean=head is not None and head.ended_cleanly)
            new = {v.identity: n.sink for v, n in self.plan.sinks if resumption.sinks[v.identity].how == "new"}
            try:
                await root.claim(
                    mode=config.persistence_mode.name,
                    access=config.snapshot_access.name,
                    graph=self._entries(resumption),
                    sinks={identity: dict(sink.initial()) for identity, sink in new.items()},
                    takeover=self.takeover,
                    single_writer=config.backend.single_writer,
                )
            except ClaimContended:
                continue
            self._tell(resumption, head)
            return root, resumption, head, fetched, cached

    def _in_present_words(self, head: Manifest | None) -> Manifest | None:
        if head is None or not head.epoch:
            return head
        old = any("schema" not in entry for identity, entry in head.graph.items() if identity.startswith("source"))
        return recovery.in_present_words(head, self.old_plan(), self.plan) if old else head

    def _resume(self, head: Manifest | None, store: ObjectStore) -> Resumption:
        assert self.config is not None
        return resume(
            Situation(
                plan=self.plan,
                keeping=self.keeping,
                newest=head,
                stateful=self.dataflow.stateful,
                telling=self.dataflow.telling,
                graph_change=self.config.graph_change,
                schema_change=self.config.on_schema_change,
                where=store.describe(),
            )
        )

    def _tell(self, resumption: Resumption, head: Manifest | None) -> None:
        assert self.config is not None
        if resumption.changes:
            assert head is not None
            logger.warning("the graph has changed since epoch %d:\n  %s", head.epoch, "\n  ".join(resumption.changes))
        if resumption.empty:
            vertices = (self.plan.vertices[position].description for position in sorted(resumption.empty))
            names = ", ".join(dict.fromkeys(vertices))
            logger.warning(
                "persistence mode %s, access %s: state of operators is not kept, so these begin empty: %s",
                self.config.persistence_mode.name,
                self.config.snapshot_access.name,
                names,
            )
        if head is not None and head.access == "RECORD" and self.config.snapshot_access is SnapshotAccess.FULL:
            logger.warning("what was a recording is the state of this run from now on, and grows with it")
        named = any(node.name for _, node in self.plan.sources)
        if self.keeping.named_only and not named and self.caches is None:
            logger.warning(
                "persistence mode %s keeps named sources only, and none has a name=: nothing of them is kept",
                self.config.persistence_mode.name,
            )

    # What belongs to whom

    def _unseen(self, resumption: Resumption) -> list[str]:
        """The sources that go on where they were, while operators have seen nothing of what they gave."""
        if self.keeping.rebuilds or self.keeping.replay is not None:
            return []
        return [identity for identity, start in resumption.sources.items() if start.seeks]

    def _kept_states(self, resumption: Resumption) -> dict[str, State]:
        states: dict[str, State] = {}
        for position in sorted(resumption.keeps):
            states |= self.dataflow.states_of(position)
        for identity, start in resumption.sources.items():
            if start.keeps:
                states[f"offsets/{identity}"] = self.offsets[identity]
        return states

    def _loaded_states(self, resumption: Resumption) -> dict[str, State]:
        states: dict[str, State] = {}
        for position in sorted(resumption.loads):
            states |= self.dataflow.states_of(position)
        return states

    def _sought(self, resumption: Resumption) -> dict[str, OffsetTable]:
        starts = resumption.sources.items()
        return {f"offsets/{identity}": self.offsets[identity] for identity, start in starts if start.seeks}

    def _entries(self, resumption: Resumption) -> dict[str, dict[str, object]]:
        """The graph as a manifest of this run tells it."""
        entries = self.plan.entries()
        for position, vertex in enumerate(self.plan.vertices):
            if isinstance(vertex.node, SourceNode):
                entries[vertex.identity]["kept"] = resumption.sources[vertex.identity].keeps
            elif not isinstance(vertex.node, SinkNode):
                entries[vertex.identity]["kept"] = position in resumption.keeps or (
                    self.keeping.states and position not in self.dataflow.stateful
                )
        return entries

    def _snapshots(self, config: Config, root: Root, resumption: Resumption, head: Manifest | None) -> Snapshots:
        sources = resumption.sources
        continued = {*self._loaded_states(resumption)}
        for identity, start in sources.items():
            continued |= {f"offsets/{identity}"} if start.seeks and start.keeps else set()
            continued |= {f"log/{identity}"} if start.seeks and start.logs else set()
        streams = {} if head is None else {name: refs for name, refs in head.streams.items() if name in continued}
        return Snapshots(
            root,
            graph=self._entries(resumption),
            mode=config.persistence_mode.name,
            access=config.snapshot_access.name,
            streams=streams,
            rules={f"log/{identity}": start.rule for identity, start in sources.items()},
            facts={identity: start.facts for identity, start in sources.items() if start.logs},
            compression=config.compression,
            clock=self.clock,
            caches=self.caches,
        )

    def _logs(self, root: Root, resumption: Resumption, head: Manifest | None) -> dict[str, LogReader]:
        """The logs of what goes on where it was."""
        if head is None:
            return {}
        logs: dict[str, LogReader] = {}
        for identity, start in resumption.sources.items():
            refs = head.streams.get(f"log/{identity}")
            if refs and start.seeks:
                # Ids that only a part of it has were told to nobody who is still there.
                columns = tuple(name for name in start.rule.columns if name != ID or not start.identified)
                rule = replace(start.rule, columns=columns)
                logs[identity] = LogReader(refs, rule, root.get)
        return logs

    # What is refused

    async def _check(self, resumption: Resumption | None, *, clean: bool) -> None:
        """Lets sources and sinks refuse. `clean`: the run before wrote nothing that it did not commit."""
        if self.starts_sources:
            for vertex, source in self.plan.sources:
                keeps = resumption is not None and resumption.sources[vertex.identity].keeps
                await source.source.check(self.offsets[vertex.identity].current() or None, persistent=keeps)
        for vertex, node in self.plan.sinks:
            start = None if resumption is None else resumption.sinks[vertex.identity]
            if start is None or start.how == "anew":
                await node.sink.check(None, persistent=False)
            else:
                ended = clean and start.how == "continue"
                await node.sink.check(start.position, persistent=True, clean=ended)

    # What is opened

    async def _open_sinks(
        self, root: Root | None, resumption: Resumption | None, closing: AsyncExitStack
    ) -> dict[str, Outlet]:
        outlets: dict[str, Outlet] = {}
        for vertex, node in self.plan.sinks:
            start = None if resumption is None else resumption.sinks[vertex.identity]
            goes_on = start is not None and start.how != "anew"
            position = start.position if start is not None and goes_on else None
            writer = await node.sink.open(
                node.sink.initial() if goes_on and position is None else position,
                persistent=goes_on,
                exclusive=root is None or root.exclusive,
                disk=self.disk,
                clock=self.clock,
            )
            if root is not None:
                writer.guard = root.confirm
            closing.push_async_callback(writer.aclose)
            outlets[vertex.identity] = Outlet(writer, name=node.sink.identity, bound=_OUTLET_BYTES)
        return outlets

    async def _open_sources(self, resumption: Resumption | None, closing: AsyncExitStack) -> list[SourceReader]:
        readers: list[SourceReader] = []
        for vertex, node in self.plan.sources if self.starts_sources else ():
            reader = await node.source.open(
                self.offsets[vertex.identity].current() or None,
                identity=vertex.identity,
                needs=self._needs(vertex, node, resumption),
            )
            closing.push_async_callback(reader.aclose)
            readers.append(reader)
        return readers

    def _needs(self, vertex: Vertex, node: SourceNode, resumption: Resumption | None) -> Needs:
        parts = node.source.retracts_parts(persistent=self.config is not None)
        singly = resumption is None or not (
            resumption.sources[vertex.identity].facts.assigned or vertex.identity in self._unseen(resumption)
        )
        return Needs(ids=vertex.demands.ids, parts=parts, order=node.ordered, singly=singly)
