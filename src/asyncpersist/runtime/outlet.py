"""One sink of a run: a bounded queue of epochs and barriers, and the task that carries them to the writer."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from asyncpersist.columnar.delta import Delta
from asyncpersist.errors import AsyncPersistError, OutputError
from asyncpersist.io.sink import Position, SinkWriter

__all__ = ["Outlet"]


@dataclass(frozen=True, slots=True)
class _Epoch:
    number: int
    delta: Delta
    size: int


class Outlet:
    """Keeps order: a barrier is answered once everything put before it is durable.

    `put` waits while more than `bound` bytes are queued. `run` ends only by an error or by being cancelled. `name` is
    what the sink writes to, for messages.
    """

    def __init__(self, writer: SinkWriter, *, name: str, bound: int) -> None:
        self._writer = writer
        self._name = name
        self._bound = bound
        self._queue: deque[_Epoch | int | asyncio.Future[Position]] = deque()
        self._size = 0
        self._filled = asyncio.Event()
        self._room = asyncio.Event()

    @property
    def moved(self) -> bool:
        """See `SinkWriter.moved`."""
        return self._writer.moved

    async def put(self, epoch: int, delta: Delta) -> None:
        """Queues one epoch's change, once there is room for it."""
        size = int(delta.rows.estimated_size()) + 8 * delta.height
        while self._size and self._size + size > self._bound:
            self._room.clear()
            await self._room.wait()
        self._size += size
        self._append(_Epoch(epoch, delta, size))

    def end_epoch(self, epoch: int) -> None:
        """Says that all of an epoch has been put."""
        self._append(epoch)

    def barrier(self) -> asyncio.Future[Position]:
        """The position after everything put so far, once it is durable."""
        answer: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        self._append(answer)
        return answer

    async def begin(self, epoch: int | None) -> None:
        """See `SinkWriter.begin`; before `run`."""
        await self._writer.begin(epoch)

    async def end(self) -> None:
        """See `SinkWriter.end`; with nothing left in the queue."""
        await self._writer.end()

    async def run(self) -> None:
        """Writes what is queued, in order. Raises what the writer raises, and `OutputError` for a system's error."""
        while True:
            while not self._queue:
                self._filled.clear()
                await self._filled.wait()
            try:
                await self._carry(self._queue.popleft())
                if not self._queue:
                    await self._writer.idle()
            except OSError as exc:
                if isinstance(exc, AsyncPersistError) or self._writer.calls_out:
                    raise
                raise OutputError(
                    f"{self._name} cannot be written: {exc.strerror or exc}. Mend that and run again: "
                    "a run with persistence goes on from its last snapshot, nothing is lost."
                ) from exc

    async def _carry(self, item: _Epoch | int | asyncio.Future[Position]) -> None:
        if isinstance(item, int):
            await self._writer.end_epoch(item)
            return
        if isinstance(item, _Epoch):
            await self._writer.write(item.number, item.delta)
            self._size -= item.size
            self._room.set()
            return
        position = await self._writer.flush()
        if not item.done():
            item.set_result(position)

    def _append(self, item: _Epoch | int | asyncio.Future[Position]) -> None:
        self._queue.append(item)
        self._filled.set()
