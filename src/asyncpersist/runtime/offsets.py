"""The offsets of one source as a state: partition -> where it continues, written by increments like any other."""

from __future__ import annotations

from typing import Any

import msgspec
import polars as pl

from asyncpersist.columnar.delta import WEIGHT
from asyncpersist.columnar.state import Increment
from asyncpersist.io.source import Offsets

__all__ = ["OffsetTable"]


class OffsetTable:
    """One row per partition, not per row of data.

    With each partition goes the epoch since which its present part is in the source's log.
    """

    key = ("partition",)

    def __init__(self) -> None:
        self._offsets: dict[str, Any] = {}
        self._since: dict[str, int] = {}
        self._touched: dict[str, None] = {}

    def advance(self, offsets: Offsets, epoch: int) -> None:
        """Takes over where a stepped batch left its partitions; an offset of None forgets the partition."""
        self._offsets.update(offsets)
        self._touched.update(dict.fromkeys(offsets))
        for partition in offsets:
            self._since.setdefault(partition, epoch)

    def since(self, partition: str) -> int:
        """The epoch of the first row of its present part; 0 for a partition that is not known."""
        return self._since.get(partition, 0)

    def retract(self, partition: str) -> None:
        """Says that its part was taken back: the next one begins where the partition is advanced next."""
        self._since.pop(partition, None)

    def current(self) -> Offsets:
        """Where the source continues."""
        return {partition: offset for partition, offset in self._offsets.items() if offset is not None}

    def capture(self) -> Increment | None:
        if not self._touched:
            return None
        touched = list(self._touched)
        self._touched = {}
        offsets = [self._offsets[partition] for partition in touched]
        rows = pl.DataFrame(
            {
                "partition": touched,
                "offset": [msgspec.json.encode(offset).decode() for offset in offsets],
                "since": [self.since(partition) for partition in touched],
                WEIGHT: [0 if offset is None else 1 for offset in offsets],
            },
            schema={"partition": pl.String, "offset": pl.String, "since": pl.Int64, WEIGHT: pl.Int64},
        )
        for partition, offset in zip(touched, offsets, strict=True):
            if offset is None:
                del self._offsets[partition]
                self._since.pop(partition, None)
        return Increment(rows, complete=set(touched) >= set(self._offsets))

    def load(self, frame: pl.DataFrame) -> None:
        self._offsets = {
            partition: msgspec.json.decode(offset)
            for partition, offset in zip(frame["partition"], frame["offset"], strict=True)
        }
        self._since = dict(zip(frame["partition"], frame["since"], strict=True))
