"""From a graph to a plan: an order, an identity for every node, and what is asked of each operator.

Identity: a node is known by its `name=`, else by its definition and those of its inputs, with an ordinal only between
identical ones, in the order in which they were defined. So renaming a variable or reordering definitions changes
nothing. What writes to another path is another output. A fingerprint says whether a node computes the same from the
same: of a source with a name only what kind it is and its schema are part of it, so that its files may move.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from asyncpersist.errors import GraphError
from asyncpersist.graph.context import Graph
from asyncpersist.graph.node import Demands, Node, OperatorNode, SinkNode, SourceNode

__all__ = ["Plan", "Vertex", "differences", "ids_asked_for", "plan_graph", "schema_of"]


@dataclass(frozen=True, slots=True)
class Vertex:
    """A node in its place. `inputs` are positions in the plan's order; `description` is for people.

    `sources`: the positions of the sources that it is computed from; of a source, its own.
    """

    node: Node
    identity: str
    fingerprint: str
    inputs: tuple[int, ...]
    sources: frozenset[int]
    demands: Demands

    @property
    def description(self) -> str:
        definition = self.node.definition
        where = definition.get("path") or definition.get("output") or definition.get("functions")
        label = self.node.kind if self.node.name is None else f"{self.node.kind} {self.node.name!r}"
        if where is None and isinstance(self.node, OperatorNode):
            where = ", ".join(self.node.columns)
        return f"{label} ({where})" if where else label


@dataclass(frozen=True, slots=True)
class Plan:
    """The vertices in an order in which inputs come first."""

    vertices: tuple[Vertex, ...]

    @property
    def sources(self) -> list[tuple[Vertex, SourceNode]]:
        """The sources, in order."""
        return [(vertex, vertex.node) for vertex in self.vertices if isinstance(vertex.node, SourceNode)]

    @property
    def sinks(self) -> list[tuple[Vertex, SinkNode]]:
        """The sinks, in order."""
        return [(vertex, vertex.node) for vertex in self.vertices if isinstance(vertex.node, SinkNode)]

    def entries(self) -> dict[str, dict[str, Any]]:
        """What a manifest keeps of the graph: by identity, the fingerprint, a description, and what tells changes."""
        return {vertex.identity: _entry(vertex) for vertex in self.vertices}


def plan_graph(
    graph: Graph, *, persistent: bool, kept: bool = False, identified: bool = False, rules: Literal[1, 2] = 2
) -> Plan:
    """The plan of a graph, for runs with a state root or without. `kept`: state of operators is kept there.

    `identified`: sources give ids although nothing in this graph asks for them, where that takes nothing away. `rules`:
    by which fingerprints are made; 1 are those of manifests of format 1, in which the whole definition of a named
    source counts. Raises `GraphError` for a graph without sinks and for a name given twice.
    """
    if not graph.sinks:
        raise GraphError(
            "the graph has no output, so there is nothing to run: write a table somewhere, "
            "e.g. io.csv.write(table, 'out.csv'), inside the same `with Graph()` block"
        )
    order = _topological(graph.sinks)
    positions = {id(node): i for i, node in enumerate(order)}
    inputs = [tuple(positions[id(parent)] for parent in node.inputs) for node in order]
    fingerprints = _fingerprints(order, inputs, persistent, rules)
    identities = _identities(order, fingerprints, rules)
    sources = _sources(order, inputs)
    demands = _demands(order, inputs, persistent, kept, identified)
    return Plan(tuple(map(Vertex, order, identities, fingerprints, inputs, sources, demands)))


def ids_asked_for(plan: Plan, by: Collection[str]) -> frozenset[str]:
    """The sources whose rows need ids for the sake of some nodes, all by identity."""
    asked = [False] * len(plan.vertices)
    for position in range(len(plan.vertices) - 1, -1, -1):
        vertex = plan.vertices[position]
        if vertex.identity in by:
            for parent, want in zip(vertex.inputs, _asks(vertex.node, asked[position]), strict=True):
                asked[parent] = asked[parent] or want
    return frozenset(v.identity for v, want in zip(plan.vertices, asked, strict=True) if want)


def differences(before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One line for each node added, removed or changed between two graphs' `entries()`; empty if equal.

    Changed is also what without a name has the same description: its definition differs, or what it is computed from.
    """
    removed = Counter(node["description"] for i, node in before.items() if i not in after)
    added = Counter(node["description"] for i, node in after.items() if i not in before)
    changed = removed & added
    changed.update(
        after[i]["description"] for i in after if i in before and before[i]["fingerprint"] != after[i]["fingerprint"]
    )
    return [
        *(f"removed: {description}" for description in (removed - added).elements()),
        *(f"added: {description}" for description in (added - removed).elements()),
        *(f"changed, itself or what it is computed from: {description}" for description in changed.elements()),
    ]


