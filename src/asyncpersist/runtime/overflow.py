"""Rows that are too many for memory: on disk, so that equal ones meet piece by piece."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import polars as pl

from asyncpersist.columnar.consolidate import consolidate
from asyncpersist.columnar.delta import WEIGHT, Delta
from asyncpersist.columnar.hashing import hash_columns

__all__ = ["Overflow"]

_BUCKETS = 64


class Overflow:
    """Rows that are equal in the columns `by` (all but the weight if None) meet in one of some buckets, by their hash.

    Blocks; used by one thread at a time. Files are made in `directory`, under names beginning with `prefix`.
    """

    def __init__(
        self, directory: str, prefix: str, *, by: Sequence[str] | None = None, buckets: int = _BUCKETS
    ) -> None:
        self._directory = directory
        self._prefix = prefix
        self._by = by
        self._buckets = buckets
        self._files: list[tuple[str, list[int]]] = []

    def add(self, delta: Delta) -> None:
        """Takes more rows. Raises `OSError`."""
        frame = delta.weighted()
        hashes = hash_columns(frame, delta.rows.columns if self._by is None else self._by)
        buckets = hashes % np.uint64(self._buckets)
        order = np.argsort(buckets, kind="stable")
        edges = np.searchsorted(buckets[order], np.arange(self._buckets + 1, dtype=np.uint64)).tolist()
        path = os.path.join(self._directory, f"{self._prefix}-{len(self._files)}.arrow")
        # Named first, so that what is half written is removed as well.
        self._files.append((path, edges))
        frame[order].write_ipc(path, compression="uncompressed")

    def remove(self) -> None:
        """Removes the files."""
        for path, _ in self._files:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        self._files = []

    def meeting(self) -> Iterator[pl.DataFrame]:
        """All rows with their weights, by buckets that have any, there in the order in which they were added."""
        for bucket in range(self._buckets):
            pieces = [
                pl.scan_ipc(path).slice(edges[bucket], edges[bucket + 1] - edges[bucket]).collect()
                for path, edges in self._files
                if edges[bucket] < edges[bucket + 1]
            ]
            if pieces:
                yield pl.concat(pieces)

    def parts(self, sign: Literal[-1, 1]) -> Iterator[Delta]:
        """The retractions or the insertions of the whole, no row twice, in pieces; may be asked for repeatedly."""
        for frame in self.meeting():
            whole = consolidate(Delta.from_weighted(frame)).weighted()
            rows = whole.filter(pl.col(WEIGHT) * sign > 0)
            if rows.height:
                yield Delta.from_weighted(rows, consolidated=True)
