"""`asyncpersist diff`: what changed from one snapshot to another, of the same state or of two."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict
from typing import Annotated, Any

import polars as pl
import typer

from asyncpersist.checkpoint.caches import is_cache
from asyncpersist.checkpoint.manifest import Manifest, ObjectRef
from asyncpersist.checkpoint.root import Root
from asyncpersist.cli.history import read_history
from asyncpersist.cli.points import split_point
from asyncpersist.cli.printing import AsJson, describe, epoch_utc, say, say_json, table
from asyncpersist.cli.row_changes import RowChanges, compare
from asyncpersist.cli.state_location import open_state
from asyncpersist.cli.state_rows import owner_and_name, read_rows
from asyncpersist.errors import DamagedState
from asyncpersist.graph.plan import differences
from asyncpersist.objectstore.contract import ObjectStore

__all__ = ["diff"]

_NOTHING = RowChanges(0, 0, 0, ())


def diff(
    first: Annotated[
        str, typer.Argument(metavar="BEFORE", help="STATE, STATE@NUMBER or STATE@NAME.", show_default=False)
    ],
    second: Annotated[str, typer.Argument(metavar="AFTER", help="Likewise.", show_default=False)],
    third: Annotated[
        str | None,
        typer.Argument(metavar="POINT", help="Or all three: STATE and two numbers or names of it.", show_default=False),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="How many rows of each kind are shown.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Show what changed from one snapshot to another: what was read, the graph, rows of state, outputs.

    `diff A B`, where each is STATE for its newest snapshot, STATE@NUMBER or STATE@NAME; or `diff STATE A B`.
    """
    ends = [split_point(first), split_point(second)] if third is None else [(first, second), (first, third)]
    facts = asyncio.run(_diff(ends[0], ends[1], limit))
    if as_json:
        say_json(facts)
    else:
        _tell(facts, limit)


async def _diff(before: tuple[str, str | None], after: tuple[str, str | None], limit: int) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(open_state(state)) for state, _ in (before, after)]
        seen: tuple[int, int] | None = None
        while True:
            (old, older), (new, newer) = [
                await _find(store, point) for store, (_, point) in zip(stores, (before, after), strict=True)
            ]
            try:
                return await _compared(old, older, new, newer, limit)
            except DamagedState:
                # A running owner may have deleted meanwhile what was being read: then it is said to be gone, or a
                # newer one is the newest.
                if seen == (older.sequence, newer.sequence):
                    raise
                seen = (older.sequence, newer.sequence)


async def _find(store: ObjectStore, point: str | None) -> tuple[Root, Manifest]:
    history = await read_history(store)
    if point is not None:
        return history.root(), history.find(point)
    if history.head is None:
        assert history.fault is not None, "what can be followed has a head"
        raise history.fault
    return history.root(), history.head


async def _compared(old: Root, older: Manifest, new: Root, newer: Manifest, limit: int) -> dict[str, Any]:
    streams = sorted(older.streams.keys() | newer.streams.keys())
    return {
        "before": _side(old, older),
        "after": _side(new, newer),
        "seconds": newer.written_at - older.written_at,
        "epoch_milliseconds": newer.epoch - older.epoch,
        "rows_read": newer.progress.get("rows", 0) - older.progress.get("rows", 0),
        "graph": differences(older.graph, newer.graph),
        "streams": [
            {"stream": name, "before": _size(older.streams.get(name, [])), "after": _size(newer.streams.get(name, []))}
            for name in streams
        ],
        "states": [
            state for name in streams if (state := await _state(old, older, new, newer, name, limit)) is not None
        ],
        "sinks": [
            {
                "identity": identity,
                "description": _description(identity, older, newer),
                "before": older.sinks.get(identity),
                "after": newer.sinks.get(identity),
            }
            for identity in dict.fromkeys((*older.sinks, *newer.sinks))
        ],
    }


