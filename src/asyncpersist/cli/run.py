"""`asyncpersist run`: a graph from the shell, ended by signals."""

from __future__ import annotations

import asyncio
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from asyncpersist.checkpoint.manifest import Manifest
from asyncpersist.cli.history import open_state, read_history
from asyncpersist.cli.printing import describe
from asyncpersist.cli.run_figures import Figures, Subject, figures
from asyncpersist.cli.run_target import load_graph
from asyncpersist.errors import AsyncPersistError
from asyncpersist.graph.context import Graph
from asyncpersist.graph.plan import plan_graph
from asyncpersist.persistence import Backend, Config, PersistenceMode
from asyncpersist.runtime.runtime import Runtime

__all__ = ["run"]

_ENDING = (signal.SIGINT, signal.SIGTERM)
_DEFAULT_INTERVAL_MS = 1000


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
        str | None, typer.Option(metavar="STATE", help="The directory of the run's state; without it nothing is kept.")
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
        typer.Option(case_sensitive=False, help="What is kept. By default persisting.", show_default=False),
    ] = None,
    takeover: Annotated[
        bool, typer.Option("--takeover", help="Go on even if a run that is alive owns the state; that one is fenced.")
    ] = False,
    every: Annotated[float, typer.Option(min=0.05, help="Seconds between lines of figures.")] = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print figures as JSON lines to standard output.")] = False,
    show_traceback: Annotated[bool, typer.Option("--traceback", help="Show the traceback of an error.")] = False,
) -> None:
    """Run a graph until its input ends or a signal comes.

    SIGINT and SIGTERM take a last snapshot and end the run; a second one ends it at once, and the next run goes on
    after the last snapshot. Exit codes: 0, after SIGINT 130, after an error 1.
    """
    if state is None and (takeover or mode is not None or snapshot_interval_ms is not None):
        raise typer.BadParameter("it says how state is kept, so it goes with --state STATE", param_hint=_given(mode))
    show = figures(as_json=as_json, every=every)
    # Until the run handles it, an interrupt ends the process at once: an import cannot be interrupted from the loop.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        code = asyncio.run(_run(target, state, snapshot_interval_ms, mode, takeover, show))
    except Exception as exc:
        show.close()
        if show_traceback:
            traceback.print_exception(exc)
        message = _message(exc, hint=not show_traceback)
        print(f"asyncpersist: {message}", file=sys.stderr, flush=True)
        if as_json:
            show.say("failed", "", error=type(exc).__name__, message=str(exc))
        raise typer.Exit(1) from None
    finally:
        show.close()
        signal.signal(signal.SIGINT, before)
    raise typer.Exit(code)


def _given(mode: PersistenceMode | None) -> str:
    return "--mode" if mode is not None else "--snapshot-interval-ms, --takeover"


def _message(error: Exception, *, hint: bool) -> str:
    """An error in one line. What this package raises on purpose explains itself."""
    text = " ".join(str(error).split())
    if isinstance(error, AsyncPersistError):
        return text
    name = type(error).__name__
    return f"{name}: {text}" * bool(text) + name * (not text) + " (--traceback shows where)" * hint


async def _run(
    target: str,
    state: str | None,
    interval_ms: int | None,
    mode: PersistenceMode | None,
    takeover: bool,
    show: Figures,
) -> int:
    """The exit code. Raises what loading the graph and running it raise."""
    config = await _config(state, interval_ms, mode)
    graph = load_graph(target)
    subject = _subject(target, graph, state, config)
    runtime = Runtime(graph, persistence_config=config, takeover=takeover)
    with _asked_to_end() as asked:
        if not await _entered(runtime, asked):
            show.say("stopped", f"{asked.result().name}: ended before the state was loaded", reason=asked.result().name)
            return _code(asked)
        stopped = await _attend(runtime, subject, asked, show)
        reason = asked.result().name if stopped else "end of input"
        head = await _head(state)
        text = f"{reason}: {runtime.statistics().rows_read:,} rows read in this run"
        if head is not None:
            text += f"; committed: {describe(head)}"
        show.say("ended", text, reason=reason, **runtime.statistics()._asdict(), committed=_committed(head))
        return _code(asked) if stopped else 0


async def _config(state: str | None, interval_ms: int | None, mode: PersistenceMode | None) -> Config | None:
    if state is None:
        return None
    async with open_state(state):
        pass
    return Config(
        Backend.filesystem(state),
        snapshot_interval_ms=_DEFAULT_INTERVAL_MS if interval_ms is None else interval_ms,
        persistence_mode=mode or PersistenceMode.PERSISTING,
    )


def _subject(target: str, graph: Graph, state: str | None, config: Config | None) -> Subject:
    plan = plan_graph(graph, persistent=config is not None)
    return Subject(
        target=target,
        state=None if state is None else str(Path(state).absolute()),
        mode=None if config is None else config.persistence_mode.value,
        sources=tuple(vertex.description for vertex, _ in plan.sources),
        sinks=tuple(vertex.description for vertex, _ in plan.sinks),
    )


@contextmanager
def _asked_to_end() -> Iterator[asyncio.Future[signal.Signals]]:
    """The first signal that asks for the end. A second one does what signals do by default: it kills the process."""
    loop = asyncio.get_running_loop()
    asked: asyncio.Future[signal.Signals] = loop.create_future()

    def release() -> None:
        for number in _ENDING:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    def ask(number: signal.Signals) -> None:
        release()
        if not asked.done():
            asked.set_result(number)

    for number in _ENDING:
        loop.add_signal_handler(number, ask, number)
    try:
        yield asked
    finally:
        release()


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


async def _attend(runtime: Runtime, subject: Subject, asked: asyncio.Future[signal.Signals], show: Figures) -> bool:
    """Shows figures until the run has ended. True if it was asked to end before that. Raises the run's error.

    Printing is left to a thread: a terminal that is held, or a full pipe, does not hold the run.
    """
    stopped = False
    waiting = asyncio.create_task(runtime.wait())
    either: list[asyncio.Future[Any]] = [waiting, asked]
    try:
        await asyncio.to_thread(show.start, subject, runtime.statistics())
        while not (waiting.done() or asked.done()):
            await asyncio.wait(either, timeout=show.period, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.to_thread(show.figures, runtime.statistics())
        stopped = not waiting.done()
        show.close()
        if stopped:
            text = f"{asked.result().name}: a last snapshot, then the end; once more ends it at once"
            show.say(
                "stopping", text if subject.state else f"{asked.result().name}: the end", reason=asked.result().name
            )
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
