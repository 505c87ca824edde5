"""What an epoch tells one sink, where it is too much for memory: rows on disk, consolidated piece by piece."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Literal

import numpy as np
import polars as pl

from asyncpersist.columnar.consolidate import consolidate
from asyncpersist.columnar.delta import WEIGHT, Delta
from asyncpersist.columnar.hashing import hash_columns

__all__ = ["Overflow"]

_BUCKETS = 64


class Overflow:
    """Equal rows meet in one of some buckets, by their hash. Blocks; used by one thread at a time.

    Files are made in `directory`, under names beginning with `prefix`.
    """

    def __init__(self, directory: str, prefix: str) -> None:
        self._directory = directory
        self._prefix = prefix
        self._files: list[tuple[str, list[int]]] = []

    def add(self, delta: Delta) -> None:
        """Takes more rows of the epoch. Raises `OSError`."""
        frame = delta.weighted()
        buckets = hash_columns(frame, delta.rows.columns) % np.uint64(_BUCKETS)
        order = np.argsort(buckets, kind="stable")
        edges = np.searchsorted(buckets[order], np.arange(_BUCKETS + 1, dtype=np.uint64)).tolist()
        path = os.path.join(self._directory, f"{self._prefix}-{len(self._files)}.arrow")
        frame[order].write_ipc(path, compression="uncompressed")
        self._files.append((path, edges))

    def remove(self) -> None:
        """Removes the files."""
        for path, _ in self._files:
            os.unlink(path)
        self._files = []

    def parts(self, sign: Literal[-1, 1]) -> Iterator[Delta]:
        """The retractions or the insertions of the whole, no row twice, in pieces; may be asked for repeatedly."""
        for bucket in range(_BUCKETS):
            frames = [
                pl.scan_ipc(path).slice(edges[bucket], edges[bucket + 1] - edges[bucket]).collect()
                for path, edges in self._files
            ]
            whole = consolidate(Delta.from_weighted(pl.concat(frames))).weighted()
            rows = whole.filter(pl.col(WEIGHT) * sign > 0)
            if rows.height:
                yield Delta.from_weighted(rows, consolidated=True)
