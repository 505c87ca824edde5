"""`asyncpersist run`: a graph from the shell, ended by signals."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from functools import partial
from typing import Annotated, Any

import typer

from asyncpersist.checkpoint.manifest import Manifest
from asyncpersist.cli.explaining import explain
from asyncpersist.cli.history import read_history
from asyncpersist.cli.printing import PLACES, describe
from asyncpersist.cli.printing_thread import PrintingThread
from asyncpersist.cli.run_figures import Figures, Subject, figures
from asyncpersist.cli.run_modes import MODES, mode_of
from asyncpersist.cli.run_signals import asked_to_end
from asyncpersist.cli.run_target import load_graph
from asyncpersist.cli.state_location import backend_of, open_state
from asyncpersist.disk import Disk
from asyncpersist.graph.context import Graph
from asyncpersist.graph.plan import plan_graph
from asyncpersist.persistence import Config, PersistenceMode
from asyncpersist.runtime.runtime import Runtime

__all__ = ["run"]

_DEFAULT_INTERVAL_MS = 1000
_PATIENCE = 1.0
"""Seconds that the end waits for what is still to be printed."""


def run(
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE[:GRAPH]",
            help="What to run: module:graph or path/to/file.py:graph, where graph is a Graph or a function that "
            "returns one; without :graph, what the module defines when it is imported.",
            show_default=False,
        ),
    ],
    state: Annotated[
        str | None, typer.Option(metavar="STATE", help=f"Where the run's state is kept: {PLACES}. Without it, nowhere.")
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
    takeover: Annotated[
        bool, typer.Option("--takeover", help="Go on even if a run that is alive owns the state; that one is fenced.")
    ] = False,
    single_writer: Annotated[
        bool,
        typer.Option("--single-writer", help="Take a store in which two runs could destroy each other's state."),
    ] = False,
    every: Annotated[float, typer.Option(min=0.05, help="Seconds between lines of figures.")] = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print figures as JSON lines to standard output.")] = False,
    show_traceback: Annotated[bool, typer.Option("--traceback", help="Show the traceback of an error.")] = False,
) -> None:
    """Run a graph until its input ends or a signal comes.

    SIGINT and SIGTERM take a last snapshot and end the run; a second one ends it at once, and the next run goes on
    after the last snapshot. Exit codes: 0, after SIGINT 130, after an error 1.
    """
    given = {
        "--snapshot-interval-ms": snapshot_interval_ms is not None,
        "--mode": mode is not None,
        "--takeover": takeover,
        "--single-writer": single_writer,
    }
    if state is None and any(given.values()):
        names = ", ".join(name for name, is_given in given.items() if is_given)
        raise typer.BadParameter("it says how state is kept, so it goes with --state STATE", param_hint=names)
    show, printing = figures(as_json=as_json, every=every), PrintingThread()
    # Until the run handles it, an interrupt ends the process at once: an import cannot be interrupted from the loop.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    code = 1
    try:
        config = _config(state, snapshot_interval_ms, mode, single_writer)
        code = asyncio.run(_run(target, state, config, takeover, show, printing))
    except Exception as exc:
        printing.give(show.close)
        printing.give(partial(_tell, exc, show_traceback, show if as_json else None))
    finally:
        printing.give(show.close)
        printed = printing.finish(_PATIENCE)
        signal.signal(signal.SIGINT, before)
    if not printed:
        # An end of the usual kind would wait for the same pipe.
        os._exit(code)
    raise typer.Exit(code)


def _tell(error: Exception, show_traceback: bool, show: Figures | None) -> None:
    """Prints an error in one line; and to `show`, if given."""
    if show_traceback:
        traceback.print_exception(error)
    message = explain(error)
    if message is None:
        name, text = type(error).__name__, " ".join(str(error).split())
        message = (f"{name}: {text}" if text else name) + ("" if show_traceback else " (--traceback shows where)")
    print(f"asyncpersist: {message}", file=sys.stderr, flush=True)
    if show is not None:
        show.say("failed", "", error=type(error).__name__, message=explain(error) or str(error))


async def _run(
    target: str, state: str | None, config: Config | None, takeover: bool, show: Figures, printing: PrintingThread
) -> int:
    """The exit code. Raises what loading the graph and running it raise."""
    graph = load_graph(target)
    subject = _subject(target, graph, config)
    runtime = Runtime(graph, persistence_config=config, takeover=takeover)
    with asked_to_end() as asked:
        if not await _entered(runtime, asked):
            reason = asked.result().name
            printing.give(partial(show.say, "stopped", f"{reason}: ended before the state was loaded", reason=reason))
            return _code(asked)
        stopped = await _attend(runtime, subject, asked, show, printing)
        reason = asked.result().name if stopped else "end of input"
        head = await _head(state)
        text = f"{reason}: {runtime.statistics().rows_read:,} rows read in this run"
        if head is not None:
            text += f"; committed: {describe(head)}"
        facts = {**runtime.statistics()._asdict(), "committed": _committed(head)}
        printing.give(partial(show.say, "ended", text, reason=reason, **facts))
        return _code(asked) if stopped else 0


def _config(
    state: str | None, interval_ms: int | None, mode: PersistenceMode | None, single_writer: bool
) -> Config | None:
    if state is None:
        return None
    return Config(
        backend_of(state, single_writer=single_writer),
        snapshot_interval_ms=_DEFAULT_INTERVAL_MS if interval_ms is None else interval_ms,
        persistence_mode=mode or PersistenceMode.PERSISTING,
    )


def _subject(target: str, graph: Graph, config: Config | None) -> Subject:
    plan = plan_graph(graph, persistent=config is not None)
    return Subject(
        target=target,
        state=None if config is None else config.backend.open_store(Disk()).describe(),
        mode=None if config is None else config.persistence_mode.value,
        sources=tuple(vertex.description for vertex, _ in plan.sources),
        sinks=tuple(vertex.description for vertex, _ in plan.sinks),
    )


async def _entered(runtime: Runtime, asked: asyncio.Future[signal.Signals]) -> bool:
    """Enters the runtime; False if the end was asked for before its state was loaded. Raises as recovery does."""
    entering = asyncio.create_task(runtime.__aenter__())
    either: list[asyncio.Future[Any]] = [entering, asked]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if not entering.done():
        entering.cancel()
        await asyncio.wait({entering})
    if entering.cancelled():
        return False
    entering.result()
    return True


async def _attend(
    runtime: Runtime, subject: Subject, asked: asyncio.Future[signal.Signals], show: Figures, printing: PrintingThread
) -> bool:
    """Shows figures until the run has ended. True if it was asked to end before that. Raises the run's error."""
    stopped = False
    waiting = asyncio.create_task(runtime.wait())
    either: list[asyncio.Future[Any]] = [waiting, asked]
    try:
        printing.give(partial(show.start, subject, runtime.statistics()))
        while not (waiting.done() or asked.done()):
            await asyncio.wait(either, timeout=show.period, return_when=asyncio.FIRST_COMPLETED)
            printing.raise_failure()
            if printing.idle:
                printing.give(partial(show.figures, runtime.statistics()))
        stopped = not waiting.done()
        printing.give(show.close)
        if stopped:
            reason = asked.result().name
            text = f"{reason}: a last snapshot, then the end; once more ends it at once"
            printing.give(partial(show.say, "stopping", text if subject.state else f"{reason}: the end", reason=reason))
    finally:
        await asyncio.gather(runtime.stop(), waiting)
    return stopped


async def _head(state: str | None) -> Manifest | None:
    if state is None:
        return None
    async with open_state(state) as store:
        return (await read_history(store)).head


def _committed(head: Manifest | None) -> dict[str, object] | None:
    if head is None:
        return None
    return {"snapshot": head.sequence, "epoch": head.epoch, "rows_read": head.progress.get("rows", 0)}


def _code(asked: asyncio.Future[signal.Signals]) -> int:
    return 130 if asked.result() is signal.SIGINT else 0
