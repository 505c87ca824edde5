"""What the rows of a file have in common: their part, and the file's metadata as of when they were read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
import polars as pl

from asyncpersist.columnar.delta import PART
from asyncpersist.io.chunks import Piece

__all__ = ["METADATA", "Labels"]

METADATA = "_metadata"
"""The column (`Json`) of the file a row was read from: its absolute `path`, its `size` in bytes, and when it was
`modified_at`, in whole seconds since the epoch.
"""


class Labels:
    """The columns `METADATA` and `PART`, as far as they are asked for."""

    def __init__(self, *, metadata: bool, parts: bool) -> None:
        self._metadata = metadata
        self._parts = parts

    def of(self, piece: Piece) -> list[pl.Expr]:
        """The columns for rows of one piece."""
        columns = []
        if self._metadata:
            columns.append(pl.lit(_metadata(piece), dtype=pl.String).alias(METADATA))
        if self._parts:
            columns.append(pl.lit(piece.after.part, dtype=pl.Int64).alias(PART))
        return columns

    def shared(self, pieces: Sequence[Piece]) -> list[pl.Expr] | None:
        """The columns for rows of several pieces, if they are the same for all; else None."""
        first = self._key(pieces[0]) if pieces else None
        if any(self._key(piece) != first for piece in pieces):
            return None
        return self.of(pieces[0]) if pieces else self._empty()

    def columns(self, groups: Iterable[tuple[Sequence[Piece], Sequence[int], int]]) -> list[pl.Series]:
        """The columns for rows of groups: their pieces, the records of each, and how many rows came of them together,
        which is the sum of the records unless the pieces share the columns.
        """
        pieces: list[Piece] = []
        heights: list[int] = []
        for members, records, height in groups:
            if self.shared(members) is not None:
                pieces.append(members[0])
                heights.append(height)
            else:
                pieces += members
                heights += records
        columns = []
        places = np.repeat(np.arange(len(pieces)), heights)
        if self._metadata:
            columns.append(pl.Series(METADATA, [_metadata(piece) for piece in pieces], pl.String).gather(places))
        if self._parts:
            columns.append(pl.Series(PART, np.array([piece.after.part for piece in pieces], np.int64)[places]))
        return columns

    def _key(self, piece: Piece) -> tuple[object, ...]:
        metadata = (piece.path, piece.after.size, piece.after.mtime_ns) if self._metadata else ()
        return piece.after.part if self._parts else 0, metadata

    def _empty(self) -> list[pl.Expr]:
        names = {METADATA: pl.String(), PART: pl.Int64()}
        asked = [METADATA] * self._metadata + [PART] * self._parts
        return [pl.lit(None, dtype=names[name]).alias(name) for name in asked]


def _metadata(piece: Piece) -> str:
    seen = piece.after
    path = os.fsencode(piece.path).decode("utf-8", "backslashreplace")
    return msgspec.json.encode(
        {"path": path, "size": seen.size, "modified_at": seen.mtime_ns // 1_000_000_000}
    ).decode()
