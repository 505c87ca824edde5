"""What makes a test of functions short: rows in, epoch by epoch, and what came out."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import asyncpersist as ap
from asyncpersist.io.python import ConnectorSubject
from asyncpersist.persistence import Config

Row = dict[str, Any]
Change = tuple[str, Row]
"""("+" or "-", row)"""


class Steps(ConnectorSubject):
    """Gives and removes rows; each step is an epoch, taken once the one before has come out."""

    def __init__(self, steps: Sequence[Sequence[Change]]) -> None:
        self.steps = list(steps)
        self.given = 0
        self.told = asyncio.Event()

    async def run(self) -> None:
        for step in self.steps[self.given :]:
            self.told.clear()
            self.given += 1
            for sign, row in step:
                await (self.next(**row) if sign == "+" else self.remove(**row))
            self.commit()
            if step:
                await self.told.wait()

    def offset(self) -> Any:
        return self.given

    def seek(self, offset: Any) -> None:
        self.given = offset


class Outcome:
    """What a table told, in order, and what it holds in the end."""

    def __init__(self) -> None:
        self.changes: list[tuple[Row, int, bool]] = []

    def take(self, key: Any, row: Row, time: int, is_addition: bool) -> None:
        self.changes.append((row, time, is_addition))

    @property
    def rows(self) -> list[Row]:
        """What it holds, in the order in which it came; what was taken back must have been there."""
        held: list[Row] = []
        for row, _, is_addition in self.changes:
            if is_addition:
                held.append(row)
            else:
                held.remove(row)
        return held

    def counted(self) -> Counter[str]:
        return Counter(map(repr, self.rows))


async def outcome(
    build: Callable[[ap.Table], ap.Table],
    schema: type[ap.Schema],
    *steps: Sequence[Change],
    config: Config | None = None,
    removes: bool = False,
) -> Outcome:
    """Runs what `build` makes of a source that gives `steps`; with `removes`, of one whose rows have no ids."""
    told = Outcome()
    subject = Steps(steps)
    with ap.Graph() as graph:
        table = ap.io.python.read(subject, schema=schema, name="rows", autocommit_duration_ms=60_000)
        out = build(table)
        if removes:  # ids of rows would not let them be removed by their values
            names = out.column_names()
            out = out.groupby(*names).reduce(*(ap.this[name] for name in names), copies=ap.reducers.count())
            table = table.reduce(n=ap.reducers.count(), a=ap.reducers.sum(ap.this.a))
        ap.io.subscribe(out, told.take)
        ap.io.subscribe(table, lambda **_: None, on_time_end=lambda time: subject.told.set())
    await ap.run(graph, persistence_config=config)
    return told


def plus(*rows: Row) -> list[Change]:
    return [("+", row) for row in rows]


def minus(*rows: Row) -> list[Change]:
    return [("-", row) for row in rows]
