"""`asyncpersist inspect`: what a state holds, and the rows of one operator."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

import typer

from asyncpersist.checkpoint.manifest import Manifest
from asyncpersist.checkpoint.root import Root
from asyncpersist.cli.at_rest import at_rest
from asyncpersist.cli.history import read_history
from asyncpersist.cli.printing import AsJson, State, describe, epoch_utc, say, say_json, table
from asyncpersist.cli.state_location import open_state
from asyncpersist.cli.state_rows import owner_and_name, plain_rows, read_rows
from asyncpersist.errors import DamagedState, StateError

__all__ = ["inspect"]


def inspect(
    state: State,
    operator: Annotated[
        str | None,
        typer.Argument(metavar="OPERATOR", help="An identity, or how one begins: show its rows.", show_default=False),
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="POINT", help="An older snapshot, by its number or name.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many rows of each piece of state are shown.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show what the newest snapshot keeps, or an older one, or the rows that it keeps for one operator."""
    asyncio.run(_inspect(state, operator, at, limit, as_json))


async def _inspect(state: str, operator: str | None, at: str | None, limit: int, as_json: bool) -> None:
    async def look(root: Root, head: Manifest) -> dict[str, Any]:
        return await (_overview(root, head) if operator is None else _rows_of(root, head, operator, limit))

    async with open_state(state) as store:
        if at is None:
            facts = await at_rest(store, look)
        else:
            history = await read_history(store)
            try:
                facts = await look(history.root(), history.find(at))
            except DamagedState:
                # If a running owner has deleted it meanwhile, that is what to say.
                (await read_history(store)).find(at)
                raise
    if as_json:
        say_json(facts)
    elif operator is None:
        _tell_overview(facts)
    else:
        _tell_rows(facts, limit)


def _head(root: Root, head: Manifest) -> dict[str, Any]:
    return {
        "state": root.store.describe(),
        "sequence": head.sequence,
        "kind": head.kind,
        "epoch": head.epoch,
        "epoch_utc": epoch_utc(head.epoch),
        "mode": head.mode,
        "access": head.access,
        "rows_read": head.progress.get("rows", 0),
        "snapshot": describe(head),
    }


async def _overview(root: Root, head: Manifest) -> dict[str, Any]:
    partitions = {}
    for identity in head.graph:
        if refs := head.streams.get(f"offsets/{identity}"):
            partitions[identity] = (await read_rows(root, "offsets", refs))[1].height
        elif _kind(identity) == "source":
            partitions[identity] = 0
    return {
        **_head(root, head),
        "streams": [
            {
                "stream": stream,
                "objects": len(refs),
                "bytes": sum(ref.length for ref in refs),
                "rows": sum(ref.rows for ref in refs),
            }
            for stream, refs in sorted(head.streams.items())
        ],
        "sources": [
            {"identity": identity, "description": _description(head, identity), "partitions": count}
            for identity, count in partitions.items()
        ],
        "operators": [
            {"identity": identity, "description": _description(head, identity)}
            for identity in head.graph
            if identity not in partitions and identity not in head.sinks
        ],
        "sinks": [
            {"identity": identity, "description": _description(head, identity), "position": dict(position)}
            for identity, position in head.sinks.items()
        ],
        "caches": [
            {
                "stream": stream,
                "function": facts.function,
                "cache": facts.cache,
                "hits": facts.hits,
                "calls": facts.calls,
            }
            for stream, facts in sorted(head.caches.items())
        ],
    }


async def _rows_of(root: Root, head: Manifest, operator: str, limit: int) -> dict[str, Any]:
    identity = _choose(root, head, operator)
    states = []
    for stream, refs in sorted(head.streams.items()):
        owner, name = owner_and_name(stream, list(head.graph))
        if owner == identity and name not in ("log", "cache") and refs:
            key, rows = await read_rows(root, name, refs)
            shown = await asyncio.to_thread(plain_rows, rows.head(limit))
            states.append({"name": name, "key": key, "columns": rows.columns, "rows": rows.height, "first": shown})
    return {
        **_head(root, head),
        "identity": identity,
        "description": _description(head, identity),
        "position": head.sinks.get(identity),
        "states": states,
    }


def _choose(root: Root, head: Manifest, operator: str) -> str:
    """The identity that is `operator` or begins so. Raises `StateError` if there is none, or are several."""
    if operator in head.graph:
        return operator
    found = [identity for identity in head.graph if identity.startswith(operator)]
    if len(found) == 1:
        return found[0]
    which = f"several that begin with {operator!r}" if found else f"no operator {operator!r}"
    raise StateError(f"{root.store.describe()} has {which}: {', '.join(found or head.graph) or 'it has none at all'}")


def _kind(identity: str) -> str:
    """The kind of a node, with which its identity begins."""
    return identity.partition("-")[0].partition(".")[0]


def _description(head: Manifest, identity: str) -> str:
    return str(head.graph.get(identity, {}).get("description", identity))


def _tell_overview(facts: dict[str, Any]) -> None:
    streams = table("stream", "objects", "bytes", "rows", numbers=(1, 2, 3))
    for stream in facts["streams"]:
        streams.add_row(stream["stream"], str(stream["objects"]), str(stream["bytes"]), str(stream["rows"]))
    sources = table("source", "", "partitions", numbers=2)
    for source in facts["sources"]:
        sources.add_row(source["identity"], source["description"], str(source["partitions"]))
    operators = table("operator", "")
    for operator in facts["operators"]:
        operators.add_row(operator["identity"], operator["description"])
    sinks = table("sink", "", "position")
    for sink in facts["sinks"]:
        sinks.add_row(sink["identity"], sink["description"], json.dumps(sink["position"]))
    caches = table("function", "cache", "hits", "calls", numbers=(2, 3))
    for cache in facts["caches"]:
        caches.add_row(cache["function"], cache["cache"], str(cache["hits"]), str(cache["calls"]))
    say(f"{facts['snapshot']}, {facts['kind']}; mode {facts['mode']}, access {facts['access']}")
    for part in (streams, sources, operators, sinks, caches):
        if part.row_count:
            say("", part)


def _tell_rows(facts: dict[str, Any], limit: int) -> None:
    say(f"{facts['identity']}: {facts['description']}, in {facts['snapshot']}")
    if facts["position"] is not None:
        say(f"position: {json.dumps(facts['position'])}")
    elif not facts["states"]:
        say("It keeps no state.")
    for state in facts["states"]:
        more = f"; the first {limit}" if state["rows"] > limit else ""
        lines = table(*state["columns"])
        for row in state["first"]:
            lines.add_row(*(_cell(value) for value in row.values()))
        say("", f"{state['name']}: {state['rows']} rows by {', '.join(state['key']) or 'nothing'}{more}", lines)


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
