"""`asyncpersist prune`: what no kept snapshot needs is deleted, and older snapshots if so asked."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from typing import Annotated

import typer

from asyncpersist.checkpoint.prune import Pruning, plan_pruning
from asyncpersist.checkpoint.prune import prune as prune_root
from asyncpersist.cli.history import read_history
from asyncpersist.cli.points import Takeover, Yes, refusal_of_owner
from asyncpersist.cli.printing import AsJson, State, say, say_json
from asyncpersist.cli.state_location import open_state
from asyncpersist.clock import SystemClock

__all__ = ["duration", "prune"]

_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def duration(text: str) -> timedelta:
    """A span such as 7d, 12h or 30m. Raises `typer.BadParameter`."""
    match = _DURATION.fullmatch(text.strip())
    try:
        if match is not None:
            return timedelta(**{_UNITS[match[2]]: float(match[1])})
    except OverflowError:
        pass
    raise typer.BadParameter(f"{text!r} is no span of time; say for instance 7d, 12h, 30m, 45s or 2w")


def prune(
    state: State,
    retain_snapshots: Annotated[
        int | None, typer.Option("--retain-snapshots", min=1, help="Keep the newest so many snapshots.")
    ] = None,
    retain_for: Annotated[
        str | None, typer.Option("--retain-for", metavar="SPAN", help="Keep snapshots not older than 7d, 12h, 30m.")
    ] = None,
    yes: Yes = False,
    takeover: Takeover = False,
    as_json: AsJson = False,
) -> None:
    """Delete what no kept snapshot needs: what runs that were killed left lying, and what is due to be deleted.

    With --retain-snapshots or --retain-for older snapshots go as well; with both, those stay that either keeps.
    The newest stays, and so does each that has a name.
    """
    span = None if retain_for is None else duration(retain_for)
    asyncio.run(_prune(state, retain_snapshots, span, yes=yes, takeover=takeover, as_json=as_json))


async def _prune(
    state: str, retain_snapshots: int | None, retain_for: timedelta | None, *, yes: bool, takeover: bool, as_json: bool
) -> None:
    clock = SystemClock()
    async with open_state(state) as store:
        history = await read_history(store)
        refusal = refusal_of_owner(history, takeover=takeover)
        if yes:
            done = await prune_root(
                store, clock=clock, retain_snapshots=retain_snapshots, retain_for=retain_for, takeover=takeover
            )
        else:
            done = await plan_pruning(store, clock=clock, retain_snapshots=retain_snapshots, retain_for=retain_for)
        here = store.describe()
    if as_json:
        say_json(
            {
                "state": here,
                "expired": done.expired,
                "kept": done.kept,
                "objects": done.objects,
                "bytes": done.bytes,
                "keys": done.keys,
                "refusals": [] if refusal is None or yes else [refusal],
                "done": yes and bool(done.keys),
            }
        )
    else:
        _tell(here, done, yes=yes)
    if refusal is not None and not yes:
        if not as_json:
            say(f"It would be refused: {refusal}")
        raise typer.Exit(1)


def _tell(here: str, pruning: Pruning, *, yes: bool) -> None:
    if not pruning.keys:
        say(f"{here}: there is nothing to be deleted. Nothing was changed.")
        return
    expired = ", ".join(map(str, pruning.expired)) or "none"
    say(
        f"{here}: {'deleted' if yes else 'to be deleted'}",
        f"  snapshots: {expired}",
        f"  objects: {pruning.objects}",
        f"  manifests and remains: {len(pruning.keys) - pruning.objects}",
        f"  bytes: {pruning.bytes}",
        f"kept: {', '.join(map(str, pruning.kept)) or 'what the newest manifest holds'}",
    )
    if not yes:
        say("Nothing was changed. To do it, say --yes.")
