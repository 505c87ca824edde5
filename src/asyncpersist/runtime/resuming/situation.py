"""What is known when a run begins: its plan, what it is to keep, and the newest manifest of its root."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from asyncpersist.checkpoint.manifest import LogFacts, Manifest
from asyncpersist.errors import GraphChanged, ModeChanged
from asyncpersist.graph.node import Node, SourceNode
from asyncpersist.graph.plan import Plan, Vertex, differences
from asyncpersist.io.sink import Position
from asyncpersist.persistence.keeping import Keeping

__all__ = ["Situation"]


@dataclass(frozen=True, kw_only=True)
class Situation:
    """Facts, and nothing decided yet.

    `newest` is the newest manifest of the root `where`, None if there is none; `stateful` are the positions of
    operators with states, `telling` those whose output is told from it. `graph_change` and `schema_change` are the
    user's wishes.
    """

    plan: Plan
    keeping: Keeping
    newest: Manifest | None
    stateful: frozenset[int]
    telling: frozenset[int]
    graph_change: Literal["replay", "reject"]
    schema_change: Literal["reject", "reread"]
    where: str

    @property
    def vertices(self) -> tuple[Vertex, ...]:
        return self.plan.vertices

    @cached_property
    def head(self) -> Manifest | None:
        """The newest manifest, if it holds anything that counts for this run."""
        return self.newest if self.newest is not None and self.newest.epoch and self.keeping.finds else None

    @cached_property
    def before(self) -> Mapping[str, Mapping[str, Any]]:
        """The graph that the head was written by, as `Plan.entries`, and of each node whether it is `kept` there."""
        return {} if self.head is None else self.head.graph

    @cached_property
    def now(self) -> Mapping[str, Mapping[str, Any]]:
        """The graph of this run."""
        return self.plan.entries()

    @cached_property
    def positions(self) -> Mapping[str, Position]:
        """The positions of sinks that the root holds; before anything was stepped, where new ones begin."""
        return {} if self.newest is None or not self.keeping.finds else self.newest.sinks

    @cached_property
    def named(self) -> frozenset[int]:
        """The sources that have a name."""
        return frozenset(p for p, vertex in self.of(SourceNode) if vertex.node.name is not None)

    @cached_property
    def differences(self) -> tuple[str, ...]:
        """What differs between the two graphs, a line each; nothing if there was none before."""
        return () if self.head is None else tuple(differences(self.before, self.now))

    def of(self, kind: type[Node]) -> Iterable[tuple[int, Vertex]]:
        """The vertices of a kind, with their positions."""
        return [(p, vertex) for p, vertex in enumerate(self.vertices) if isinstance(vertex.node, kind)]

    def was_read(self, vertex: Vertex) -> bool:
        """Whether the head says where a source continues."""
        return self.head is not None and f"offsets/{vertex.identity}" in self.head.streams

    def facts(self, vertex: Vertex) -> LogFacts | None:
        """What is known of the log of a source; None if something was read of it that no log holds."""
        if self.head is None or not self.was_read(vertex):
            return LogFacts(ids=vertex.demands.ids)
        return self.head.logs.get(vertex.identity)

    def goes_on(self, vertex: Vertex) -> bool:
        """Whether the head holds what an operator or a source was left with, and it is still the same one."""
        entry = self.before.get(vertex.identity)
        return entry is not None and entry["fingerprint"] == vertex.fingerprint and bool(entry.get("kept"))

    # Messages

    def changed(self) -> str:
        """How a message about a changed graph begins."""
        return f"the graph is not the one that {self.where} was written by:\n  " + "\n  ".join(self.differences) + "\n"

    def refusal(self, why: str) -> GraphChanged | ModeChanged:
        """The error that refuses what was changed since the head: the graph, or else the mode."""
        if self.differences or self.head is None:
            return GraphChanged(f"{self.changed()}{why}")
        return ModeChanged(
            f"{self.where}: the last run was in mode {self.head.mode} with access {self.head.access}, which left out "
            f"state that this one is to go on with. {why}"
        )

    def gap(self, facts: LogFacts | None) -> str:
        """What is wrong with a log that does not go back to its source's beginning."""
        assert self.head is not None
        if facts is None:
            return f"is not kept (the last run was in mode {self.head.mode} with access {self.head.access})"
        return f"holds only what came after epoch {facts.since}, as a run before kept none"

    @property
    def way_out(self) -> str:
        """What can be done about it."""
        return (
            f"Go back to an older snapshot that has it (`asyncpersist snapshots {self.where}`, then `asyncpersist "
            f"restore {self.where} --to NUMBER`), or start anew with another directory and other output files. "
            "Nothing was changed."
        )
