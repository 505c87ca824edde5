"""Calls that are under way for distinct arguments, for whoever needs what they answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from asyncpersist.udfs.calling.runner import Positions, Wait

__all__ = ["Flight", "Fresh"]

_Group = tuple[Positions, pl.Series]
_PIECES = 256
"""So many small groups of answers become one: a group of one row takes a thousand bytes."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """What some of the calls were answered with, and when, in milliseconds of wall time."""

    positions: Positions
    values: pl.Series
    when: npt.NDArray[np.int64]


class Flight:
    """Calls for `count` distinct arguments, numbered from 0.

    Whoever begins them `start`s it, tells it what is `answered`, and has it `end` if nobody waits. All methods may be
    called from any thread; those that do not say that they wait are quick. `now` tells milliseconds of wall time above
    0.
    """

    def __init__(self, count: int, now: Callable[[], int]) -> None:
        self.failure: BaseException | None = None
        """Why it ended without all answers."""
        self._count = count
        self._now = now
        self._when: npt.NDArray[np.int64] = np.zeros(count, np.int64)
        self._groups: list[_Group] = []
        self._taken = 0  # groups given out by `fresh`
        self._loose = 0  # the groups from here on are small ones
        self._answered = 0
        self._ended = False
        self._wait: Wait | None = None
        self._awaited = False
        self._waiting = 0
        self._listeners: list[Callable[[], None]] = []
        self._changed = threading.Condition(threading.Lock())

    @property
    def ended(self) -> bool:
        """Whether nothing more will be answered."""
        return self._ended

    @property
    def answered_count(self) -> int:
        """How many of the calls were answered."""
        return self._answered

    def start(self, wait: Wait) -> None:
        """Says how it is waited for: whoever waits first calls it, since the calls may need that to go on, and with it
        the flight ends. A flight that is not started goes on by itself until somebody `end`s it.
        """
        with self._changed:
            self._wait = wait
            self._tell()

    def answered(self, positions: Positions, values: pl.Series) -> None:
        """Takes answers; see `runner.Answered`."""
        when = self._now()
        with self._changed:
            self._when[positions] = when
            self._answered += len(positions)
            self._groups.append((positions, values))
            if len(positions) >= _PIECES:
                self._loose = len(self._groups)
            elif len(self._groups) - self._loose >= _PIECES:
                self._groups[self._loose :] = [_joined(self._groups[self._loose :])]
                self._loose = len(self._groups)
            self._tell()
        self._tell_listeners()

    def end(self, failure: BaseException | None = None) -> None:
        """Nothing more will be answered. The first call counts."""
        with self._changed:
            if self._ended:
                return
            self.failure = failure
            self._ended = True
            self._tell()
        self._tell_listeners()

    def listen(self, listener: Callable[[], None]) -> None:
        """`listener` will be called after each group of answers and after the end, by the thread that tells of it.

        At once if there were answers, or an end, before. It must be quick.
        """
        with self._changed:
            self._listeners.append(listener)
            told = self._ended or self._answered > 0
        if told:
            listener()

    def fresh(self) -> Fresh | None:
        """What was answered since the last call, None if nothing was. For who keeps results, one thread at a time."""
        with self._changed:
            groups = self._groups[self._taken :]
            if not groups:
                return None
            self._taken = self._loose = len(self._groups)
            positions, values = _joined(groups)
            return Fresh(positions, values, self._when[positions])

    def wait_for(self, positions: Positions | None = None) -> None:
        """Returns when these calls were answered, by default all, or when the flight has ended."""
        with self._changed:
            while not (self._ended or self._has(positions)):
                if self._wait is not None and not self._awaited:
                    self._awaited = True
                    break
                self._waiting += 1
                try:
                    self._changed.wait()
                finally:
                    self._waiting -= 1
            else:
                return
            wait = self._wait
        try:
            wait()
        except BaseException as exc:
            self.end(exc)
            if not isinstance(exc, Exception):
                raise
        else:
            self.end()

    def finish(self) -> None:
        """For whoever began it: returns when all calls were answered, or raises what it ended with."""
        self.wait_for()
        if self.failure is not None:
            raise self.failure
        if self._answered != self._count:
            raise RuntimeError(
                f"internal error: {self._answered} answers to {self._count} calls of a function. Please report it."
            )

    def stale(self, positions: Positions, moment: float) -> npt.NDArray[np.bool_]:
        """Which of these were answered at this moment or before."""
        when = self._when[positions]
        return (when > 0) & (when <= moment)

    def values(self, positions: Positions | None = None) -> tuple[pl.Series, Positions]:
        """The answers to these calls, by default to all, and the places in `positions` of those that have none yet.

        The values are of the others, in their order.
        """
        with self._changed:
            groups = list(self._groups)
            wanted = np.arange(self._count) if positions is None else positions
            known = self._when[wanted] > 0
        lacking = np.flatnonzero(~known)
        if not groups:
            return pl.Series(), lacking
        at, values = _joined(groups)
        if positions is None and len(at) == self._count and (at == wanted).all():
            return values, lacking
        places = np.empty(self._count, np.int64)
        places[at] = np.arange(len(at))
        return values[places[wanted[known] if len(lacking) else wanted]], lacking

    def _has(self, positions: Positions | None) -> bool:
        if positions is None:
            # All answered is not the end: whoever began it is told how it ended.
            return False
        return bool((self._when[positions] > 0).all())

    def _tell(self) -> None:
        if self._waiting:
            self._changed.notify_all()

    def _tell_listeners(self) -> None:
        for listener in tuple(self._listeners):
            listener()


def _joined(groups: list[_Group]) -> _Group:
    if len(groups) == 1:
        return groups[0]
    return np.concatenate([positions for positions, _ in groups]), pl.concat([values for _, values in groups])
