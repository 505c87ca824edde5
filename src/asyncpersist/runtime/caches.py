"""What a run is told of the caches of its functions: where they lie, what is new in them, how they were used."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from asyncpersist.checkpoint.manifest import CacheFacts
from asyncpersist.columnar.state import State
from asyncpersist.runtime.segments import StateSegment

__all__ = ["Caches", "capture_all"]


class Caches(Protocol):
    """The caches of one run that lie in its root. They belong to no epoch and are captured at any time.

    `states`: by stream, the pieces that are filled with what earlier runs left before anything is called: as
    `checkpoint.caches` names the streams. Results must be under a key of one column.
    """

    @property
    def states(self) -> Mapping[str, State]: ...

    def capture(self) -> Sequence[StateSegment]:
        """What is new since the last capture, each stream once; empty if nothing is.

        Called in a thread, while others answer, never by two at once. What is given out is the caller's: it is written
        sooner or later, or the run ends without it.
        """
        ...

    def found(self, others: Mapping[str, tuple[CacheFacts, int]]) -> None:
        """Told, before anything is loaded, which streams of results the root has besides `states`, and their bytes."""
        ...

    def dropped(self) -> Collection[str]:
        """Which of those are to be named no more. Quick; in the loop."""
        ...

    def facts(self) -> Mapping[str, CacheFacts]:
        """By stream of results, what happened in this run alone: hits and calls since it began. Quick; in the loop."""
        ...


def capture_all(states: Mapping[str, State]) -> list[StateSegment]:
    """What is new in pieces of state, by stream."""
    captured = ((stream, state.key, state.capture()) for stream, state in states.items())
    return [StateSegment(stream, key, rows) for stream, key, rows in captured if rows is not None]
