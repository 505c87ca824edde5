"""Functions of users, applied to the rows of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from asyncpersist.columnar.delta import ID, WEIGHT, Delta
from asyncpersist.columnar.state import State
from asyncpersist.dtypes import DType
from asyncpersist.operators.calls import Answers, Call, Caller
from asyncpersist.operators.copies import Copies
from asyncpersist.operators.operator import Operator
from asyncpersist.operators.remembered import ARGUMENTS, Remembered

__all__ = ["Apply"]

_POSITION = "__position"

Column = Callable[[], pl.Series]
Weights = npt.NDArray[np.int64]
Slots = npt.NDArray[np.int64]


class Apply(Operator):
    """The input's rows with one more column for each of `calls`, all of which go on side by side.

    What is `remembered` is called for a row when it comes, and given out once more when it is taken back, from state.
    Rows are told apart by `ID`, which the input then has, or, without `identified`, by counting equal ones. A row that
    comes again with equal arguments in the epoch that takes it back keeps what it had; so does another row. Other
    functions are called whenever a row comes or is taken back. `forgets` makes all of them such: nothing is ever taken
    back, nor told again. `bind` says who calls, before the first step.
    """

    def __init__(
        self,
        columns: Mapping[str, DType],
        calls: Sequence[Call],
        *,
        ids: bool,
        identified: bool,
        forgets: bool,
        hash_bits: int = 64,
    ) -> None:
        schema = {name: dtype.polars for name, dtype in columns.items()}
        schema.update((call.output, call.dtype.polars) for call in calls)
        self.calls = tuple(calls)
        self._names = [*schema, *([ID] if ids else [])]
        self._empty = Delta(pl.DataFrame(schema=schema | ({ID: pl.UInt128()} if ids else {})), consolidated=True)
        self._callers: Sequence[Caller] = ()
        self._remembered = {
            call.output: Remembered(call.dtype.polars, hash_bits=hash_bits)
            for call in calls
            if call.remembered and not forgets
        }
        self._copies = Copies(hash_bits=hash_bits) if self._remembered and not identified else None

    def bind(self, callers: Sequence[Caller]) -> None:
        """Who calls, in the order of `calls`."""
        self._callers = callers

    def states(self) -> Mapping[str, State]:
        return self._remembered if self._copies is None else {**self._remembered, "copies": self._copies}

    @property
    def tells(self) -> bool:
        return False

    def step(self, inputs: Sequence[Delta]) -> Delta:
        (delta,) = inputs
        return self._output(delta, again=False)

    def again(self, inputs: Sequence[Delta]) -> Delta:
        (delta,) = inputs
        return self._output(delta, again=True)

    def _output(self, delta: Delta, *, again: bool) -> Delta:
        if delta.is_empty():
            return self._empty
        ids = delta.rows[ID] if ID in delta.rows.columns else None
        if self._copies is not None:
            delta, ids = self._copies.apart(delta, again=again)
        columns = [
            self._begin(call, caller, delta, ids, again) for call, caller in zip(self.calls, self._callers, strict=True)
        ]
        rows = delta.rows.with_columns(column() for column in columns)
        return Delta(rows[self._names], delta.weights, delta.consolidated and ID in self._names)

    def _begin(self, call: Call, caller: Caller, delta: Delta, ids: pl.Series | None, again: bool) -> Column:
        """Begins the calls for a delta; the function that is returned waits for the column."""
        rows, weights = delta.rows, delta.weights
        if call.where is not None:
            taken = rows[call.where].fill_null(False)
            if not taken.all():
                if weights is not None:
                    weights = weights[taken.to_numpy()]
                ids = None if ids is None else ids.filter(taken)
                column = self._begin_all(call, caller, rows.filter(taken), weights, ids, again)
                return lambda: _spread(column(), np.flatnonzero(taken.to_numpy()), rows.height).alias(call.output)
        return self._begin_all(call, caller, rows, weights, ids, again)

    def _begin_all(
        self,
        call: Call,
        caller: Caller,
        rows: pl.DataFrame,
        weights: Weights | None,
        ids: pl.Series | None,
        again: bool,
    ) -> Column:
        # A frame without columns has a height all the same.
        columns = [rows[name].alias(str(place)) for place, name in enumerate(call.arguments)]
        arguments = pl.DataFrame(columns) if columns else pl.DataFrame(height=rows.height)
        remembered = self._remembered.get(call.output)
        if not rows.height:
            return lambda: pl.Series(call.output, [], call.dtype.polars)
        if remembered is None:
            answers = caller.begin(arguments)
            return lambda: answers().alias(call.output)
        assert ids is not None, "what is remembered is so by ids"
        keys = remembered.keys(ids, arguments)
        if again:
            slots = remembered.find(keys)
            if (slots < 0).any():
                raise remembered.unknown(keys.filter(pl.Series(slots < 0)))
            return lambda: remembered.get(slots).alias(call.output)
        return _Step(call, caller, remembered, keys, arguments, weights).column


class _Step:
    """One epoch of one function whose results are remembered."""

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
        self._keys = keys
        ones = np.ones(keys.height, np.int64) if weights is None else weights
        frame = keys.with_columns(pl.Series(WEIGHT, ones), pl.Series(_POSITION, np.arange(keys.height)))
        # Of rows with equal keys the function sees one; an id and its arguments are there once, save for weights.
        self._distinct = frame.group_by(ID, ARGUMENTS, maintain_order=True).agg(
            pl.col(WEIGHT).sum(), pl.col(_POSITION).first()
        )
        self._slots = remembered.find(self._distinct)
        self._weights = self._distinct[WEIGHT].to_numpy()
        self._new = self._slots < 0
        lacking = self._new & (self._weights < 0)
        if lacking.any():
            raise remembered.unknown(self._distinct.select(ID, ARGUMENTS).filter(pl.Series(lacking)))
        # What comes and goes within the epoch never was: it needs no call.
        self._new &= self._weights > 0
        self._heirs, heritage = self._inherited()
        self._heritage = remembered.get(heritage)
        self._called = self._new.copy()
        self._called[self._heirs] = False
        self._answers: Answers | None = None
        if self._called.any():
            positions = self._distinct[_POSITION].to_numpy()[self._called]
            chosen = arguments[positions] if arguments.width else pl.DataFrame(height=len(positions))
            self._answers = caller.begin(chosen)

    def _inherited(self) -> tuple[Slots, Slots]:
        """Of keys that come, those whose arguments a key has that goes, and the slots of these, one for each.

        A line of a file that moves up, a file that is renamed, gives rows other ids; they are what they were all the
        same.
        """
        none = np.empty(0, np.int64)
        leaves = np.flatnonzero((self._slots >= 0) & (self._weights < 0))
        leaves = leaves[self._remembered.counts(self._slots[leaves]) + self._weights[leaves] == 0]
        comes = np.flatnonzero(self._new)
        if not (len(leaves) and len(comes)):
            return none, none
        hashes = self._distinct[ARGUMENTS]
        numbered = [
            pl.DataFrame({ARGUMENTS: hashes.gather(places), name: places}).with_columns(
                pl.int_range(pl.len()).over(ARGUMENTS).alias(_POSITION)
            )
            for name, places in (("come", comes), ("leave", leaves))
        ]
        pairs = numbered[0].join(numbered[1], on=[ARGUMENTS, _POSITION], maintain_order="left")
        return pairs["come"].to_numpy(), self._slots[pairs["leave"].to_numpy()]

    def column(self) -> pl.Series:
        """Waits for the answers, and takes them into the state."""
        call, remembered = self._call, self._remembered
        answers = pl.Series([], dtype=call.dtype.polars) if self._answers is None else self._answers()
        values = answers
        if len(self._heirs):
            new = np.flatnonzero(self._new)
            order = np.argsort(np.concatenate([np.flatnonzero(self._called), self._heirs]))
            assert len(order) == len(new)
            parts = [part.alias("").cast(call.dtype.polars) for part in (answers, self._heritage)]
            values = pl.concat(parts).gather(order)
        known = self._slots >= 0
        parts = [remembered.get(self._slots[known]), values]
        index = np.full(len(self._slots), -1, np.int64)
        index[known] = np.arange(np.count_nonzero(known))
        index[self._new] = np.arange(np.count_nonzero(known), np.count_nonzero(known) + len(values))
        stays = known | self._new
        keys = self._distinct.select(ID, ARGUMENTS)
        remembered.add(keys.filter(pl.Series(stays)), self._weights[stays], values, self._new[stays])
        every = pl.concat([part.alias(call.output).cast(call.dtype.polars) for part in parts])
        if self._distinct.height == self._keys.height:
            return _gathered(every, index)
        distinct = keys.with_columns(pl.Series(_POSITION, index))
        joined = self._keys.join(distinct, on=[ID, ARGUMENTS], how="left", maintain_order="left")
        return _gathered(every, joined[_POSITION].to_numpy())


def _gathered(values: pl.Series, index: npt.NDArray[np.int64]) -> pl.Series:
    """The values at `index`, None where it is -1."""
    if (index >= 0).all():
        return values.gather(index)
    return values.gather(pl.Series(index).replace(-1, None).cast(pl.UInt32))


def _spread(values: pl.Series, positions: npt.NDArray[np.int64], height: int) -> pl.Series:
    """The values at `positions`, None elsewhere."""
    index = np.full(height, -1, np.int64)
    index[positions] = np.arange(len(positions))
    return _gathered(values, index)
