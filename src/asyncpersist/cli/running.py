"""Running a graph from the shell: it is attended until it ends by itself or by a signal."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import typer

from asyncpersist.checkpoint.manifest import Manifest
from asyncpersist.checkpoint.naming import give_name
from asyncpersist.cli.explaining import explain
from asyncpersist.cli.history import read_history
from asyncpersist.cli.printing import describe
from asyncpersist.cli.printing_thread import PrintingThread
from asyncpersist.cli.run_figures import Figures, Subject, figures
from asyncpersist.cli.run_signals import asked_to_end
from asyncpersist.cli.run_target import load_graph
from asyncpersist.cli.state_location import open_state
from asyncpersist.clock import SystemClock
from asyncpersist.disk import Disk
from asyncpersist.graph.context import Graph
from asyncpersist.graph.plan import plan_graph
from asyncpersist.persistence import Config
from asyncpersist.runtime.runtime import Runtime

__all__ = ["Order", "carry_out"]

_PATIENCE = 1.0
"""Seconds that the end waits for what is still to be printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be run. `state`: where the newest snapshot is to be found that the run commits, None if it does none.

    `keep`: a name for the last one.
    """

    target: str
    config: Config | None
    state: str | None = None
    takeover: bool = False
    keep: str | None = None

    @property
    def end(self) -> str:
        """How it ends by itself."""
        return "end of input" if self.config is None or self.config.continue_after_replay else "end of the replay"


def carry_out(order: Order, *, every: float, as_json: bool, show_traceback: bool) -> NoReturn:
    """Runs it, shows how it goes every so many seconds, and exits the process.

    SIGINT and SIGTERM end it; a second one ends it at once. Exit codes: 0, after SIGINT 130, after an error 1.
    """
    show, printing = figures(as_json=as_json, every=every), PrintingThread()
    # Until the run handles it, an interrupt ends the process at once: an import cannot be interrupted from the loop.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    code = 1
    try:
        code = asyncio.run(_run(order, show, printing))
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


async def _run(order: Order, show: Figures, printing: PrintingThread) -> int:
    """The exit code. Raises what loading the graph and running it raise."""
    graph = load_graph(order.target)
    subject = _subject(order, graph)
    runtime = Runtime(graph, persistence_config=order.config, takeover=order.takeover)
    with asked_to_end() as asked:
        if not await _entered(runtime, asked):
            reason = asked.result().name
            printing.give(partial(show.say, "stopped", f"{reason}: ended before the state was loaded", reason=reason))
            return _code(asked)
        stopped = await _attend(runtime, subject, asked, show, printing)
        reason = asked.result().name if stopped else order.end
        if order.keep is not None and order.state is not None:
            async with open_state(order.state) as store:
                await give_name(store, order.keep, None, clock=SystemClock())
        head = await _head(order.state)
        text = f"{reason}: {runtime.statistics().rows_read:,} rows read in this run"
        if head is not None:
            text += f"; committed: {describe(head)}"
        facts = {**runtime.statistics()._asdict(), "committed": _committed(head)}
        printing.give(partial(show.say, "ended", text, reason=reason, **facts))
        return _code(asked) if stopped else 0


def _subject(order: Order, graph: Graph) -> Subject:
    config = order.config
    plan = plan_graph(graph, persistent=config is not None)
    return Subject(
        target=order.target,
        state=None if config is None else config.backend.open_store(Disk()).describe(),
        mode=None if config is None else config.persistence_mode.value,
        access=None if config is None else config.snapshot_access.value,
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
            writes = subject.state is not None and subject.access != "replay"
            text = f"{reason}: {'a last snapshot, then the end' if writes else 'the end'}; once more ends it at once"
            printing.give(partial(show.say, "stopping", text, reason=reason))
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
