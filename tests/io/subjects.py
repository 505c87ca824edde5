"""Reading subjects by hand, for the tests of rows from Python."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import asyncpersist as ap
from asyncpersist.columnar.delta import ID
from asyncpersist.graph.node import OperatorNode, SourceNode
from asyncpersist.io.python import ConnectorSubject
from asyncpersist.io.source import Batch, Needs, SourceReader


class Item(ap.Schema):
    n: int
    word: str = "-"
    price: float | None


class Given(ConnectorSubject):
    """Gives rows in a coroutine, and keeps count of them."""

    def __init__(self, rows: Iterable[dict[str, Any]]) -> None:
        self.rows = rows
        self.given = 0
        self.stopped = 0

    async def run(self) -> None:
        for row in self.rows:
            self.given += 1
            await self.next(**row)

    def on_stop(self) -> None:
        self.stopped += 1


class GivenInThread(Given):
    """The same in a thread."""

    def run(self) -> None:  # type: ignore[override]
        for row in self.rows:
            self.given += 1
            self.next(**row)


class Does(ConnectorSubject):
    """Does in a coroutine whatever it is told."""

    def __init__(self, does: Callable[[ConnectorSubject], Any]) -> None:
        self.does = does

    async def run(self) -> None:
        result = self.does(self)
        if result is not None:
            await result


def source_of(table: ap.Table) -> SourceNode:
    node = table.node.inputs[0] if isinstance(table.node, OperatorNode) else table.node
    assert isinstance(node, SourceNode)
    return node


@asynccontextmanager
async def opened(
    subject: ConnectorSubject,
    *,
    schema: type[ap.Schema] = Item,
    offsets: dict[str, Any] | None = None,
    ids: bool = False,
    **settings: Any,
) -> AsyncIterator[SourceReader]:
    """A reader of the subject, closed at the end."""
    source = source_of(ap.io.python.read(subject, schema=schema, **settings)).source
    await source.check(offsets, persistent=False)
    reader = await source.open(offsets, identity="source", needs=Needs(ids=ids))
    try:
        yield reader
    finally:
        await reader.aclose()


async def batches(subject: ConnectorSubject, **settings: Any) -> list[Batch]:
    """All that a subject gives."""
    found = []
    async with opened(subject, **settings) as reader:
        while (batch := await reader.read()) is not None:
            found.append(batch)
        assert await reader.read() is None
    return found


def rows(found: Iterable[Batch]) -> list[tuple[Any, ...]]:
    """The rows of batches, in order, without ids."""
    return [row for batch in found for row in batch.delta.rows.drop(ID, strict=False).iter_rows()]


def weights(found: Iterable[Batch]) -> list[int]:
    return [weight for batch in found for weight in batch.delta.weighted()["__weight"]]
