"""A run, as an application sees it."""

from __future__ import annotations

import asyncio
from functools import partial
from types import TracebackType
from typing import Literal

import anyio

from asyncpersist.checkpoint.manifest import Manifest
from asyncpersist.checkpoint.protocol import check_name
from asyncpersist.clock import Clock, SystemClock
from asyncpersist.disk import Disk
from asyncpersist.errors import GraphError, RunStopped
from asyncpersist.graph.context import Graph, current_graph
from asyncpersist.graph.plan import Plan, plan_graph
from asyncpersist.persistence import Config, SnapshotAccess
from asyncpersist.persistence.keeping import keeping_of
from asyncpersist.runtime.engine import Engine
from asyncpersist.runtime.statistics import Statistics

__all__ = ["Runtime", "run"]

_running: set[int] = set()
"""The ids of the graphs that run now: one graph runs once at a time."""


class Runtime:
    """Runs a graph inside the caller's event loop.

    ``async with Runtime(graph, persistence_config=config) as runtime:`` returns once the state is loaded; errors of
    recovery are raised there. Leaving takes a last snapshot. A cancellation does not wait for functions that are being
    called: they are cancelled as well, and the last snapshot is then the one before their epoch. A failure meanwhile
    does not cancel the body: `wait`, leaving, and pending calls raise it, and `ready` turns false. Entering and leaving
    may happen in different tasks.

    `graph`: what to run, by default the graph that definitions go to here.
    `persistence_config`: where and how often snapshots are kept; None keeps nothing.
    `takeover` (default False): go on even if a run that still lives owns the root; that one is fenced.
    `shutdown_timeout` (default 30): seconds a last snapshot may wait for a store that does not answer.
    `disk` and `clock`: the doors to the local disk and to time, for tests.
    """

    def __init__(
        self,
        graph: Graph | None = None,
        *,
        persistence_config: Config | None = None,
        takeover: bool = False,
        shutdown_timeout: float = 30.0,
        disk: Disk | None = None,
        clock: Clock | None = None,
    ) -> None:
        if graph is not None and not isinstance(graph, Graph):
            raise TypeError(f"graph must be an asyncpersist.Graph, not {type(graph).__name__}")
        if persistence_config is not None and not isinstance(persistence_config, Config):
            given = type(persistence_config).__name__
            raise TypeError(f"persistence_config must be an asyncpersist.persistence.Config, not {given}")
        if not isinstance(takeover, bool):
            raise TypeError(f"takeover must be a bool, not {type(takeover).__name__}")
        if not isinstance(shutdown_timeout, int | float) or isinstance(shutdown_timeout, bool):
            raise TypeError(f"shutdown_timeout must be a number of seconds, not {type(shutdown_timeout).__name__}")
        if not shutdown_timeout >= 0:
            raise ValueError(f"shutdown_timeout must be at least 0 seconds, not {shutdown_timeout}")
        self._graph = current_graph() if graph is None else graph
        self._config = persistence_config
        self._takeover = takeover
        self._shutdown_timeout = shutdown_timeout
        self._disk = Disk() if disk is None else disk
        self._clock = SystemClock() if clock is None else clock
        self._engine: Engine | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Runtime:
        if self._task is not None:
            raise RuntimeError("a Runtime runs once; make another one")
        if id(self._graph) in _running:
            raise GraphError("this graph is already running; a graph runs once at a time")
        self._engine = Engine(
            self._plan(),
            partial(self._plan, rules=1),
            self._config,
            takeover=self._takeover,
            shutdown_timeout=self._shutdown_timeout,
            disk=self._disk,
            clock=self._clock,
        )
        _running.add(id(self._graph))
        self._task = task = asyncio.create_task(self._engine.run(), name="asyncpersist")
        task.add_done_callback(self._ended)
        try:
            await asyncio.wait({task, self._engine.started}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self._abort()
            raise
        if task.done():
            task.result()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and issubclass(kind, asyncio.CancelledError) and self._engine is not None:
            self._engine.cancel_calls()
        try:
            await self.stop()
        except Exception as failure:
            if error is None:
                raise
            if failure is not error:
                error.add_note(f"and the run failed: {type(failure).__name__}: {failure}")

    @property
    def ready(self) -> bool:
        """Whether the run is under way: started, not ended, not failed."""
        engine, task = self._engine, self._task
        return engine is not None and task is not None and engine.started.done() and not task.done()

    async def wait(self) -> None:
        """Returns once the run has ended by itself: every source ended, everything written and committed.

        Cancelling the call does not end the run. Raises the run's error.
        """
        task = self._entered()
        await asyncio.wait({task})
        self._outcome(task)

    async def stop(self) -> None:
        """Ends the run with a last snapshot; input that was not stepped is read again by the next run.

        Cancelling the call ends the run at once, without that snapshot. Raises the run's error. Idempotent.
        """
        task = self._entered()
        assert self._engine is not None
        self._engine.stop()
        with anyio.CancelScope(shield=True):
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError:
                await self._abort()
                raise
        self._outcome(task)

    async def snapshot(self, *, keep: str | None = None) -> Manifest:
        """Takes a snapshot whose barrier is after this call, and returns what was committed.

        `keep`: a name by which it is kept for good, whatever `Config` says; one that had the name loses it.

        Raises `RunStopped` if the run ends before it is committed, or keeps nothing; `ValueError` for what cannot be a
        name.
        """
        if keep is not None:
            check_name(keep)
        if self._entered().done():
            raise RunStopped("the run has ended")
        assert self._engine is not None
        return await self._engine.snapshot(keep)

    def statistics(self) -> Statistics:
        """Figures of the run as it stands."""
        self._entered()
        assert self._engine is not None
        return self._engine.statistics()

    def _plan(self, rules: Literal[1, 2] = 2) -> Plan:
        # A recording may be given to another graph, which asks for ids.
        records = self._config is not None and self._config.snapshot_access is SnapshotAccess.RECORD
        kept = self._config is not None and keeping_of(self._config).states
        persistent = self._config is not None
        return plan_graph(self._graph, persistent=persistent, kept=kept, identified=records, rules=rules)

    def _outcome(self, task: asyncio.Task[None]) -> None:
        """Raises the run's error, if it ended with one."""
        if task.cancelled():
            raise RunStopped("the run was ended at once, without a last snapshot: a call of stop was cancelled")
        # Not `result()`, which from the second call on leaves out where the error came from.
        error = task.exception()
        if error is not None:
            raise error

    def _entered(self) -> asyncio.Task[None]:
        if self._task is None:
            raise RuntimeError("the Runtime was not entered: `async with Runtime(...) as runtime:`")
        return self._task

    async def _abort(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait({self._task})

    def _ended(self, task: asyncio.Task[None]) -> None:
        _running.discard(id(self._graph))
        if not task.cancelled():
            task.exception()


async def run(
    graph: Graph | None = None,
    *,
    persistence_config: Config | None = None,
    takeover: bool = False,
    shutdown_timeout: float = 30.0,
) -> None:
    """Runs a graph until its sources end: `Runtime` and `wait`, with the same arguments.

    Cancelling it takes a last snapshot, as `Runtime` does. Raises the run's error.
    """
    async with Runtime(
        graph,
        persistence_config=persistence_config,
        takeover=takeover,
        shutdown_timeout=shutdown_timeout,
    ) as runtime:
        await runtime.wait()
