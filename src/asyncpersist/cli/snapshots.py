"""`asyncpersist snapshots`: a line for each snapshot of a state."""

from __future__ import annotations

import asyncio
from typing import Any

from asyncpersist.checkpoint.manifest import Manifest
from asyncpersist.checkpoint.ownership import OwnerState
from asyncpersist.checkpoint.register import describe_owner
from asyncpersist.cli.history import Entry, History, read_history
from asyncpersist.cli.printing import AsJson, State, epoch_utc, say, say_json, table, utc
from asyncpersist.cli.state_location import open_state

__all__ = ["owner_text", "snapshots"]

_OWNER = {
    OwnerState.RELEASED: "it ended cleanly",
    OwnerState.ENDED: "not running any more, it did not end cleanly",
    OwnerState.RUNNING: "running",
    OwnerState.ELSEWHERE: "on another machine or in another container: not known whether it runs",
}


def snapshots(state: State, as_json: AsJson = False) -> None:
    """List the snapshots of a state, the newest first, and say whether a run owns it."""
    asyncio.run(_snapshots(state, as_json))


def owner_text(history: History) -> str:
    """Who owns the state, and whether that process runs."""
    if history.newest is None or history.owner_state is None:
        return "not known: no manifest can be read"
    return f"{describe_owner(history.newest.owner)}: {_OWNER[history.owner_state]}"


async def _snapshots(state: str, as_json: bool) -> None:
    async with open_state(state) as store:
        history = await read_history(store)
    if as_json:
        say_json(_as_dict(history))
        return
    lines = table("number", "kind", "epoch", "epoch as time", "written", "bytes", "rows", "", numbers=(0, 2, 5, 6))
    for entry in history.entries:
        lines.add_row(*_cells(entry, history.head))
    say(lines, f"owner: {owner_text(history)}")
    if history.fault is not None:
        say(f"damaged: {history.fault}")


def _cells(entry: Entry, head: Manifest | None) -> tuple[str, ...]:
    manifest = entry.manifest
    if manifest is None:
        return (str(entry.sequence), "", "", "", "", "", "", f"damaged: {entry.damage}")
    mark = "head" if manifest is head else "" if entry.kept else "left behind"
    return (
        str(manifest.sequence),
        manifest.kind,
        str(manifest.epoch),
        epoch_utc(manifest.epoch) or "nothing stepped yet",
        utc(manifest.written_at),
        str(_bytes(manifest)),
        str(_rows(manifest)),
        mark,
    )


def _as_dict(history: History) -> dict[str, Any]:
    owner = history.newest.owner if history.newest is not None else None
    state = history.owner_state
    return {
        "state": history.store.describe(),
        "owner": None
        if owner is None or state is None
        else {
            "status": state.value,
            "running": None if state is OwnerState.ELSEWHERE else state is OwnerState.RUNNING,
            "pid": owner.pid,
            "host": owner.host,
            "since": owner.since,
        },
        "damage": None if history.fault is None else str(history.fault),
        "snapshots": [_entry_as_dict(entry, history.head) for entry in history.entries],
    }


def _entry_as_dict(entry: Entry, head: Manifest | None) -> dict[str, Any]:
    manifest = entry.manifest
    if manifest is None:
        return {"sequence": entry.sequence, "head": False, "kept": entry.kept, "damage": entry.damage}
    return {
        "sequence": manifest.sequence,
        "kind": manifest.kind,
        "head": manifest is head,
        "kept": entry.kept,
        "epoch": manifest.epoch,
        "epoch_utc": epoch_utc(manifest.epoch),
        "written_at": manifest.written_at,
        "written_utc": utc(manifest.written_at),
        "bytes": _bytes(manifest),
        "rows": _rows(manifest),
        "rows_read": manifest.progress.get("rows", 0),
        "damage": None,
    }


def _bytes(manifest: Manifest) -> int:
    return sum(ref.length for ref in manifest.objects())


def _rows(manifest: Manifest) -> int:
    return sum(ref.rows for ref in manifest.objects())