def _side(root: Root, manifest: Manifest) -> dict[str, Any]:
    return {
        "state": root.store.describe(),
        "sequence": manifest.sequence,
        "epoch": manifest.epoch,
        "epoch_utc": epoch_utc(manifest.epoch),
        "written_at": manifest.written_at,
        "rows_read": manifest.progress.get("rows", 0),
        "snapshot": describe(manifest),
    }


def _size(refs: list[ObjectRef]) -> dict[str, int]:
    return {
        "objects": len(refs),
        "bytes": sum(ref.length for ref in refs),
        "rows": sum(ref.rows for ref in refs),
    }


async def _state(
    old: Root, older: Manifest, new: Root, newer: Manifest, stream: str, limit: int
) -> dict[str, Any] | None:
    """How one piece of state differs; None for what is no state, but a log or a cache."""
    if is_cache(stream):
        return None
    identity, name = owner_and_name(stream, [*dict.fromkeys((*older.graph, *newer.graph))])
    if name == "log":
        return None
    ours, theirs = older.streams.get(stream, []), newer.streams.get(stream, [])
    key: tuple[str, ...] = ()
    changes = _NOTHING
    # The same objects hold the same rows, whatever root they lie in.
    if [(ref.checksum, ref.length) for ref in ours] != [(ref.checksum, ref.length) for ref in theirs]:
        before, after = [
            await read_rows(root, name, refs) if refs else None for root, refs in ((old, ours), (new, theirs))
        ]
        key = (after or before or ((), None))[0]
        rows = [pl.DataFrame() if read is None else read[1] for read in (before, after)]
        if before is None:
            rows[0] = rows[1].clear()
        elif after is None:
            rows[1] = rows[0].clear()
        changes = await asyncio.to_thread(compare, rows[0], rows[1], key, limit=limit)
    return {
        "identity": identity,
        "description": _description(identity, older, newer),
        "name": name,
        "key": key,
        **asdict(changes),
    }


def _description(identity: str, older: Manifest, newer: Manifest) -> str:
    node: Mapping[str, Any] = newer.graph.get(identity) or older.graph.get(identity) or {}
    return str(node.get("description", identity))


def _tell(facts: dict[str, Any], limit: int) -> None:
    before, after = facts["before"], facts["after"]
    elsewhere = f" of {after['state']}" if after["state"] != before["state"] else ""
    say(
        f"from {before['snapshot']} of {before['state']}",
        f"  to {after['snapshot']}{elsewhere}",
        f"{facts['epoch_milliseconds'] / 1000:+.3f} s of epochs, written {facts['seconds']:+.1f} s apart, "
        f"{facts['rows_read']:+d} rows read",
        *(f"graph: {line}" for line in facts["graph"]),
    )
    streams = table("stream", "objects before", "after", "bytes before", "after", numbers=(1, 2, 3, 4))
    for stream in facts["streams"]:
        one, other = stream["before"], stream["after"]
        numbers = (one["objects"], other["objects"], one["bytes"], other["bytes"])
        streams.add_row(stream["stream"], *map(str, numbers))
    if streams.row_count:
        say("", streams)
    for state in facts["states"]:
        _tell_state(state, limit)
    for sink in facts["sinks"]:
        if sink["before"] != sink["after"]:
            positions = (json.dumps(sink[side], ensure_ascii=False) for side in ("before", "after"))
            say("", f"{sink['identity']}: {sink['description']}", *(f"  {position}" for position in positions))


def _tell_state(state: dict[str, Any], limit: int) -> None:
    counts = {kind: state[kind] for kind in ("added", "removed", "changed")}
    if not any(counts.values()):
        say("", f"{state['identity']} {state['name']}: no row differs")
        return
    more = f"; the first {limit} of each" if limit and max(counts.values()) > limit else ""
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    say("", f"{state['identity']} {state['name']}, by {', '.join(state['key']) or 'nothing'}: {told}{more}")
    for change in state["sample"]:
        mark = {"added": "+", "removed": "-", "changed": "~"}[change["kind"]]
        rows = [json.dumps(row, ensure_ascii=False) for row in (change["before"], change["after"]) if row is not None]
        say(f"  {mark} {' -> '.join(rows)}")
