"""Following files by hand: scans are stepped, what is given is summed up, what is taken back is looked up."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any, Self

import msgspec

from asyncpersist.clock import Clock, SystemClock
from asyncpersist.columnar.delta import ID, PART, WEIGHT
from asyncpersist.io.file_source import FileSource
from asyncpersist.io.formats.format import Format
from asyncpersist.io.source import Batch, Needs, SourceReader

PARTS = Needs(parts=True)


class Steps:
    """`Rounds` that go on when they are told to."""

    def __init__(self) -> None:
        self.waiting = asyncio.Event()
        self._go = asyncio.Event()

    def go(self) -> None:
        self.waiting.clear()
        self._go.set()

    async def wait(self) -> None:
        self.waiting.set()
        await self._go.wait()
        self._go.clear()

    def scanned(self, seconds: float) -> None:
        assert seconds >= 0

    async def aclose(self) -> None:
        pass


class HandClock(SystemClock):
    """The wall's time is what is set."""

    def __init__(self, wall: float) -> None:
        self.now = wall

    def wall(self) -> float:
        return self.now


class Followed:
    """What the rows of a source sum up to, over any number of runs: `offsets` is where the next one begins."""

    def __init__(self) -> None:
        self.offsets: dict[str, Any] = {}
        self.epochs: list[list[Batch]] = []
        self._of_parts: dict[int, Counter[tuple[Any, ...]]] = {}
        self._partitions: dict[int, str] = {}
        self._open: list[Batch] = []

    def take(self, batch: Batch) -> None:
        for partition, part in batch.retracts.items():
            assert part > 0
            self._of_parts.pop(part, None)
            self._partitions[part] = partition
        frame = batch.delta.weighted()
        parts = frame[PART].to_list()
        for part, weight, row in zip(parts, frame[WEIGHT].to_list(), frame.drop(PART, WEIGHT).rows(), strict=True):
            assert part not in self._partitions, "a part that was taken back is given again"
            count = self._of_parts.setdefault(part, Counter())
            count[row] += weight
            assert count[row] >= 0 or weight < 0
        assert all(n >= 0 for count in self._of_parts.values() for n in count.values())
        self.offsets.update(msgspec.json.decode(msgspec.json.encode(dict(batch.offsets))))
        self.offsets = {partition: offset for partition, offset in self.offsets.items() if offset is not None}
        self._open.append(batch)
        if not batch.open:
            self.epochs.append(self._open)
            self._open = []

    @property
    def rows(self) -> Counter[tuple[Any, ...]]:
        assert not self._open, "an epoch is open"
        return sum((+count for count in self._of_parts.values()), Counter())

    @property
    def values(self) -> Counter[Any]:
        """The first column."""
        counted: Counter[Any] = Counter()
        for row, count in self.rows.items():
            counted[row[0]] += count
        return counted


class Following:
    """A streaming run of a source: `scan` lets it look, and returns once it has given all it found."""

    def __init__(
        self,
        path: str,
        format: Format,
        into: Followed,
        *,
        needs: Needs = PARTS,
        clock: Clock | None = None,
        **settings: Any,
    ) -> None:
        self._steps = Steps()
        self._source = FileSource(
            path, format, mode="streaming", clock=clock, rounds=lambda path, clock: self._steps, **settings
        )
        self._needs = needs
        self._into = into
        self._reader: SourceReader | None = None
        self._reading: asyncio.Task[Batch | None] | None = None

    async def __aenter__(self) -> Self:
        offsets: Mapping[str, Any] | None = self._into.offsets or None
        await self._source.check(offsets, persistent=True)
        self._reader = await self._source.open(offsets, identity="source", needs=self._needs)
        await self._drain()
        return self

    async def scan(self) -> list[Batch]:
        """What one more scan gives."""
        self._steps.go()
        return await self._drain()

    async def _drain(self) -> list[Batch]:
        assert self._reader is not None
        found = []
        while True:
            if self._reading is None:
                self._reading = asyncio.create_task(self._reader.read())
            waiting = asyncio.create_task(self._steps.waiting.wait())
            await asyncio.wait({self._reading, waiting}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if not self._reading.done():
                return found
            batch = self._reading.result()
            assert batch is not None
            self._reading = None
            self._into.take(batch)
            found.append(batch)

    async def __aexit__(self, *exc: object) -> None:
        if self._reading is not None and not self._reading.done():
            self._reading.cancel()
            await asyncio.wait({self._reading})
        if self._reader is not None:
            await self._reader.aclose()


async def static_run(
    path: str, format: Format, into: Followed, *, needs: Needs = PARTS, clock: Clock | None = None, **settings: Any
) -> list[Batch]:
    """A static run that follows changes, from where the last one ended to its end."""
    source = FileSource(path, format, clock=clock, **settings)
    await source.check(into.offsets or None, persistent=True)
    reader = await source.open(into.offsets or None, identity="source", needs=needs)
    found = []
    try:
        while (batch := await reader.read()) is not None:
            into.take(batch)
            found.append(batch)
    finally:
        await reader.aclose()
    return found


def without_ids(batch: Batch) -> list[tuple[Any, ...]]:
    """The rows of a batch in their order, without what was added to them."""
    rows = batch.delta.rows
    return rows.drop([name for name in (ID, PART) if name in rows.columns]).rows()
