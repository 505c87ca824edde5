"""`asyncpersist cache`: the functions whose results a state keeps, and taking them out."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Annotated, Any

import polars as pl
import typer

from asyncpersist.checkpoint.caches import used_stream
from asyncpersist.checkpoint.dropping import drop_cache
from asyncpersist.checkpoint.holdings import Holdings, find_caches, of_name
from asyncpersist.checkpoint.manifest import CacheFacts, Manifest, ObjectRef
from asyncpersist.checkpoint.root import Root
from asyncpersist.cli.at_rest import at_rest
from asyncpersist.cli.history import read_history
from asyncpersist.cli.points import Takeover, Yes, refusal_of_owner
from asyncpersist.cli.printing import AsJson, State, say, say_json, table, utc
from asyncpersist.cli.state_location import open_state
from asyncpersist.clock import SystemClock
from asyncpersist.columnar import codec
from asyncpersist.errors import DamagedState

__all__ = ["cache"]


def cache(
    state: State,
    drop: Annotated[
        str | None,
        typer.Option("--drop", metavar="NAME", help="A cache or a function: forget its results, for all snapshots."),
    ] = None,
    yes: Yes = False,
    takeover: Takeover = False,
    as_json: AsJson = False,
) -> None:
    """List the functions whose results a state keeps, and how often each was called and each result found again.

    With --drop the results of a cache, or of one function, are forgotten: the next run calls it again.
    """
    if drop is None:
        asyncio.run(_list(state, as_json))
    else:
        asyncio.run(_drop(state, drop, yes=yes, takeover=takeover, as_json=as_json))


async def _list(state: str, as_json: bool) -> None:
    async def look(root: Root, head: Manifest) -> tuple[Manifest, list[dict[str, Any]]]:
        holdings = await find_caches(root.store, head, ended=False)
        return head, [
            {**_facts(holdings, stream, facts), "entries": await _entries(root, stream, holdings.streams.get(stream))}
            for stream, facts in holdings.functions.items()
        ]

    async with open_state(state) as store:
        head, functions = await at_rest(store, look)
        here = store.describe()
    if as_json:
        say_json({"state": here, "sequence": head.sequence, "functions": functions})
        return
    if not functions:
        say(f"{here} keeps no results of functions.")
        return
    lines = table("function", "cache", "entries", "bytes", "hits", "calls", "last used", numbers=(2, 3, 4, 5))
    for found in functions:
        numbers = (str(found[name]) for name in ("entries", "bytes", "hits", "calls"))
        lines.add_row(found["function"], found["cache"], *numbers, found["used_utc"] or "never")
    say(lines)


async def _drop(state: str, name: str, *, yes: bool, takeover: bool, as_json: bool) -> None:
    async with open_state(state) as store:
        history = await read_history(store)
        if history.head is None:
            assert history.fault is not None, "what can be followed has a head"
            raise history.fault
        refusal = refusal_of_owner(history, takeover=takeover)
        holdings = await find_caches(store, history.head, ended=False)
        chosen = of_name(holdings, name, store.describe())
        if yes:
            await drop_cache(store, name, clock=SystemClock(), takeover=takeover)
        here = store.describe()
    dropped = [_facts(holdings, stream, facts) for stream, facts in chosen.items()]
    if as_json:
        refusals = [] if refusal is None or yes else [refusal]
        say_json({"state": here, "dropped": dropped, "refusals": refusals, "done": yes})
    else:
        _tell_dropped(here, dropped, yes=yes)
    if refusal is not None and not yes:
        if not as_json:
            say(f"It would be refused: {refusal}")
        raise typer.Exit(1)


def _facts(holdings: Holdings, stream: str, facts: CacheFacts) -> dict[str, Any]:
    refs = [*holdings.streams.get(stream, []), *holdings.streams.get(used_stream(stream), [])]
    return {
        "function": facts.function,
        "cache": facts.cache,
        "stream": stream,
        "bytes": sum(ref.length for ref in refs),
        "hits": facts.hits,
        "calls": facts.calls,
        "used": facts.used or None,
        "used_utc": utc(facts.used) if facts.used else None,
    }


async def _entries(root: Root, stream: str, refs: Collection[ObjectRef] | None) -> int:
    """How many results there are now. Raises `DamagedState`."""
    if not refs:
        return 0
    parts = [await root.get(ref) for ref in refs]

    def count() -> int:
        try:
            frames = [codec.decode(part) for part in parts]
            # The key is the one column of ids that comes first.
            key = [name for name, dtype in frames[0].schema.items() if dtype == pl.UInt128][:1]
            return codec.latest_rows(frames, key, drop_tombstones=True).height
        except ValueError as exc:
            raise DamagedState(f"{root.store.describe()}: {stream} cannot be read as results: {exc}") from exc

    return await asyncio.to_thread(count)


def _tell_dropped(here: str, dropped: Collection[dict[str, Any]], *, yes: bool) -> None:
    lines = table("function", "cache", "bytes", "calls", numbers=(2, 3))
    for found in dropped:
        lines.add_row(found["function"], found["cache"], str(found["bytes"]), str(found["calls"]))
    say(f"{here}: {'dropped' if yes else 'to be dropped'}", lines)
    if yes:
        say("The next run calls them again. What older snapshots still hold of them goes as those expire.")
    else:
        say("Nothing was changed. To do it, say --yes.")
