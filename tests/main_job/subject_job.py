"""A job for the kill tests that gets its rows from Python, with offsets; `job` is the server that runs it.

What it gives follows from the number of the event, so that anyone can say what must be there after any number of them.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import asyncpersist as ap
from asyncpersist.io.python import ConnectorSubject
from tests.main_job.job import config

_PACE = 0.001
_AT_ONCE = 10
"""Events between two pauses, so that a process is killed in the middle of them."""


class Sale(ap.Schema):
    item: str
    amount: int


class Price(ap.Schema):
    item: str = ap.column_definition(primary_key=True)
    amount: int


def event(number: int, *, keyed: bool) -> tuple[dict[str, Any], bool]:
    """The row of an event, and whether it comes or goes."""
    if not keyed and number % 5 == 4:
        return event(number - 1, keyed=False)[0], False
    rng = random.Random(number)
    row = {"item": f"item-{rng.randrange(30)}", "amount": rng.randrange(100)}
    if keyed and rng.random() < 0.2:
        del row["amount"]
        return row, False
    return row, True


def totals(count: int) -> set[tuple[str, ...]]:
    """(item, sales, amount) after so many events."""
    sales: Counter[str] = Counter()
    amounts: Counter[str] = Counter()
    for row, comes in (event(number, keyed=False) for number in range(count)):
        sales[row["item"]] += 1 if comes else -1
        amounts[row["item"]] += row["amount"] if comes else -row["amount"]
    return {(item, str(n), str(amounts[item])) for item, n in sales.items() if n}


def prices(count: int) -> set[tuple[str, ...]]:
    """(item, amount) after so many events with a primary key."""
    live: dict[str, int] = {}
    for row, comes in (event(number, keyed=True) for number in range(count)):
        if comes:
            live[row["item"]] = row["amount"]
        else:
            live.pop(row["item"], None)
    return {(item, str(amount)) for item, amount in live.items()}


class Events(ConnectorSubject):
    """Events up to `count`, in a coroutine."""

    def __init__(self, count: int, *, keyed: bool) -> None:
        self.count = count
        self.keyed = keyed
        self.given = 0

    async def run(self) -> None:
        while self.given < self.count:
            await self.give()
            if self.given % _AT_ONCE == 0:
                await asyncio.sleep(_PACE)

    def give(self) -> Any:
        row, comes = event(self.given, keyed=self.keyed)
        self.given += 1
        return self.next(**row) if comes else self.remove(**row)

    def offset(self) -> Any:
        return {"given": self.given}

    def seek(self, offset: Any) -> None:
        self.given = offset["given"]


class EventsInThread(Events):
    """The same in a thread."""

    def run(self) -> None:  # type: ignore[override]
        pause = threading.Event()
        while self.given < self.count:
            self.give()
            if self.given % _AT_ONCE == 0:
                pause.wait(_PACE)


def define(output: Path, count: int, *, keyed: bool, threaded: bool) -> ap.Graph:
    kind = EventsInThread if threaded else Events
    with ap.Graph() as graph:
        table = ap.io.python.read(kind(count, keyed=keyed), schema=Price if keyed else Sale, name="events")
        if not keyed:
            table = table.groupby(ap.this.item).reduce(
                ap.this.item, n=ap.reducers.count(), amount=ap.reducers.sum(ap.this.amount)
            )
        ap.io.csv.write(table, output)
    return graph


async def run(order: dict[str, Any]) -> None:
    """Runs the job to its end."""
    graph = define(Path(order["output"]), order["count"], keyed=order["keyed"], threaded=order["threaded"])
    await ap.run(graph, persistence_config=config(order["state"], retain_snapshots=3))
