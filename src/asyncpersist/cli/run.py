"""`asyncpersist run`: a graph from the shell, ended by signals."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from asyncpersist.cli.points import checked_name
from asyncpersist.cli.printing import PLACES
from asyncpersist.cli.run_modes import MODES, mode_of
from asyncpersist.cli.running import Order, carry_out
from asyncpersist.cli.state_location import backend_of
from asyncpersist.persistence import Config, PersistenceMode, SnapshotAccess

__all__ = ["AsJsonLines", "Every", "Target", "Traceback", "run"]

_DEFAULT_INTERVAL_MS = 1000

Target = Annotated[
    str,
    typer.Argument(
        metavar="MODULE[:GRAPH]",
        help="What to run: module:graph or path/to/file.py:graph, where graph is a Graph or a function that "
        "returns one; without :graph, what the module defines when it is imported.",
        show_default=False,
    ),
]
Every = Annotated[float, typer.Option(min=0.05, help="Seconds between lines of figures.")]
AsJsonLines = Annotated[bool, typer.Option("--json", help="Print figures as JSON lines to standard output.")]
Traceback = Annotated[bool, typer.Option("--traceback", help="Show the traceback of an error.")]


def run(
    target: Target,
    state: Annotated[
        str | None, typer.Option(metavar="STATE", help=f"Where the run's state is kept: {PLACES}. Without it, nowhere.")
    ] = None,
    record: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE",
            help="Record what the sources give in an empty place, to be given again by `asyncpersist replay`; no state "
            "is kept.",
        ),
    ] = None,
    snapshot_interval_ms: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="MS",
            help=f"Time between snapshots; 0: after every epoch. By default {_DEFAULT_INTERVAL_MS}.",
            show_default=False,
        ),
    ] = None,
    mode: Annotated[
        PersistenceMode | None,
        typer.Option(
            parser=mode_of,
            metavar="MODE",
            help=f"What is kept, and what a restart does: {MODES}. By default persisting.",
            show_default=False,
        ),
    ] = None,
    on_graph_change: Annotated[
        Literal["replay", "reject"] | None,
        typer.Option(
            help="What a graph that has changed gets: new operators are given what is there, or an error.",
            show_default=False,
        ),
    ] = None,
    on_schema_change: Annotated[
        Literal["reread", "reject"] | None,
        typer.Option(
            help="What a source with another schema gets: it is read again from its beginning, or an error.",
            show_default=False,
        ),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            callback=checked_name,
            help="Keep the run's last snapshot under a name: it never expires.",
        ),
    ] = None,
    takeover: Annotated[
        bool, typer.Option("--takeover", help="Go on even if a run that is alive owns the state; that one is fenced.")
    ] = False,
    single_writer: Annotated[
        bool,
        typer.Option("--single-writer", help="Take a store in which two runs could destroy each other's state."),
    ] = False,
    every: Every = 2.0,
    as_json: AsJsonLines = False,
    show_traceback: Traceback = False,
) -> None:
    """Run a graph until its input ends or a signal comes.

    SIGINT and SIGTERM take a last snapshot and end the run; a second one ends it at once, and the next run goes on
    after the last snapshot. Exit codes: 0, after SIGINT 130, after an error 1.
    """
    stateful = {
        "--mode": mode is not None,
        "--on-graph-change": on_graph_change is not None,
        "--on-schema-change": on_schema_change is not None,
        "--keep": keep is not None,
        "--takeover": takeover,
    }
    either = {"--snapshot-interval-ms": snapshot_interval_ms is not None, "--single-writer": single_writer}
    if state is not None and record is not None:
        raise typer.BadParameter("a recording keeps no state: say --state or --record", param_hint="--record")
    _refuse_without(state, stateful, "--state STATE")
    _refuse_without(state or record, either, "--state STATE or --record PLACE")
    place = state or record
    config = None
    if place is not None:
        config = Config(
            backend_of(place, single_writer=single_writer),
            snapshot_interval_ms=_DEFAULT_INTERVAL_MS if snapshot_interval_ms is None else snapshot_interval_ms,
            snapshot_access=SnapshotAccess.FULL if record is None else SnapshotAccess.RECORD,
            persistence_mode=mode or PersistenceMode.PERSISTING,
            on_graph_change=on_graph_change,
            on_schema_change=on_schema_change or "reject",
        )
    order = Order(target=target, config=config, state=place, takeover=takeover, keep=keep)
    carry_out(order, every=every, as_json=as_json, show_traceback=show_traceback)


def _refuse_without(place: str | None, given: dict[str, bool], needed: str) -> None:
    if place is None and any(given.values()):
        names = ", ".join(name for name, is_given in given.items() if is_given)
        raise typer.BadParameter(f"it says how state is kept, so it goes with {needed}", param_hint=names)
