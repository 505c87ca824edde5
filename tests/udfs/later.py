"""Runs with functions that answer when a test lets them: rows given by hand, what came out awaited."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import asyncpersist as ap
from asyncpersist.io.python import ConnectorSubject

Row = dict[str, Any]

PATIENCE = 30
"""Seconds after which a test that waits has failed."""


class Given(ConnectorSubject):
    """Gives and removes rows as a test says, each group of changes in an epoch; resumes after a restart."""

    def __init__(self) -> None:
        self.groups: list[list[tuple[str, Row]]] = []
        self.ends = False
        self._given = 0
        self._more = asyncio.Event()

    def give(self, *rows: Row, removed: tuple[Row, ...] = ()) -> None:
        self.groups.append([*(("-", row) for row in removed), *(("+", row) for row in rows)])
        self._more.set()

    def end(self) -> None:
        self.ends = True
        self._more.set()

    async def run(self) -> None:
        while True:
            self._more.clear()
            while self._given < len(self.groups):
                changes = self.groups[self._given]
                self._given += 1
                for sign, row in changes:
                    await (self.next(**row) if sign == "+" else self.remove(**row))
                self.commit()
            if self.ends:
                return
            await self._more.wait()

    def offset(self) -> Any:
        return self._given

    def seek(self, offset: Any) -> None:
        self._given = offset


class Asked:
    """A coroutine function that answers what it is told to, and notes what it is called with and what is cancelled."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.cancelled: list[Any] = []
        self._answers: dict[Any, asyncio.Future[Any]] = {}
        self._changed = asyncio.Event()

    async def __call__(self, a: Any) -> Any:
        self.calls.append(a)
        self._changed.set()
        try:
            value = await asyncio.shield(self._answer(a))
        except asyncio.CancelledError:
            self.cancelled.append(a)
            self._changed.set()
            raise
        if isinstance(value, BaseException):
            raise value
        return value

    def answer(self, a: Any, value: Any) -> None:
        """All calls for `a`, those to come too, return it, or raise it."""
        self._answer(a).set_result(value)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    def _answer(self, a: Any) -> asyncio.Future[Any]:
        return self._answers.setdefault(a, asyncio.get_running_loop().create_future())


class Seen:
    """What a table told: changes in order, and what it holds; what was taken back must have been there."""

    def __init__(self) -> None:
        self.changes: list[tuple[int, Row, bool]] = []
        self.rows: list[Row] = []
        self._told = asyncio.Event()

    def take(self, key: Any, row: Row, time: int, is_addition: bool) -> None:
        self.changes.append((time, row, is_addition))
        if is_addition:
            self.rows.append(row)
        else:
            self.rows.remove(row)

    def goes_on(self, before: Seen) -> None:
        """A restart: readers know what they were told before."""
        self.rows = list(before.rows)

    def end_epoch(self, time: int) -> None:
        self._told.set()

    async def until(self, *rows: Row) -> None:
        """Returns when the table holds just these rows."""
        async with asyncio.timeout(PATIENCE):
            while Counter(map(repr, self.rows)) != Counter(map(repr, rows)):
                self._told.clear()
                await self._told.wait()

    @property
    def in_order(self) -> list[str]:
        """The rows that it holds, put in order."""
        return sorted(map(repr, self.rows))

    @property
    def epochs(self) -> list[list[tuple[Row, bool]]]:
        """The changes by epochs."""
        times = dict.fromkeys(time for time, _, _ in self.changes)
        return [[(row, added) for at, row, added in self.changes if at == time] for time in times]


def seen(table: ap.Table, **settings: Any) -> Seen:
    """Subscribes to a table."""
    told = Seen()
    ap.io.subscribe(table, told.take, on_time_end=told.end_epoch, **settings)
    return told
