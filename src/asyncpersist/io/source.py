"""The contract of a source.

A `Source` is a value: what a user defined. A run opens it at the offsets of its last snapshot and gets a
`SourceReader`, which gives batches until the source ends. Every batch carries the offsets at its end; a reader opened
at those offsets gives the rest, exactly. Which offsets are committed is not the source's business.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from asyncpersist.columnar.delta import Delta

__all__ = ["Batch", "Source", "SourceReader"]

Offsets = Mapping[str, Any]
"""Partition -> where it continues: plain JSON values, opaque to all but the source."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that belong together, with where the source continues after them.

    `offsets` names the partitions this batch moved on, and only those. `size` is the batch's weight in bytes
    against the bounds on memory. `skipped` counts malformed rows left out under `on_error="skip"`.
    """

    delta: Delta
    offsets: Offsets
    size: int
    skipped: int = 0


class SourceReader(ABC):
    """An open source. One task calls it; calls never overlap."""

    @abstractmethod
    async def read(self) -> Batch | None:
        """The next batch; None at the end, and again on every later call.

        Blocking work is done in threads. After a cancelled call the reader is only good for `aclose`.
        Raises `InputError`; nothing of the broken batch is given out.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Frees what is open. Idempotent."""


class Source(ABC):
    """What a user defined; opened any number of times, by one run at a time."""

    retracting: bool = False
    """Whether batches can hold negative weights."""

    @abstractmethod
    async def check(self, offsets: Offsets | None) -> None:
        """Everything that can be refused before a run begins, by reading alone. Raises `InputError`."""

    async def reads(self, path: str) -> bool:
        """Whether the file at the absolute `path` is read, or would be by the next run once it is there."""
        return False

    @abstractmethod
    async def open(self, offsets: Offsets | None, *, identity: str, ids: bool) -> SourceReader:
        """A reader at `offsets` (None or empty: at the beginning).

        `identity` is stable over runs; with a partition and a position in it, it makes a row's id. `ids` says whether
        deltas must carry the column `ID`.
        """
