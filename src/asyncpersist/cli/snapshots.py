"""`asyncpersist snapshots`: a line for each snapshot of a state, and their names."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from asyncpersist.checkpoint.manifest import Manifest
from asyncpersist.checkpoint.naming import drop_name, give_name
from asyncpersist.checkpoint.ownership import OwnerState
from asyncpersist.checkpoint.register import describe_owner
from asyncpersist.cli.history import Entry, History, read_history
from asyncpersist.cli.points import Takeover, checked_name
from asyncpersist.cli.printing import AsJson, State, epoch_utc, say, say_json, table, utc
from asyncpersist.cli.state_location import open_state
from asyncpersist.clock import SystemClock

__all__ = ["owner_text", "snapshots"]

_OWNER = {
    OwnerState.RELEASED: "it ended cleanly",
    OwnerState.ENDED: "not running any more, it did not end cleanly",
    OwnerState.RUNNING: "running",
    OwnerState.ELSEWHERE: "on another machine or in another container: not known whether it runs",
}


def snapshots(
    state: State,
    keep: Annotated[
        str | None,
        typer.Option(
            "--keep", metavar="NAME", callback=checked_name, help="Name a snapshot, which then stays for ever."
        ),
    ] = None,
    number: Annotated[
        int | None, typer.Option("--number", min=1, help="With --keep: which one; otherwise the newest.")
    ] = None,
    drop: Annotated[
        str | None, typer.Option("--drop", metavar="NAME", help="Take a name away; the snapshot expires as others do.")
    ] = None,
    takeover: Takeover = False,
    as_json: AsJson = False,
) -> None:
    """List the snapshots of a state, the newest first, and say whether a run owns it.

    With --keep or --drop a name is given or taken away first; that is refused while a run has the state.
    """
    if number is not None and keep is None:
        raise typer.BadParameter("--number says which snapshot --keep names; say --keep NAME as well")
    asyncio.run(_snapshots(state, keep, number, drop, takeover, as_json))


def owner_text(history: History) -> str:
    """Who owns the state, and whether that process runs."""
    if history.newest is None or history.owner_state is None:
        return "not known: no manifest can be read"
    return f"{describe_owner(history.newest.owner)}: {_OWNER[history.owner_state]}"


async def _snapshots(
    state: str, keep: str | None, number: int | None, drop: str | None, takeover: bool, as_json: bool
) -> None:
    async with open_state(state) as store:
        if drop is not None:
            await drop_name(store, drop, clock=SystemClock(), takeover=takeover)
        if keep is not None:
            await give_name(store, keep, number, clock=SystemClock(), takeover=takeover)
        history = await read_history(store)
    if as_json:
        say_json(_as_dict(history))
        return
    lines = table(
        "number",
        "kind",
        "epoch",
        "epoch as time",
        "written",
        "bytes",
        "rows kept",
        "mode",
        "name",
        "",
        numbers=(0, 2, 5, 6),
    )
    for entry in history.entries:
        lines.add_row(*_cells(entry, history.head))
    say(lines, f"owner: {owner_text(history)}")
    if history.fault is not None:
        say(f"damaged: {history.fault}")


def _cells(entry: Entry, head: Manifest | None) -> tuple[str, ...]:
    manifest = entry.manifest
    if manifest is None:
        return (str(entry.sequence), "", "", "", "", "", "", "", _names(entry), f"damaged: {entry.damage}")
    mark = "head" if manifest is head else "" if entry.kept else "left behind"
    return (
        str(manifest.sequence),
        manifest.kind,
        str(manifest.epoch),
        epoch_utc(manifest.epoch) or "nothing stepped yet",
        utc(manifest.written_at),
        str(_bytes(manifest)),
        str(_rows(manifest)),
        manifest.mode if manifest.access == "FULL" else f"{manifest.mode}, {manifest.access}",
        _names(entry),
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
        return {
            "sequence": entry.sequence,
            "head": False,
            "kept": entry.kept,
            "names": entry.names,
            "damage": entry.damage,
        }
    return {
        "sequence": manifest.sequence,
        "kind": manifest.kind,
        "head": manifest is head,
        "kept": entry.kept,
        "names": entry.names,
        "mode": manifest.mode,
        "access": manifest.access,
        "epoch": manifest.epoch,
        "epoch_utc": epoch_utc(manifest.epoch),
        "written_at": manifest.written_at,
        "written_utc": utc(manifest.written_at),
        "bytes": _bytes(manifest),
        "rows": _rows(manifest),
        "rows_read": manifest.progress.get("rows", 0),
        "damage": None,
    }


def _names(entry: Entry) -> str:
    return ", ".join(entry.names)


def _bytes(manifest: Manifest) -> int:
    return sum(ref.length for ref in manifest.objects())


def _rows(manifest: Manifest) -> int:
    return sum(ref.rows for ref in manifest.objects())
