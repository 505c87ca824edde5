"""How the commands about a state print: the same facts for people and, with `--json`, for programs."""

from __future__ import annotations

import datetime
import json
import math
import time
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from asyncpersist.checkpoint.manifest import Manifest

__all__ = ["PLACES", "AsJson", "State", "describe", "epoch_utc", "plain", "say", "say_json", "table", "utc"]

PLACES = "a directory, s3://bucket/prefix or az://container/prefix"
State = Annotated[
    str, typer.Argument(metavar="STATE", help=f"Where a run's state is kept: {PLACES}.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]

_WIDE = 10_000


def say(*things: str | Table) -> None:
    """Prints as it is, without markup; into a pipe every row is one line."""
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console = Console(markup=False, highlight=False, emoji=False, width=_WIDE)
    for thing in things:
        console.print(thing, soft_wrap=isinstance(thing, str))


def say_json(value: Any) -> None:
    """Prints one line of JSON."""
    typer.echo(json.dumps(plain(value), ensure_ascii=False, allow_nan=False))


def table(*columns: str, numbers: int | tuple[int, ...] = ()) -> Table:
    """An empty table. `numbers`: the positions of the columns that are aligned to the right."""
    right = (numbers,) if isinstance(numbers, int) else numbers
    made = Table(box=None, pad_edge=False, header_style="bold")
    for position, name in enumerate(columns):
        made.add_column(name, justify="right" if position in right else "left", no_wrap=True)
    return made


def utc(seconds: float) -> str:
    """Seconds since the Unix epoch as a time people read."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def epoch_utc(epoch: int) -> str | None:
    """The wall time of an epoch; None for 0, before which nothing was stepped."""
    return utc(epoch / 1000) if epoch else None


def describe(manifest: Manifest) -> str:
    """A snapshot in one phrase."""
    when = f"epoch {manifest.epoch} ({epoch_utc(manifest.epoch)})" if manifest.epoch else "before the first epoch"
    read = f", {manifest.progress['rows']} rows read" if "rows" in manifest.progress else ""
    return f"snapshot {manifest.sequence}, {when}{read}"


def plain(value: Any) -> Any:
    """A value of a column as one that JSON has: bytes in hexadecimal, times in ISO 8601, spans in seconds."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    return value
