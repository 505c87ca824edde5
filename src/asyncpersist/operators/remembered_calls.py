"""One epoch of one function whose results are remembered."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from asyncpersist.columnar.delta import ID, WEIGHT
from asyncpersist.operators.calls import Answers, Call, Caller
from asyncpersist.operators.remembered import ARGUMENTS, Remembered

__all__ = ["RememberedCalls", "gathered"]

Slots = npt.NDArray[np.int64]
Weights = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_POSITION = "__position"


class RememberedCalls:
    """Begins the calls for rows of whose results nothing is remembered yet; `weights` None: all come, each once.

    `never`: which rows come and go within the epoch, so that they never were; None: none. They have no value.
    """

    def __init__(
        self,
        call: Call,
        caller: Caller,
        remembered: Remembered,
        keys: pl.DataFrame,
        arguments: pl.DataFrame,
        weights: Weights | None,
    ) -> None:
        self._call = call
        self._remembered = remembered
        ones = np.ones(keys.height, np.int64) if weights is None else weights
        frame = keys.with_columns(pl.Series(WEIGHT, ones), pl.Series(_POSITION, np.arange(keys.height)))
        # Of rows with equal keys the function sees one; an id and its arguments are there once, save for weights.
        distinct = frame.group_by(ID, ARGUMENTS, maintain_order=True).agg(
            pl.col(WEIGHT).sum(), pl.col(_POSITION).first()
        )
        self._keys = distinct.select(ID, ARGUMENTS)
        self._weights = distinct[WEIGHT].to_numpy()
        self._slots = remembered.find(distinct)
        unknown = self._slots < 0
        lacking = unknown & (self._weights < 0)
        if lacking.any():
            raise remembered.unknown(self._keys.filter(pl.Series(lacking)))
        self._new = unknown & (self._weights > 0)
        self._kinds = self._kinds_of(keys)
        self.never = self._rows(unknown & ~self._new)
        leaves = self._slots[~unknown & (self._weights < 0)]
        leaves = leaves[remembered.counts(leaves) + self._weights[~unknown & (self._weights < 0)] == 0]
        new = np.flatnonzero(self._new)
        heirs, heritage = remembered.heritage(self._keys[new], leaves)
        self._heirs = new[heirs]
        self._heritage = remembered.get(heritage)
        self._called = self._new.copy()
        self._called[self._heirs] = False
        self._answers: Answers | None = None
        if self._called.any():
            positions = distinct[_POSITION].to_numpy()[self._called]
            chosen = arguments[positions] if arguments.width else pl.DataFrame(height=len(positions))
            self._answers = caller.begin(chosen)

    def column(self) -> pl.Series:
        """Waits for the answers, and takes them into the state; the values of all rows."""
        remembered, dtype = self._remembered, self._call.dtype.polars
        known = self._slots >= 0
        answers = pl.Series([], dtype=dtype) if self._answers is None else self._answers()
        parts = [remembered.get(self._slots[known]), self._heritage, answers]
        places = np.concatenate([np.flatnonzero(known), self._heirs, np.flatnonzero(self._called)])
        values = pl.concat([part.alias(self._call.output).cast(dtype) for part in parts])
        index = np.full(len(known), -1, np.int64)
        index[places] = np.arange(len(places))
        stays = known | self._new
        remembered.add(
            self._keys.filter(pl.Series(stays)),
            self._weights[stays],
            values.gather(index[self._new]),
            self._new[stays],
        )
        return gathered(values, index if self._kinds is None else index[self._kinds])

    def _kinds_of(self, keys: pl.DataFrame) -> Slots | None:
        """Of each row, its place among the distinct ones; None: they are the same."""
        if self._keys.height == keys.height:
            return None
        numbered = self._keys.with_columns(pl.Series(_POSITION, np.arange(self._keys.height)))
        return keys.join(numbered, on=[ID, ARGUMENTS], how="left", maintain_order="left")[_POSITION].to_numpy()

    def _rows(self, mask: Mask) -> Mask | None:
        if not mask.any():
            return None
        return mask if self._kinds is None else mask[self._kinds]


def gathered(values: pl.Series, index: Slots) -> pl.Series:
    """The values at `index`, None where it is -1."""
    if (index >= 0).all():
        return values.gather(index)
    return values.gather(pl.Series(index).replace(-1, None).cast(pl.UInt32))
