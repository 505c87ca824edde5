"""The commands, put together."""

from __future__ import annotations

import importlib.metadata
import sys
from typing import Annotated

import typer

from asyncpersist.cli.cache import cache
from asyncpersist.cli.copy import copy
from asyncpersist.cli.demo import demo
from asyncpersist.cli.diff import diff
from asyncpersist.cli.explaining import explain
from asyncpersist.cli.inspect import inspect
from asyncpersist.cli.prune import prune
from asyncpersist.cli.replay import replay
from asyncpersist.cli.restore import restore
from asyncpersist.cli.run import run
from asyncpersist.cli.snapshots import snapshots
from asyncpersist.cli.verify import verify

__all__ = ["main"]

_app = typer.Typer(
    name="asyncpersist",
    help="Asyncio-native incremental tables with exactly-once snapshots.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _command in (demo, run, replay, snapshots, inspect, diff, verify, restore, prune, copy, cache):
    _app.command()(_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"asyncpersist {importlib.metadata.version('asyncpersist')}")
        raise typer.Exit


@_app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Asyncio-native incremental tables with exactly-once snapshots."""


def main() -> None:
    """Runs the command line and exits.

    What the package raises on purpose is one line on stderr and exit code 1; anything else is a fault of the
    package and keeps its traceback.
    """
    try:
        _app()
    except Exception as exc:
        message = explain(exc)
        if message is None:
            raise
        print(f"asyncpersist: {message}", file=sys.stderr)
        raise SystemExit(1) from None