def _topological(sinks: Iterable[SinkNode]) -> list[Node]:
    order: list[Node] = []
    seen: set[int] = set()
    stack: list[tuple[Node, bool]] = [(sink, False) for sink in reversed(list(sinks))]
    while stack:
        node, expanded = stack.pop()
        if expanded:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((parent, False) for parent in reversed(node.inputs))
    return order


def _entry(vertex: Vertex) -> dict[str, Any]:
    node = vertex.node
    entry: dict[str, Any] = {"fingerprint": vertex.fingerprint, "description": vertex.description}
    if isinstance(node, SourceNode):
        entry["schema"] = schema_of(node)
    elif isinstance(node, SinkNode) and node.sink.output is not None:
        entry["output"] = node.sink.output
    return entry


def schema_of(node: SourceNode) -> dict[str, Any]:
    """What has to stay for the log of a source to be of use: its kind, its columns and key, whether order is kept."""
    columns = [[name, str(dtype)] for name, dtype in node.columns.items()]
    connector = str(node.definition.get("connector", ""))
    return {"connector": connector, "columns": columns, "key": list(node.key), "ordered": node.ordered}


def _sources(order: list[Node], inputs: list[tuple[int, ...]]) -> list[frozenset[int]]:
    result: list[frozenset[int]] = []
    for position, (node, parents) in enumerate(zip(order, inputs, strict=True)):
        own = {position} if isinstance(node, SourceNode) else set()
        result.append(frozenset(own.union(*(result[parent] for parent in parents))))
    return result


def _fingerprints(
    order: list[Node], inputs: list[tuple[int, ...]], persistent: bool, rules: Literal[1, 2]
) -> list[str]:
    result: list[str] = []
    for node, parents in zip(order, inputs, strict=True):
        # Whether rows can be taken back decides what operators below keep, so it is part of what a source is.
        retracting = isinstance(node, SourceNode) and node.source.retracts(persistent=persistent)
        definition: Any = node.definition
        if isinstance(node, SourceNode) and rules > 1:
            definition = schema_of(node) if node.name is not None else [node.definition, schema_of(node)]
        form = [node.kind, node.name, definition, retracting, [result[parent] for parent in parents]]
        canonical = msgspec.json.encode(form, order="sorted")
        result.append(hashlib.sha256(canonical).hexdigest()[:32])
    return result


def _identities(order: list[Node], fingerprints: list[str], rules: Literal[1, 2]) -> list[str]:
    named = Counter((node.kind, node.name) for node in order if node.name is not None)
    for (kind, name), count in named.items():
        if count > 1:
            raise GraphError(f"the name {name!r} is given to {count} different {kind}s; names must be unique")
    alike: dict[str, list[int]] = {}
    for node, fingerprint in sorted(zip(order, fingerprints, strict=True), key=lambda pair: pair[0].number):
        alike.setdefault(fingerprint, []).append(node.number)
    identities = []
    for node, fingerprint in zip(order, fingerprints, strict=True):
        if node.name is not None:
            path = node.definition.get("path") if rules > 1 and isinstance(node, SinkNode) else None
            identities.append(f"{node.kind}.{node.name}" + (f" ({path})" if path else ""))
            continue
        ordinal = alike[fingerprint].index(node.number)
        identities.append(f"{node.kind}-{fingerprint}" + (f"-{ordinal}" if ordinal else ""))
    return identities


def _asks(node: Node, ids: bool) -> tuple[bool, ...]:
    """For each input of a node, whether it needs ids; `ids`: its output has to have them."""
    if isinstance(node, OperatorNode):
        return node.input_ids(ids)
    return (node.sink.needs_ids,) if isinstance(node, SinkNode) else ()


def _demands(
    order: list[Node], inputs: list[tuple[int, ...]], persistent: bool, kept: bool, identified: bool
) -> list[Demands]:
    # With ids, a source whose single rows are removed by their values could not take them back.
    ids = [identified and isinstance(node, SourceNode) and node.source.remover is None for node in order]
    for position in range(len(order) - 1, -1, -1):
        for parent, want in zip(inputs[position], _asks(order[position], ids[position]), strict=True):
            ids[parent] = ids[parent] or want
    appends: list[bool] = []
    demands: list[Demands] = []
    for position, node in enumerate(order):
        inputs_append = all(appends[parent] for parent in inputs[position])
        if isinstance(node, SourceNode):
            appends.append(not node.source.retracts(persistent=persistent))
        else:
            appends.append(isinstance(node, OperatorNode) and node.keeps_append_only and inputs_append)
        demands.append(Demands(ids=ids[position], append_only=inputs_append, kept=kept))
    return demands
