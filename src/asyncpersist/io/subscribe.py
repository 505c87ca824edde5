"""A table's changes as calls of the user's functions."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from asyncpersist.clock import Clock
from asyncpersist.columnar.delta import ID, Delta
from asyncpersist.columnar.python_values import values_of
from asyncpersist.disk import Disk
from asyncpersist.dtypes import DType, Pointer
from asyncpersist.errors import Unsupported
from asyncpersist.graph.context import current_graph
from asyncpersist.graph.node import SinkNode
from asyncpersist.io.raised_in import noting
from asyncpersist.io.render import OnRestart
from asyncpersist.io.sink import Position, Sink, SinkWriter

if TYPE_CHECKING:
    from asyncpersist.table.table import Table

__all__ = ["OnChange", "OnTime", "SubscribeSink", "subscribe"]

_ROWS = 256
"""Rows that are made Python values at once."""
_TURN = 0.001
"""Seconds after which delivery lets the loop go on."""

_POINTER = DType("pointer")


class OnChange(Protocol):
    """Told of one row that came or went."""

    def __call__(
        self, *, key: Pointer, row: dict[str, Any], time: int, is_addition: bool
    ) -> Awaitable[None] | None: ...


OnTime = Callable[[int], Awaitable[None] | None]
"""Told of an epoch."""


class SubscribeSink(Sink):
    """Calls functions with the changes of a table with `columns`; `label` tells it from the other sinks of a graph."""

    needs_ids = True

    def __init__(
        self,
        columns: Mapping[str, DType],
        label: str,
        on_change: OnChange,
        on_end: Callable[[], Awaitable[None] | None] | None,
        on_time_end: OnTime | None,
        on_recovery: OnTime | None,
        overwrites: bool = False,
    ) -> None:
        self._columns = dict(columns)
        self._label = label
        self._on_change = on_change
        self._on_end = on_end
        self._on_time_end = on_time_end
        self._on_recovery = on_recovery
        self._overwrites = overwrites

    @property
    def identity(self) -> str:
        """The label."""
        return self._label

    @property
    def overwrites(self) -> bool:
        return self._overwrites

    def initial(self) -> Position:
        return {}

    async def check(self, position: Position | None, *, persistent: bool, clean: bool = False) -> None:
        """Refuses nothing: a callback has no position."""

    async def open(
        self, position: Position | None, *, persistent: bool, exclusive: bool, disk: Disk, clock: Clock
    ) -> SinkWriter:
        functions = (self._on_change, self._on_end, self._on_time_end, self._on_recovery)
        return _Calling(self._columns, self._label, clock, *functions)


class _Calling(SinkWriter):
    calls_out = True

    def __init__(
        self,
        columns: Mapping[str, DType],
        label: str,
        clock: Clock,
        on_change: OnChange,
        on_end: Callable[[], Awaitable[None] | None] | None,
        on_time_end: OnTime | None,
        on_recovery: OnTime | None,
    ) -> None:
        self._columns = columns
        self._label = label
        self._clock = clock
        self._on_change = on_change
        self._on_end = on_end
        self._on_time_end = on_time_end
        self._on_recovery = on_recovery

    async def begin(self, epoch: int | None) -> None:
        if epoch is not None and self._on_recovery is not None:
            with self._noting("on_recovery"):
                await _settled(self._on_recovery(epoch))

    async def write(self, epoch: int, delta: Delta) -> None:
        with self._noting("on_change"):
            if delta.weights is None or not (negative := delta.weights < 0).any():
                await self._deliver(epoch, delta, is_addition=True)
                return
            for part, is_addition in ((negative, False), (~negative, True)):
                chosen = np.flatnonzero(part)
                if chosen.size:
                    change = Delta(delta.rows[chosen], np.abs(delta.weights[chosen]))
                    await self._deliver(epoch, change, is_addition=is_addition)

    async def end_epoch(self, epoch: int) -> None:
        if self._on_time_end is not None:
            with self._noting("on_time_end"):
                await _settled(self._on_time_end(epoch))

    async def flush(self) -> Position:
        return {}

    async def end(self) -> None:
        if self._on_end is not None:
            with self._noting("on_end"):
                await _settled(self._on_end())

    async def aclose(self) -> None:
        """There is nothing to free."""

    def _noting(self, function: str) -> AbstractContextManager[None]:
        return noting(f"{self._label}: raised in its {function}")

    async def _deliver(self, epoch: int, delta: Delta, *, is_addition: bool) -> None:
        """Calls `on_change` for each row as often as its (positive) weight says."""
        on_change, monotonic, names = self._on_change, self._clock.monotonic, list(self._columns)
        turned = monotonic()
        for start in range(0, delta.height, _ROWS):
            rows = delta.rows[start : start + _ROWS]
            keys = values_of(rows[ID], _POINTER)
            columns = [values_of(rows[name], dtype) for name, dtype in self._columns.items()]
            times = [1] * rows.height if delta.weights is None else delta.weights[start : start + _ROWS].tolist()
            for key, count, *values in zip(keys, times, *columns, strict=True):
                for _ in range(count):
                    called = on_change(
                        key=key, row=dict(zip(names, values, strict=True)), time=epoch, is_addition=is_addition
                    )
                    if called is not None:
                        await _settled(called)
                    if monotonic() - turned > _TURN:
                        await asyncio.sleep(0)
                        turned = monotonic()


def subscribe(
    table: Table,
    on_change: OnChange,
    on_end: Callable[[], Awaitable[None] | None] | None = None,
    on_time_end: OnTime | None = None,
    *,
    on_recovery: OnTime | None = None,
    name: str | None = None,
    delivery: Literal["immediate", "committed"] = "immediate",
    on_restart: OnRestart = "continue",
) -> None:
    """Calls `on_change(key=, row=, time=, is_addition=)` for every row that comes or goes.

    `key` is the row's id, a `Pointer` that is stable over restarts; `row` a dict of Python values; `time` the epoch.
    Of one epoch, rows that go come first. `on_time_end(time)` is called after an epoch's changes, `on_end()` once the
    input has ended and everything is delivered. Each may be ``def`` or ``async def``; they are called in the loop, one
    at a time. What one raises ends the run.

    With persistence a restart delivers what is new. After a crash, epochs that were not committed never come again
    under their number: their rows come in later epochs. `on_recovery(time)` is called before anything else with the
    last epoch that holds (0: none does), so that what was told of later ones can be dropped.

    `name` makes the subscription the same one over changes of the graph; the functions are no part of what it is. A new
    subscription is told all rows that are there. One whose table is computed in another way since the last run has been
    told what may not hold any more: that is refused, unless `on_restart="overwrite"` says that it may be told all rows
    that are there, as if it were new.

    Raises `TypeError` and `ValueError` for wrong arguments, among them functions that cannot be called so, and
    `Unsupported` for `delivery="committed"`, which is not built yet.
    """
    from asyncpersist.table.table import Table

    if not isinstance(table, Table):
        raise TypeError(f"io.subscribe takes a table first, got {table!r}")
    functions = {"on_change": on_change, "on_end": on_end, "on_time_end": on_time_end, "on_recovery": on_recovery}
    for what, function in functions.items():
        if not callable(function) and (function is not None or what == "on_change"):
            raise TypeError(f"io.subscribe: {what} must be a function, got {function!r}")
    if name is not None and not isinstance(name, str):
        raise TypeError(f"io.subscribe: name must be a str, got {name!r}")
    if delivery == "committed":
        raise Unsupported('io.subscribe: delivery="committed" is not built yet; "immediate" is')
    if delivery != "immediate":
        raise ValueError(f'io.subscribe: delivery must be "immediate" or "committed", got {delivery!r}')
    if on_restart not in ("continue", "overwrite"):
        raise ValueError(f'io.subscribe: on_restart must be "continue" or "overwrite", got {on_restart!r}')
    _refuse_misfit("on_change", on_change, "key=, row=, time=, is_addition=", key=0, row={}, time=0, is_addition=True)
    _refuse_misfit("on_end", on_end, "no arguments")
    _refuse_misfit("on_time_end", on_time_end, "one argument, the time", 0)
    _refuse_misfit("on_recovery", on_recovery, "one argument, the time", 0)
    graph = current_graph()
    label = f"subscription {name!r}" if name is not None else f"subscription {len(graph.sinks) + 1}"
    sink = SubscribeSink(
        table.columns, label, on_change, on_end, on_time_end, on_recovery, overwrites=on_restart == "overwrite"
    )
    definition = {
        "connector": "subscribe",
        "columns": {column: str(dtype) for column, dtype in table.columns.items()},
    }
    graph.add(SinkNode(kind="sink", definition=definition, inputs=(table.node,), name=name, sink=sink))


def _refuse_misfit(what: str, function: Any, takes: str, *args: Any, **kwargs: Any) -> None:
    """Raises `TypeError` if the function cannot be called so, as far as its signature tells."""
    if function is None:
        return
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as exc:
        raise TypeError(f"io.subscribe: {what} is called with {takes}, which {function!r} cannot take: {exc}") from exc


async def _settled(called: Awaitable[None] | None) -> None:
    if inspect.isawaitable(called):
        await called
