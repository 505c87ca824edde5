"""Outputs that go nowhere: a table is computed, with all that leads to it, and its changes are dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncpersist.clock import Clock
from asyncpersist.columnar.delta import Delta
from asyncpersist.disk import Disk
from asyncpersist.graph.context import current_graph
from asyncpersist.io import definitions
from asyncpersist.io.sink import Position, Sink, SinkWriter

if TYPE_CHECKING:
    from asyncpersist.table.table import Table

__all__ = ["NullSink", "write"]


def write(table: Table, *, name: str | None = None) -> None:
    """Computes a table and drops its changes: for measuring, and for what is computed for its side effects.

    Raises `TypeError` for wrong arguments.
    """
    definitions.check_table(table)
    ordinal = 1 + sum(isinstance(node.sink, NullSink) for node in current_graph().sinks)
    definitions.add_output(table, NullSink(ordinal), {"connector": "null"}, name=name)


class NullSink(Sink):
    """Takes everything and keeps nothing. `ordinal` tells those of one graph apart."""

    def __init__(self, ordinal: int) -> None:
        self._ordinal = ordinal

    @property
    def identity(self) -> str:
        return f"null output {self._ordinal}"

    @property
    def overwrites(self) -> bool:
        """Always: it has no readers."""
        return True

    def initial(self) -> Position:
        return {}

    async def check(self, position: Position | None, *, persistent: bool, clean: bool = False) -> None:
        pass

    async def open(
        self, position: Position | None, *, persistent: bool, exclusive: bool, disk: Disk, clock: Clock
    ) -> SinkWriter:
        return _NullWriter()


class _NullWriter(SinkWriter):
    async def write(self, epoch: int, delta: Delta) -> None:
        pass

    async def flush(self) -> Position:
        return {}

    async def aclose(self) -> None:
        pass
