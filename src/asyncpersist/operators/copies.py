"""Ids for rows that have none: equal rows are counted, and each of them is one of so many."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from asyncpersist.columnar.arrangement import Arrangement
from asyncpersist.columnar.delta import ID, WEIGHT, Delta
from asyncpersist.columnar.hashing import id_of
from asyncpersist.columnar.state import Increment

__all__ = ["ROW", "Copies"]

ROW = "__row"
"""The hash by which equal rows are counted (UInt128)."""
_ORDINAL = "__ordinal"
_POSITION = "__position"


class Copies:
    """How many of each row there are, by a 128-bit hash of its values. A `State`.

    The n-th of equal rows has an id that follows from the values and n. One that comes is the next; one that is taken
    back is the last.
    """

    def __init__(self, *, hash_bits: int = 64) -> None:
        self._rows = Arrangement({ROW: pl.UInt128()}, hash_bits=hash_bits)

    def apart(self, delta: Delta, *, again: bool) -> tuple[Delta, pl.Series]:
        """A delta with each row by itself, of weight 1 or -1, and their ids; what cancels out is left out.

        `again`: it is what was counted before. Raises `NotThere` where more is taken back than was there.
        """
        rows = id_of(delta.rows, delta.rows.columns).alias(ROW)
        if delta.weights is None:
            return delta, self._numbered(rows, again=again)
        frame = pl.DataFrame([rows, pl.Series(WEIGHT, delta.weights), pl.Series(_POSITION, np.arange(delta.height))])
        distinct = frame.group_by(ROW, maintain_order=True).agg(pl.col(WEIGHT).sum(), pl.col(_POSITION).first())
        distinct = distinct.filter(pl.col(WEIGHT) != 0)
        weights = distinct[WEIGHT].to_numpy()
        counts = np.zeros(len(weights), np.int64) if again else self._count(distinct, weights)
        sizes = np.abs(weights)
        which = np.repeat(np.arange(len(weights)), sizes)
        within = np.arange(len(which)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        signs = np.sign(weights)[which]
        ordinals = counts[which] + np.where(signs > 0, within, -1 - within)
        apart = delta.rows[distinct[_POSITION].to_numpy()[which]]
        return Delta(apart, signs), _ids(distinct[ROW].gather(which), ordinals)

    def _numbered(self, rows: pl.Series, *, again: bool) -> pl.Series:
        """The ids of rows that all come, each once."""
        frame = rows.to_frame().with_columns(pl.int_range(pl.len()).over(ROW).alias(_ORDINAL))
        distinct = frame.group_by(ROW, maintain_order=True).agg(pl.len().cast(pl.Int64).alias(WEIGHT))
        if not again:
            before = pl.Series(_POSITION, self._count(distinct, distinct[WEIGHT].to_numpy()))
            if (before != 0).any():
                counted = distinct.select(ROW).with_columns(before)
                frame = frame.join(counted, on=ROW, how="left", maintain_order="left")
                frame = frame.select(ROW, pl.col(_ORDINAL) + pl.col(_POSITION))
        return _ids(frame[ROW], frame[_ORDINAL].to_numpy())

    def _count(self, distinct: pl.DataFrame, weights: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Adds the weights; how many there were before."""
        hashes = self._rows.hashes(distinct)
        order = np.argsort(hashes)
        before = np.empty(len(order), np.int64)
        slots = self._rows.claim(distinct[order], hashes[order])
        before[order], _ = self._rows.add(slots, weights[order])
        if self._rows.wasteful:
            self._rows.compact(self._rows.removable())
        return before

    @property
    def key(self) -> tuple[str, ...]:
        return (ROW,)

    def capture(self) -> Increment | None:
        slots, complete = self._rows.take_touched()
        if not (len(slots) or complete):
            return None
        weights = pl.Series(WEIGHT, self._rows.weights[slots])
        return Increment(self._rows.rows.gather(slots).with_columns(weights), complete)

    def load(self, frame: pl.DataFrame) -> None:
        self._rows.load(frame, frame[WEIGHT].to_numpy())


def _ids(rows: pl.Series, ordinals: npt.NDArray[np.int64]) -> pl.Series:
    return id_of(pl.DataFrame([rows, pl.Series(_ORDINAL, ordinals)]), [ROW, _ORDINAL]).alias(ID)
