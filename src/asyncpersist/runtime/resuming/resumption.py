"""What a run does with what earlier runs left in its root: decided from facts, before anything is changed.

A node goes on where it was if the newest manifest holds it as of its own epoch: of a source that is where it continues,
of an operator its state, of a sink its position. An operator with no such state is *filled*: in one epoch it is given
the present output of the nearest nodes above it that go on, told from their state or from the log of a source. So is a
sink that nobody has read yet. What cannot be filled, or would contradict what readers were told, is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from asyncpersist.errors import GraphChanged, GraphError
from asyncpersist.graph.node import OperatorNode, SinkNode, SourceNode
from asyncpersist.runtime.resuming.sinks import SinkStart, start_sinks
from asyncpersist.runtime.resuming.situation import Situation
from asyncpersist.runtime.resuming.sources import SourceStart, start_source

__all__ = ["Resumption", "resume"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption:
    """The decision; ints are positions in the plan.

    `loads`: operators whose state is loaded; `keeps`: those whose state is kept on. `filled`: what is stepped when the
    run begins, for the sake of what has no state (what is loaded only tells once more what it made of its input);
    `given`: operators whose present output goes into that, `read`: sources whose logs do, by identity. `empty`:
    operators that begin without what was there before. `changes`: what differs in the graph.
    """

    sources: Mapping[str, SourceStart]
    sinks: Mapping[str, SinkStart]
    loads: frozenset[int]
    keeps: frozenset[int]
    filled: frozenset[int] = frozenset()
    given: frozenset[int] = frozenset()
    read: frozenset[str] = frozenset()
    empty: frozenset[int] = frozenset()
    changes: tuple[str, ...] = ()

    @property
    def identifies(self) -> bool:
        """Whether rows in some log have to be given ids first."""
        return any(start.identified for start in self.sources.values())


def resume(situation: Situation) -> Resumption:
    """The decision for a situation.

    Raises `GraphError` for a graph that does not go with the mode; `GraphChanged`, `ModeChanged` and `OutputError` for
    what is refused, which say what would help.
    """
    _refuse_names(situation)
    _refuse_nothing_to_record(situation)
    changes = _allowed_changes(situation)
    sources = {vertex.identity: start_source(situation, position) for position, vertex in situation.of(SourceNode)}
    keeps = frozenset(position for position in situation.stateful if _keeps_state(situation, position))
    loads = frozenset(position for position in keeps if situation.goes_on(situation.vertices[position]))
    fresh = frozenset(p for p in situation.stateful - loads if _has_content(situation, p, sources))
    made = Resumption(sources=sources, sinks={}, loads=loads, keeps=keeps, changes=changes)
    if situation.keeping.rebuilds:
        # What cannot be filled is the reason why, and says what would help, before what is behind it does.
        _filling(situation, made, fresh)
    sinks = start_sinks(situation, _told(situation, fresh, sources))
    made = replace(made, sinks=sinks)
    if situation.keeping.rebuilds:
        untold = {
            position
            for position, vertex in situation.of(SinkNode)
            if sinks[vertex.identity].how != "continue" and _has_content(situation, position, sources)
        }
        return _filling(situation, made, fresh | untold)
    return made if situation.keeping.replay is not None else replace(made, empty=fresh)


def _refuse_names(situation: Situation) -> None:
    if not (situation.keeping.named_only and situation.keeping.states):
        return
    for _, vertex in situation.of(OperatorNode):
        if vertex.node.name is not None and (unnamed := sorted(vertex.sources - situation.named)):
            raise GraphError(
                f"{vertex.description} has a name, but {situation.vertices[unnamed[0]].description} above it has none: "
                "SELECTIVE_PERSISTING keeps state only of what is computed from named sources. Give that source a "
                "name=, or take the name from the operator."
            )


def _refuse_nothing_to_record(situation: Situation) -> None:
    keeping = situation.keeping
    if keeping.writes and not keeping.finds and keeping.named_only and not situation.named:
        raise GraphError(
            "nothing would be recorded: this mode keeps named sources only, and no source has a name=. Name those that "
            "are to be recorded, or record with PersistenceMode.PERSISTING, which keeps all."
        )


def _allowed_changes(situation: Situation) -> tuple[str, ...]:
    """What differs in the graph, where that matters. Raises `GraphChanged` where that is not wanted."""
    if situation.keeping.replay is not None:
        return ()
    if situation.differences and situation.graph_change == "reject":
        raise GraphChanged(
            f'{situation.changed()}Restore the graph; or say on_graph_change="replay", and what is new is given what '
            "is there; or start anew with another directory (and other output files). Nothing was changed."
        )
    return situation.differences


def _keeps_state(situation: Situation, position: int) -> bool:
    keeping = situation.keeping
    return keeping.states and (not keeping.named_only or situation.vertices[position].sources <= situation.named)


def _has_content(situation: Situation, position: int, sources: Mapping[str, SourceStart]) -> bool:
    """Whether sources above have given rows that they will not give again."""
    above = (situation.vertices[source] for source in situation.vertices[position].sources)
    return any(sources[vertex.identity].seeks and situation.was_read(vertex) for vertex in above)


def _told(situation: Situation, fresh: Collection[int], sources: Mapping[str, SourceStart]) -> frozenset[int]:
    """The nodes whose output goes on from what it was: neither they nor anything above is fresh, or begins anew."""
    told: set[int] = set()
    for position, vertex in enumerate(situation.vertices):
        if isinstance(vertex.node, SourceNode):
            anew = vertex.identity in situation.before and not sources[vertex.identity].seeks
        else:
            anew = position in fresh and situation.keeping.rebuilds
        if not anew and told.issuperset(vertex.inputs):
            told.add(position)
    return frozenset(told)


def _filling(situation: Situation, made: Resumption, wanted: Collection[int]) -> Resumption:
    """What has to be stepped, and given, so that all that is `wanted` is filled."""
    filled, given, read = set(wanted), set[int](), set[str]()
    todo = list(wanted)
    while todo:
        position = todo.pop()
        for parent in situation.vertices[position].inputs:
            above = situation.vertices[parent]
            if isinstance(above.node, SourceNode):
                if _has_content(situation, parent, made.sources):
                    _refuse_unfillable(situation, position, parent)
                    read.add(above.identity)
            elif parent in made.loads & situation.telling:
                given.add(parent)
            elif parent not in filled:
                filled.add(parent)
                todo.append(parent)
    _refuse_lost_history(situation, sorted(filled), read, given)
    return replace(made, filled=frozenset(filled), given=frozenset(given), read=frozenset(read))


def _refuse_unfillable(situation: Situation, position: int, parent: int) -> None:
    vertex, source = situation.vertices[position], situation.vertices[parent]
    assert situation.head is not None
    facts = situation.facts(source)
    if facts is None or facts.since:
        raise situation.refusal(
            f"{vertex.description} has no state of epoch {situation.head.epoch} and cannot be filled: the log of "
            f"{source.description} {situation.gap(facts)}. {situation.way_out}"
        )


def _refuse_lost_history(
    situation: Situation, filled: Sequence[int], read: Collection[str], given: Collection[int]
) -> None:
    """Refuses to fill what depends on the order of arrival from a log, or from state, that does not tell it."""
    above: dict[int, frozenset[int]] = {}
    for position, vertex in enumerate(situation.vertices):
        if vertex.identity in read or position in given:
            above[position] = frozenset({position})
        elif position in filled:
            above[position] = frozenset().union(*(above.get(parent, ()) for parent in vertex.inputs))
    for position in filled:
        vertex = situation.vertices[position]
        if not (isinstance(vertex.node, OperatorNode) and vertex.node.order_dependent):
            continue
        for source in (situation.vertices[number] for number in above[position]):
            assert situation.head is not None
            if not isinstance(source.node, SourceNode):
                raise situation.refusal(
                    f"{vertex.description} depends on the order of arrival, which the state of {source.description} "
                    f"does not tell. {situation.way_out}"
                )
            if any(ref.compacted for ref in situation.head.streams.get(f"log/{source.identity}", ())):
                raise situation.refusal(
                    f"{vertex.description} depends on the order of arrival, and the history of {source.description} is "
                    f"gone: its log was compacted while nothing needed it. {situation.way_out}"
                )
