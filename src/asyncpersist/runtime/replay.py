"""Logs given again: as one epoch, or epoch by epoch as they were recorded.

Where a log was compacted, rows of several epochs became one. Up to the last epoch of which that is so in any log, all
are given together, under that epoch: so no moment is shown that never was.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl

from asyncpersist.columnar import codec
from asyncpersist.columnar.delta import Delta
from asyncpersist.runtime.log_reading import LogReader, as_delta

__all__ = ["Replay", "in_epochs"]


class Replay:
    """`logs` by source. `together`: all of it is one epoch."""

    def __init__(self, logs: Mapping[str, LogReader], *, together: bool) -> None:
        self._logs = logs
        refs = [ref for log in logs.values() for ref in log.refs]
        # The last epoch that is not, or cannot be, told from those before it; 0: all are.
        self._together_until = max((ref.last_epoch for ref in refs if together or ref.compacted), default=0)

    async def rows(self) -> AsyncGenerator[tuple[int, str, Delta], None]:
        """(epoch, source, rows) in the order of the epochs; of one epoch in any number of pieces."""
        until = self._together_until
        for source, log in self._logs.items():
            async with aclosing(log.read(as_delta, until=until)) as deltas:
                async for delta in deltas:
                    yield until, source, delta
        cursors = [_Cursor(source, _by_epochs(log, after=until)) for source, log in self._logs.items()]
        try:
            for cursor in cursors:
                await cursor.advance()
            while live := [cursor for cursor in cursors if cursor.head is not None]:
                epoch = min(cursor.head[0] for cursor in live if cursor.head is not None)
                for cursor in live:
                    while cursor.head is not None and cursor.head[0] == epoch:
                        yield epoch, cursor.source, cursor.head[1]
                        await cursor.advance()
        finally:
            for cursor in cursors:
                await cursor.pieces.aclose()


@dataclass(slots=True)
class _Cursor:
    """A place in a log. `head`: an epoch, and its rows or a part of them; None: there are no more."""

    source: str
    pieces: AsyncGenerator[tuple[int, Delta], None]
    head: tuple[int, Delta] | None = None

    async def advance(self) -> None:
        self.head = await anext(self.pieces, None)


async def _by_epochs(log: LogReader, *, after: int) -> AsyncGenerator[tuple[int, Delta], None]:
    async with aclosing(log.read(_cut, after=after)) as lists:
        async for pieces in lists:
            for piece in pieces:
                yield piece


def _cut(frame: pl.DataFrame) -> list[tuple[int, Delta]]:
    """The rows of a log by their epochs."""
    epochs, whole = frame[codec.EPOCH].to_numpy(), as_delta(frame)
    edges = [0, *(np.flatnonzero(np.diff(epochs)) + 1).tolist(), frame.height]
    return [(int(epochs[start]), _part(whole, start, end)) for start, end in pairwise(edges)]


def _part(delta: Delta, start: int, end: int) -> Delta:
    rows = delta.rows.slice(start, end - start)
    weights = None if delta.weights is None else delta.weights[start:end]
    return Delta(rows, None if weights is None or (weights == 1).all() else weights)


async def in_epochs(
    rows: AsyncGenerator[tuple[int, str, Delta], None],
) -> AsyncGenerator[tuple[int, AsyncGenerator[tuple[str, Delta], None]], None]:
    """The rows of a `Replay` by epochs; each epoch's are to be read before the next one is asked for."""
    ahead = await anext(rows, None)

    async def of(epoch: int) -> AsyncGenerator[tuple[str, Delta], None]:
        nonlocal ahead
        while ahead is not None and ahead[0] == epoch:
            _, source, delta = ahead
            yield source, delta
            ahead = await anext(rows, None)

    try:
        while ahead is not None:
            yield ahead[0], of(ahead[0])
    finally:
        await rows.aclose()
