"""How sources begin: at the offsets that are kept or at their beginning, and what becomes of their logs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from asyncpersist.checkpoint.manifest import LogFacts
from asyncpersist.errors import GraphChanged, ModeChanged
from asyncpersist.graph.node import OperatorNode, SourceNode
from asyncpersist.graph.plan import Vertex, schema_of
from asyncpersist.runtime.log_rule import LogRule, rule_of
from asyncpersist.runtime.resuming.situation import Situation

__all__ = ["SourceStart", "pinned", "start_source"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStart:
    """How a source begins. `seeks`: at the offsets that are kept; else at its beginning.

    `keeps`: its offsets are kept on, and `logs`: its log is. `rule` says how, and how a log that there is is read;
    `facts` are of that log. `identified`: rows that are in it already have to be given ids first.
    """

    seeks: bool
    keeps: bool
    logs: bool
    rule: LogRule
    facts: LogFacts
    identified: bool = False


def start_source(situation: Situation, position: int) -> SourceStart:
    """How the source at `position` begins.

    Raises `GraphChanged` if its schema is another, `ModeChanged` if its log has a gap and what it gave may be needed.
    """
    vertex, keeping = situation.vertices[position], situation.keeping
    node = vertex.node
    assert isinstance(node, SourceNode)
    keeps = keeping.writes and (not keeping.named_only or position in situation.named)
    sought = keeps or not keeping.writes
    seeks = sought and _has_same_schema(situation, vertex, node) and bool(_entry(situation, vertex).get("kept"))
    whole = keeping.whole or pinned(situation, position)
    rule = rule_of(situation.plan, position, whole=whole, apart=_apart(situation) if seeks else 0)
    facts = situation.facts(vertex) if seeks else LogFacts()
    has_content = seeks and situation.was_read(vertex)
    by_parts = node.source.retracts_parts(persistent=True)
    if has_content and keeping.replay is not None:
        _refuse_gap(situation, vertex, facts, "replayed")
        _refuse_anonymous(situation, vertex, rule, facts)
    if not keeps or keeping.logs == "none" or (keeping.logs == "parts" and not by_parts):
        return SourceStart(seeks=seeks, keeps=keeps, logs=False, rule=rule, facts=LogFacts())
    if has_content and by_parts and keeping.states:
        _refuse_gap(situation, vertex, facts, "taken back, should one of its files change")
    lacks_ids = facts is not None and has_content and rule.identified and not facts.ids
    if lacks_ids and rule.kept == "whole":
        raise GraphChanged(
            f"{situation.where}: this graph asks for ids of the rows of {vertex.description} (a subscription, or a "
            "reducer such as argmin, argmax or tuple), which its log does not hold, and its history, which an operator "
            "of this graph needs, would be lost if it was written anew. Leave that out, or start anew with another "
            "directory. Nothing was changed."
        )
    if facts is None:
        facts = LogFacts(since=0 if situation.head is None else situation.head.epoch)
    facts = msgspec.structs.replace(facts, ids=rule.identified, assigned=facts.assigned or lacks_ids)
    return SourceStart(seeks=seeks, keeps=True, logs=True, rule=rule, facts=facts, identified=lacks_ids)


def pinned(situation: Situation, position: int) -> bool:
    """Whether an operator depends on the order of what the source at `position` gave, so that its history is kept."""
    return any(
        isinstance(vertex.node, OperatorNode) and vertex.node.order_dependent and position in vertex.sources
        for vertex in situation.vertices
    )


def _apart(situation: Situation) -> int:
    """The epoch up to which operators have not seen what the log holds, nor will see it."""
    keeping = situation.keeping
    sees = keeping.states or keeping.rebuilds or keeping.replay is not None
    return 0 if sees or situation.head is None else situation.head.epoch


def _entry(situation: Situation, vertex: Vertex) -> Mapping[str, Any]:
    return situation.before.get(vertex.identity, {})


def _has_same_schema(situation: Situation, vertex: Vertex, node: SourceNode) -> bool:
    """Whether a source, if it was there before, has the schema it had; False if it is to be read again."""
    before = _entry(situation, vertex) or _under_another_identity(situation, vertex)
    now = schema_of(node)
    if not before or before.get("schema") == now:
        return True
    if situation.schema_change == "reread" and situation.keeping.writes:
        return False
    told = _schema_differences(before.get("schema", {}), now)
    raise GraphChanged(
        f"{situation.where}: {vertex.description} has another schema than before ({told}), so that what was read of it "
        'cannot be replayed. Restore the schema; or say on_schema_change="reread", and it is read again from its '
        "beginning; or start anew with another directory. Nothing was changed."
    )


def _under_another_identity(situation: Situation, vertex: Vertex) -> Mapping[str, Any]:
    """A source without a name is another by its schema; what it reads tells that it is the same."""
    if vertex.node.name is not None:
        return {}
    gone = (entry for identity, entry in situation.before.items() if identity not in situation.now)
    return next((e for e in gone if e.get("kept") and "schema" in e and e["description"] == vertex.description), {})


def _refuse_gap(situation: Situation, vertex: Vertex, facts: LogFacts | None, what: str) -> None:
    if facts is None or facts.since:
        raise ModeChanged(
            f"{situation.where}: the log of {vertex.description} {situation.gap(facts)}, so that what was read of it "
            f"cannot be {what}. {situation.way_out}"
        )


def _refuse_anonymous(situation: Situation, vertex: Vertex, rule: LogRule, facts: LogFacts | None) -> None:
    if rule.identified and facts is not None and not facts.ids:
        raise GraphChanged(
            f"{situation.where}: the log of {vertex.description} holds no row ids, which this graph asks for (a "
            "subscription to its rows, or a reducer such as argmin, argmax or tuple). Leave that out, or record the "
            "source anew with this graph, which keeps them. Nothing was changed."
        )


def _schema_differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    old, new = dict(before.get("columns", [])), dict(after.get("columns", []))
    told = [
        *(f"without {name}" for name in old if name not in new),
        *(f"with {name}: {dtype}" for name, dtype in new.items() if name not in old),
        *(f"{name}: {new[name]} instead of {dtype}" for name, dtype in old.items() if new.get(name, dtype) != dtype),
    ]
    if before.get("key", []) != after["key"]:
        keys = [", ".join(schema.get("key", [])) or "none" for schema in (after, before)]
        told.append(f"primary key {keys[0]} instead of {keys[1]}")
    if not told and before.get("connector") != after.get("connector"):
        told = [f"another kind of source: {after.get('connector')} instead of {before.get('connector')}"]
    return ", ".join(told) or ("another order of columns" if before else "it was defined otherwise")
