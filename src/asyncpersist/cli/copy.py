"""`asyncpersist copy`: a state to another place, to go on there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from asyncpersist.checkpoint.copying import Copied
from asyncpersist.checkpoint.copying import copy as copy_root
from asyncpersist.cli.printing import PLACES, AsJson, say, say_json
from asyncpersist.cli.state_location import open_state
from asyncpersist.clock import SystemClock
from asyncpersist.errors import StateError

__all__ = ["copy"]


def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help=f"Where the state is: {PLACES}.", show_default=False)],
    target: Annotated[
        str, typer.Argument(metavar="TO", help="Where it goes, likewise; empty, or to be made.", show_default=False)
    ],
    yes: Annotated[
        bool,
        typer.Option("--yes", help="The run that had the state on another machine does not run any more: I made sure."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Copy a state to another place, where a run goes on with it.

    The snapshots that are kept, and all they need, are copied, and every object is compared with its checksum. FROM is
    only read, and no run may have it. A copy that was cut off is no state yet; the same command goes on with it.
    """
    asyncio.run(_copy(source, target, yes=yes, as_json=as_json))


async def _copy(source: str, target: str, *, yes: bool, as_json: bool) -> None:
    clock = SystemClock()
    async with open_state(source) as ours, open_state(target) as theirs:
        here, there = ours.describe(), theirs.describe()
        ends = [f"{_without_links(place)}/" for place in (here, there)]
        if ends[0].startswith(ends[1]) or ends[1].startswith(ends[0]):
            raise StateError(f"{here} and {there} are the same place, or one lies in the other. Name another place.")
        began = clock.monotonic()
        with _shown() as show:
            done = await copy_root(ours, theirs, clock=clock, owner_is_gone=yes, on_progress=show)
        seconds = clock.monotonic() - began
    if as_json:
        say_json({"from": here, "to": there, **asdict(done), "seconds": round(seconds, 3)})
        return
    found = f", {done.found} of them were there already" if done.found else ""
    say(
        f"{there}: {done.snapshots} snapshots up to {done.sequence}, {done.objects} objects{found}, "
        f"{done.bytes} bytes, in {seconds:.1f} s.",
        f"A run goes on there with --state {there}. Leave {here} alone from then on: both go on with the same outputs.",
    )


def _without_links(place: str) -> str:
    """Where a directory really is; a place in another store is what it is called."""
    return os.path.realpath(place) if os.path.isabs(place) else place


@contextmanager
def _shown() -> Iterator[Callable[[Copied], None]]:
    """Shows how far a copy is, in a line of its own on a terminal; elsewhere not at all."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("copying", total=None)

        def show(copied: Copied) -> None:
            text = f"{copied.objects} of {copied.all_objects} objects"
            progress.update(task, description=text, total=copied.all_bytes, completed=copied.bytes)

        yield show
