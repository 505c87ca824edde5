"""The contract of a source.

A `Source` is a value: what a user defined. A run opens it at the offsets of its last snapshot and gets a
`SourceReader`, which gives batches until the source ends. Every batch carries the offsets at its end; a reader opened
at those offsets gives the rest, exactly. Which offsets are committed is not the source's business.

What a partition gave can be taken back as a whole: its rows carry the number of the *part* they belong to (one version
of the partition), and a later batch names the parts it retracts. The rows themselves are found in the source's log.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from asyncpersist.columnar.delta import Delta

__all__ = ["OWN", "Batch", "Needs", "Offsets", "Source", "SourceReader"]

Offsets = Mapping[str, Any]
"""Partition -> where it continues: plain JSON values, opaque to all but the source."""

OWN = ""
"""The name, which no partition has, under which a source keeps what it must remember besides."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that belong together, with where the source continues after them.

    `offsets` names the partitions this batch moved on, and only those; None says that a partition is gone. `size` is
    the batch's weight in bytes against the bounds on memory. `skipped` counts malformed rows left out under
    `on_error="skip"`.

    `retracts` (partition -> part): all rows that were given so far with this number in `PART` are taken back, in the
    epoch of this batch and before its own rows. `open`: the change is not whole yet, the next batch goes on with it;
    no epoch ends here.
    """

    delta: Delta
    offsets: Offsets
    size: int
    skipped: int = 0
    retracts: Mapping[str, int] = field(default_factory=dict)
    open: bool = False


@dataclass(frozen=True, slots=True)
class Needs:
    """What a run needs of the rows of a source.

    `ids`: they carry the column `ID`. `parts`: they carry the column `PART`, and what changed may be retracted; without
    it nothing may ever be taken back. `order`: they come in the order of reading and are not consolidated. `singly`:
    a single row of an earlier run may be taken back, where the source knows which; without it, only its whole part.
    """

    ids: bool = False
    parts: bool = False
    order: bool = False
    singly: bool = True


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

    streaming: bool = False
    """Whether it may stay silent for long, so that others do not wait for its first batch."""

    by_parts: bool = False
    """Whether what it takes back it takes back by parts."""

    remover: str | None = None
    """Who says which single rows are taken back, and might name one that is not there; None where that cannot be."""

    @property
    def dead_letters(self) -> str | None:
        """The path of a file that it writes to besides, if any."""
        return None

    def retracts(self, *, persistent: bool) -> bool:
        """Whether rows can be taken back, in a run with or without a state root.

        May not differ between runs with the same root: operators keep less where nothing is ever taken back.
        """
        return False

    def retracts_parts(self, *, persistent: bool) -> bool:
        """Whether parts can be taken back, so that a log of their rows is needed. As `retracts`."""
        return self.by_parts and self.retracts(persistent=persistent)

    @abstractmethod
    async def check(self, offsets: Offsets | None, *, persistent: bool) -> None:
        """Everything that can be refused before a run begins, by reading alone. Raises `InputError`."""

    async def reads(self, path: str) -> bool:
        """Whether the file at the absolute `path` is read, or would be by the next run once it is there."""
        return False

    @abstractmethod
    async def open(self, offsets: Offsets | None, *, identity: str, needs: Needs) -> SourceReader:
        """A reader at `offsets` (None or empty: at the beginning).

        `identity` is stable over runs; with a partition and a position in it, it makes a row's id.
        """
