"""How sinks begin: where their readers were left, with all that is there, or not at all."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from asyncpersist.errors import OutputError
from asyncpersist.graph.node import SinkNode
from asyncpersist.graph.plan import Vertex
from asyncpersist.io.sink import Position
from asyncpersist.runtime.resuming.situation import Situation

__all__ = ["SinkStart", "start_sinks"]


@dataclass(frozen=True, slots=True)
class SinkStart:
    """How a sink begins: it goes on at its position, is new and will go on, or starts anew in every run."""

    how: Literal["continue", "new", "anew"]
    position: Position | None = None


def _start_sink(situation: Situation, position: int, *, told: bool) -> SinkStart | None:
    """How the sink at `position` begins; `told`: what it is given is what it was given before, and the rest of it.

    None if its readers were told something else. Raises `OutputError` if a replay would write over it.
    """
    vertex = situation.vertices[position]
    node = vertex.node
    assert isinstance(node, SinkNode)
    if not _goes_on(situation, vertex):
        if situation.keeping.outputs == "none":
            _refuse_committed(situation, vertex, node)
        return SinkStart("anew")
    committed = situation.positions.get(vertex.identity)
    before = situation.before.get(vertex.identity)
    if situation.head is None:
        return SinkStart("new", committed)
    if before is None or committed is None:
        output = node.sink.output
        if output is not None and not node.sink.overwrites and _was_written(situation, output):
            return None
        # It may have been claimed by a run that committed nothing.
        return SinkStart("new", None if node.sink.overwrites else committed)
    # In this mode what is read again is given again, as everybody knows.
    told = told or situation.keeping.outputs == "reached"
    if before["fingerprint"] == vertex.fingerprint and told:
        return SinkStart("continue", committed)
    return SinkStart("new") if node.sink.overwrites else None


def start_sinks(situation: Situation, told: Collection[int]) -> dict[str, SinkStart]:
    """How all sinks begin, by identity; `told` are the positions of those whose input goes on from what it was.

    Raises `GraphChanged` or `ModeChanged`, which name those whose readers were told something else; `OutputError`.
    """
    starts = {
        vertex: _start_sink(situation, position, told=position in told) for position, vertex in situation.of(SinkNode)
    }
    contradicted = [vertex.description for vertex, start in starts.items() if start is None]
    if contradicted:
        raise situation.refusal(
            f"Readers of {', '.join(contradicted)} were told something else than what they would be given now. Give "
            'each another place, where it starts with all that is there; or say on_restart="overwrite" where it is '
            "written, for one run: then a new output with all that is there replaces the old one; or restore the "
            "graph. Nothing was changed."
        )
    return {vertex.identity: start for vertex, start in starts.items() if start is not None}


def _goes_on(situation: Situation, vertex: Vertex) -> bool:
    match situation.keeping.outputs:
        case "all":
            return True
        case "named":
            return vertex.sources <= situation.named
        case "reached":
            return bool(vertex.sources & situation.named)
        case _:
            return False


def _was_written(situation: Situation, output: str) -> bool:
    """Whether a sink that is not in the graph any more wrote there."""
    return any(
        entry.get("output") == output and identity in situation.positions
        for identity, entry in situation.before.items()
        if identity not in situation.now
    )


def _refuse_committed(situation: Situation, vertex: Vertex, node: SinkNode) -> None:
    output = node.sink.output
    for identity, entry in situation.before.items():
        if output is None or identity not in situation.positions:
            continue
        if entry.get("output") == output or ("output" not in entry and entry["description"] == vertex.description):
            raise OutputError(
                f"{output} belongs to the runs whose state is in {situation.where}, so that a replay may not write "
                "there. Give the output another path."
            )
