"""Logs given again: as one epoch, or epoch by epoch as they were recorded.

Where a log was compacted, rows of several epochs became one. Up to the last epoch of which that is so in any log, all
are given together, under that epoch: so no moment is shown that never was.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field

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
        self.compacted_until = max((ref.last_epoch for ref in refs if ref.compacted), default=0)
        """The last epoch that cannot be told from those before it; 0: all can be."""
        self._together_until = max((ref.last_epoch for ref in refs), default=0) if together else self.compacted_until

    async def rows(self) -> AsyncGenerator[tuple[int, str, Delta], None]:
        """(epoch, source, rows) in the order of the epochs; of one epoch in any number of pieces."""
        until = self._together_until
        for source, log in self._logs.items():
            async for frame in log.frames(until=until):
                yield until, source, as_delta(frame)
        cursors = [_Cursor(source, log.frames(after=until)) for source, log in self._logs.items()]
        try:
            for cursor in cursors:
                await cursor.advance()
            while live := [cursor for cursor in cursors if cursor.epoch is not None]:
                epoch = min(cursor.epoch for cursor in live if cursor.epoch is not None)
                for cursor in live:
                    while cursor.epoch == epoch:
                        yield epoch, cursor.source, cursor.delta
                        await cursor.advance()
        finally:
            for cursor in cursors:
                await cursor.frames.aclose()


@dataclass(slots=True)
class _Cursor:
    """A place in a log: the rows of one epoch, or a part of them. `epoch` None: there are no more."""

    source: str
    frames: AsyncGenerator[pl.DataFrame, None]
    epoch: int | None = None
    _frame: pl.DataFrame = field(default_factory=pl.DataFrame)
    _edges: list[int] = field(default_factory=list)

    @property
    def delta(self) -> Delta:
        return as_delta(self._frame[self._edges[0] : self._edges[1]])

    async def advance(self) -> None:
        """To the next epoch."""
        self._edges = self._edges[1:]
        if len(self._edges) < 2:
            frame = await anext(self.frames, None)
            if frame is None:
                self.epoch = None
                return
            epochs = frame[codec.EPOCH].to_numpy()
            self._frame = frame
            self._edges = [0, *(np.flatnonzero(np.diff(epochs)) + 1).tolist(), frame.height]
        self.epoch = int(self._frame[codec.EPOCH][self._edges[0]])


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
