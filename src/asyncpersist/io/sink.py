"""The contract of a sink.

A `Sink` is a value: what a user defined. A run first lets it check, by reading alone, that it can go on at its
committed position; after the run has claimed its root it opens it and gets a `SinkWriter`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from asyncpersist.clock import Clock
from asyncpersist.columnar.delta import Delta
from asyncpersist.disk import Disk

__all__ = ["Position", "Sink", "SinkWriter"]

Position = Mapping[str, Any]
"""Where a sink continues: plain JSON values, opaque to all but the sink."""


class SinkWriter(ABC):
    """An open sink. One task calls it; calls never overlap."""

    guard: Callable[[], Awaitable[None]] | None = None
    """Set by a run that can be deposed: raises `Fenced` if it was. `flush` awaits it before putting an output back."""

    calls_out: bool = False
    """Whether it runs a user's functions, whose errors are theirs and not those of an output."""

    moved: bool = False
    """Whether opening it left it elsewhere than at the position it was opened at: then that is to be committed."""

    async def begin(self, epoch: int | None) -> None:  # noqa: B027
        """Called once, before anything is written.

        `epoch` is the last one that holds from earlier runs: 0 if nothing of them does, None if there were none.
        """

    @abstractmethod
    async def write(self, epoch: int, delta: Delta) -> None:
        """Takes one epoch's change: consolidated, non-empty, epochs only growing.

        A very large one comes in several calls in a row, its retractions in the earlier ones. The order of rows within
        a call is the writer's to make: retractions first. Raises `OutputError` or `OSError`.
        """

    @abstractmethod
    async def flush(self) -> Position:
        """Makes durable what was written and returns the position after it.

        Called at every barrier, before the commit. What lies beyond the last committed position is cut by the next
        `open`.
        """

    async def end_epoch(self, epoch: int) -> None:  # noqa: B027
        """Called after the last `write` of an epoch."""

    async def idle(self) -> None:  # noqa: B027
        """Called when nothing more is to be written for now: what is held back may be shown."""

    async def end(self) -> None:  # noqa: B027
        """Called once if the input has ended, after everything was written (and committed, where there is a root)."""

    @abstractmethod
    async def aclose(self) -> None:
        """Frees what is open; flushes nothing. Idempotent."""


class Sink(ABC):
    """What a user defined; opened any number of times, by one run at a time."""

    needs_ids: bool = False
    """Whether deltas must carry the column `ID`."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """What it writes to, resolved: two sinks of one run with the same identity are refused."""

    @property
    def output(self) -> str | None:
        """Where others read what it writes, if they do: what is there must never contradict what was there before."""
        return None

    @property
    def overwrites(self) -> bool:
        """Whether it may start anew where it has told its readers what does not hold any more."""
        return False

    @property
    def written_file(self) -> str:
        """The absolute path of a file that it writes, the first if there are several: no source may read it."""
        return self.identity

    @abstractmethod
    async def check(self, position: Position | None, *, persistent: bool, clean: bool = False) -> None:
        """Raises `OutputError` if the sink cannot go on at `position` (None: its first claim). Changes nothing.

        `persistent` says whether the run has a state root; without one a sink starts anew. `clean`: the last run ended
        with all that it wrote committed, so what lies beyond `position` was put there by somebody else.
        """

    @abstractmethod
    def initial(self) -> Position:
        """The position of a sink that has written nothing: what the claim records for a new one."""

    @abstractmethod
    async def open(
        self, position: Position | None, *, persistent: bool, exclusive: bool, disk: Disk, clock: Clock
    ) -> SinkWriter:
        """A writer at `position`, with everything beyond it gone.

        `exclusive` says that the run which owned the position before is proven to be gone; otherwise it may still hold
        the output open, and nothing it writes there may ever appear.
        """
