"""What a snapshot is captured as: pieces of state and of logs, and how each becomes bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from asyncpersist.checkpoint.manifest import ObjectRef
from asyncpersist.columnar import codec
from asyncpersist.columnar.consolidate import consolidate_if_few
from asyncpersist.columnar.delta import WEIGHT, Delta, concat
from asyncpersist.columnar.state import Increment
from asyncpersist.io.sink import Position

__all__ = ["Capture", "Encoded", "LogCut", "LogSegment", "StateSegment"]


@dataclass(frozen=True, slots=True)
class Encoded:
    """Bytes of a snapshot, how many rows they hold, and how many of those have a negative weight."""

    data: bytes
    rows: int
    retracted: int = 0
    compacted: bool = False


@dataclass(frozen=True, slots=True)
class StateSegment:
    """What one piece of state adds to a snapshot; the last row under `key` wins."""

    stream: str
    key: tuple[str, ...]
    increment: Increment

    def encode(self, compression: codec.Compression) -> Encoded:
        rows = self.increment.rows
        return Encoded(codec.encode(rows, key=self.key, compression=compression), rows.height)


@dataclass(frozen=True, slots=True)
class LogSegment:
    """What one source's log adds to a snapshot: its deltas, each with the epochs of its rows.

    `consolidated`: equal rows may become one, whatever their epochs; see `LogRule.repeats`. `compacted`: of these rows
    that has happened before.
    """

    stream: str
    deltas: Sequence[tuple[codec.Runs, Delta]]
    consolidated: bool
    compacted: bool = False

    def encode(self, compression: codec.Compression) -> Encoded:
        whole = concat([delta for _, delta in self.deltas])
        epochs = [run for runs, _ in self.deltas for run in runs]
        compacted = self.compacted
        if self.consolidated and len(epochs) > 1:
            before, whole = whole, consolidate_if_few(whole)
            if whole is not before:
                compacted |= epochs[0][0] != epochs[-1][0]
                epochs = [(epochs[-1][0], whole.height)]
        rows = whole.rows if whole.weights is None else whole.weighted()
        runs = {} if whole.weights is not None else {WEIGHT: [(1, whole.height)]}
        data = codec.encode(rows, key=None, runs=runs | {codec.EPOCH: epochs}, compression=compression)
        retracted = 0 if whole.weights is None else int(np.count_nonzero(whole.weights < 0))
        return Encoded(data, whole.height, retracted, compacted)


@dataclass(frozen=True, slots=True)
class LogCut:
    """What a log adds to a snapshot: segments in order, as they become written.

    `complete`: they take the place of all that was named before.
    """

    segments: Sequence[asyncio.Future[ObjectRef]]
    complete: bool = False


@dataclass(frozen=True, slots=True)
class Capture:
    """One barrier: all that a snapshot taken there consists of. `logs`: by stream."""

    epoch: int
    states: Sequence[StateSegment]
    logs: Mapping[str, LogCut]
    positions: Mapping[str, asyncio.Future[Position]]
    progress: Mapping[str, Any]
