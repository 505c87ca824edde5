"""Where sources leave their batches for the next epoch: bounded by bytes, so that back-pressure reaches the source."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from asyncpersist.io.source import Batch

__all__ = ["Intake"]


class Intake:
    """Queues of batches, one per source, each bounded by `bound` bytes (a single larger batch still passes).

    All that has arrived when an epoch begins goes into it; the first epoch waits until every source that is not
    `streaming` has delivered or ended. Used from one loop; `put` is called by one task per source.
    """

    def __init__(self, streaming: Sequence[bool], *, bound: int, wake: asyncio.Event) -> None:
        self._queues: list[list[Batch]] = [[] for _ in streaming]
        self._sizes = [0] * len(streaming)
        self._spoken = list(streaming)
        self._ended = [False] * len(streaming)
        self._room = [asyncio.Event() for _ in streaming]
        self._bound = bound
        self._wake = wake

    async def put(self, source: int, batch: Batch) -> None:
        """Takes a batch, once there is room for it."""
        while self._sizes[source] and self._sizes[source] + batch.size > self._bound:
            self._room[source].clear()
            await self._room[source].wait()
        self._queues[source].append(batch)
        self._sizes[source] += batch.size
        self._spoken[source] = True
        self._wake.set()

    def end(self, source: int) -> None:
        """Says that a source has no more."""
        self._ended[source] = True
        self._spoken[source] = True
        self._wake.set()

    def end_all(self) -> None:
        """Says that no source has anything."""
        for source in range(len(self._queues)):
            self.end(source)

    @property
    def ready(self) -> bool:
        """Whether an epoch can begin."""
        return all(self._spoken) and any(self._queues)

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left and nothing will come."""
        return all(self._ended) and not any(self._queues)

    def take(self) -> list[list[Batch]]:
        """All that has arrived, by source."""
        taken = self._queues
        self._queues = [[] for _ in taken]
        self._sizes = [0] * len(taken)
        for room in self._room:
            room.set()
        return taken
