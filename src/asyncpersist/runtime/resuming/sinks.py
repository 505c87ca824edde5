"""How sinks begin: where their readers were left, with all that is there, or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NoReturn

from asyncpersist.errors import OutputError
from asyncpersist.graph.node import SinkNode
from asyncpersist.graph.plan import Vertex
from asyncpersist.io.sink import Position
from asyncpersist.runtime.resuming.situation import Situation

__all__ = ["SinkStart", "start_sink"]


@dataclass(frozen=True, slots=True)
class SinkStart:
    """How a sink begins: it goes on at its position, is new and will go on, or starts anew in every run."""

    how: Literal["continue", "new", "anew"]
    position: Position | None = None


def start_sink(situation: Situation, position: int, *, told: bool) -> SinkStart:
    """How the sink at `position` begins; `told`: what it is given is what it was given before, and the rest of it.

    Raises `GraphChanged` or `ModeChanged` if its readers were told something else, `OutputError` if a replay would
    write over it.
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
            _refuse_contradiction(situation, vertex)
        # It may have been claimed by a run that committed nothing.
        return SinkStart("new", None if node.sink.overwrites else committed)
    if before["fingerprint"] == vertex.fingerprint and (told or not situation.keeping.rebuilds):
        return SinkStart("continue", committed)
    if not node.sink.overwrites:
        _refuse_contradiction(situation, vertex)
    return SinkStart("new")


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


def _refuse_contradiction(situation: Situation, vertex: Vertex) -> NoReturn:
    raise situation.refusal(
        f"{vertex.description} has told its readers something else than what it would be given now. Give it another "
        'place, where it starts with all that is there; or say on_restart="overwrite" where it is written, and a new '
        "output with all that is there replaces the old one; or restore the graph. Nothing was changed."
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
