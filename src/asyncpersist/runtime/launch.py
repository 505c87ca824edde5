"""How a run begins: what can be refused is refused by reading alone, then the root is claimed, then all is opened."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

import anyio.to_thread
import polars as pl

from asyncpersist.checkpoint.manifest import Manifest
from asyncpersist.checkpoint.protocol import ClaimContended
from asyncpersist.checkpoint.root import Root
from asyncpersist.clock import Clock
from asyncpersist.columnar.delta import ID, ORDER, PART
from asyncpersist.columnar.state import State
from asyncpersist.disk import Disk
from asyncpersist.errors import GraphError, OutputError, StateError
from asyncpersist.graph.node import SourceNode
from asyncpersist.graph.plan import Plan, Vertex
from asyncpersist.io.source import Needs, SourceReader
from asyncpersist.objectstore.contract import ObjectStore
from asyncpersist.persistence import Config
from asyncpersist.runtime import recovery
from asyncpersist.runtime.log_rule import LogRule
from asyncpersist.runtime.offsets import OffsetTable
from asyncpersist.runtime.outlet import Outlet
from asyncpersist.runtime.snapshots import Snapshots

__all__ = ["Launch", "Launched"]

_STATE_FILES = ("asyncpersist.json", "manifests/1.json", "objects/1.arrow")
"""What lies in a state directory, by example."""
_OUTLET_BYTES = 64 << 20
"""Bound on stepped but unwritten output, per sink."""


@dataclass(frozen=True, slots=True)
class Launched:
    """A run that is open. Without persistence there is no root, nothing to take snapshots with, and no head."""

    root: Root | None
    snapshots: Snapshots | None
    head: Manifest | None
    readers: list[SourceReader]
    outlets: dict[str, Outlet]


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What a run is made of: `states` by stream, `offsets` by source; both empty, to be filled."""

    plan: Plan
    config: Config | None
    states: Mapping[str, State]
    offsets: Mapping[str, OffsetTable]
    takeover: bool
    disk: Disk
    clock: Clock

    @property
    def rules(self) -> dict[str, LogRule]:
        """By stream, how the log of each source is kept."""
        persistent = self.config is not None
        return {f"log/{v.identity}": _rule(v, node, persistent=persistent) for v, node in self.plan.sources}

    async def open(self, closing: AsyncExitStack) -> Launched:
        """Checks, claims, fills the state and opens sinks and sources; what is to be closed is pushed on `closing`.

        Raises what recovery raises. Nothing is changed on any disk unless everything could be claimed.
        """
        await self._refuse_shared_outputs()
        await self._refuse_letters_as_input()
        await self._refuse_state_as_input()
        if self.config is None:
            await self._check(None)
            outlets = await self._open_sinks(None, None, closing)
            return Launched(None, None, None, await self._open_sources(closing), outlets)
        self.config.refuse_unbuilt()
        store = await anyio.to_thread.run_sync(self.config.backend.open_store, self.disk)
        if self.config.backend.owns_store:
            closing.push_async_callback(store.aclose)
        root, fetched = await self._claim(self.config, store)
        closing.callback(root.abandon)
        snapshots = Snapshots(
            root,
            graph=self.plan.fingerprints(),
            rules=self.rules,
            compression=self.config.compression,
            clock=self.clock,
        )
        closing.push_async_callback(snapshots.give_up)
        head = root.head
        assert head is not None
        await recovery.fill(self.states, fetched)
        try:
            outlets = await self._open_sinks(root, head, closing)
        except (OSError, OutputError) as exc:
            reason = await recovery.reason(root, exc)
            if reason is exc:
                raise
            raise reason from exc
        return Launched(root, snapshots, head, await self._open_sources(closing), outlets)

    async def _claim(self, config: Config, store: ObjectStore) -> tuple[Root, dict[str, pl.DataFrame]]:
        """The root, claimed, and what its head holds."""
        while True:
            root = await Root.open(
                store, clock=self.clock, retain_snapshots=config.retain_snapshots, retain_for=config.retain_for
            )
            head = root.head
            if head is not None and head.epoch:
                recovery.refuse(head, config, self.plan, store.describe())
            await root.check(takeover=self.takeover)
            fetched = await recovery.fetch(root, self.states)
            for identity, table in self.offsets.items():
                if (frame := fetched.pop(f"offsets/{identity}", None)) is not None:
                    await anyio.to_thread.run_sync(table.load, frame)
            await self._check(head)
            known = head.sinks if head else {}
            new = {v.identity: node.sink for v, node in self.plan.sinks if v.identity not in known}
            try:
                await root.claim(
                    mode=config.persistence_mode.name,
                    access=config.snapshot_access.name,
                    graph=self.plan.fingerprints(),
                    sinks={identity: dict(sink.initial()) for identity, sink in new.items()},
                    takeover=self.takeover,
                    single_writer=config.backend.single_writer,
                )
            except ClaimContended:
                continue
            return root, fetched

    async def _refuse_shared_outputs(self) -> None:
        seen: set[str] = set()
        for _, node in self.plan.sinks:
            if node.sink.identity in seen:
                raise GraphError(f"two outputs of this graph write to {node.sink.identity}; give each its own")
            seen.add(node.sink.identity)
            for vertex, source in self.plan.sources:
                if await source.source.reads(node.sink.written_file):
                    raise GraphError(
                        f"the output {node.sink.identity} lies where {vertex.description} would take it for input; "
                        "write it somewhere else"
                    )

    async def _refuse_letters_as_input(self) -> None:
        for writing, node in self.plan.sources:
            letters = node.source.dead_letters
            if letters is None:
                continue
            path = await anyio.to_thread.run_sync(os.path.realpath, letters)
            for reading, other in self.plan.sources:
                if other is not node and await other.source.reads(path):
                    raise GraphError(
                        f"{writing.description} keeps its dead letters in {letters!r}, which {reading.description} "
                        "would take for input; name a file somewhere else"
                    )

    async def _refuse_state_as_input(self) -> None:
        directory = None if self.config is None else self.config.backend.fs_path
        if directory is None:
            return
        root = await anyio.to_thread.run_sync(os.path.realpath, directory)
        for vertex, source in self.plan.sources:
            for name in _STATE_FILES:
                if await source.source.reads(os.path.join(root, name)):
                    raise StateError(
                        f"the state directory {root} lies within what {vertex.description} reads, so that state would "
                        "be taken for input; name another directory for the state"
                    )

    async def _check(self, head: Manifest | None) -> None:
        for vertex, source in self.plan.sources:
            await source.source.check(
                self.offsets[vertex.identity].current() or None, persistent=self.config is not None
            )
        for vertex, sink in self.plan.sinks:
            position = head.sinks.get(vertex.identity) if head else None
            clean = head is not None and head.ended_cleanly
            await sink.sink.check(position, persistent=self.config is not None, clean=clean)

    async def _open_sinks(self, root: Root | None, head: Manifest | None, closing: AsyncExitStack) -> dict[str, Outlet]:
        outlets: dict[str, Outlet] = {}
        for vertex, sink in self.plan.sinks:
            writer = await sink.sink.open(
                head.sinks[vertex.identity] if head else None,
                persistent=head is not None,
                exclusive=root is None or root.exclusive,
                disk=self.disk,
                clock=self.clock,
            )
            if root is not None:
                writer.guard = root.confirm
            closing.push_async_callback(writer.aclose)
            outlets[vertex.identity] = Outlet(writer, name=sink.sink.identity, bound=_OUTLET_BYTES)
        return outlets

    async def _open_sources(self, closing: AsyncExitStack) -> list[SourceReader]:
        readers: list[SourceReader] = []
        for vertex, source in self.plan.sources:
            reader = await source.source.open(
                self.offsets[vertex.identity].current() or None,
                identity=vertex.identity,
                needs=Needs(
                    ids=vertex.demands.ids,
                    parts=source.source.retracts_parts(persistent=self.config is not None),
                    order=source.ordered,
                ),
            )
            closing.push_async_callback(reader.aclose)
            readers.append(reader)
        return readers


def _rule(vertex: Vertex, node: SourceNode, *, persistent: bool) -> LogRule:
    columns = list(node.columns)
    if vertex.demands.ids:
        columns.append(ID)
    if node.source.retracts_parts(persistent=persistent):
        columns.append(PART)
    if node.ordered:
        columns.append(ORDER)
    return LogRule(tuple(columns))
