"""Functions of users, applied to the rows of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from asyncpersist.columnar.delta import ID, Delta
from asyncpersist.columnar.state import State
from asyncpersist.dtypes import DType
from asyncpersist.operators.calls import Call, Caller
from asyncpersist.operators.copies import Copies
from asyncpersist.operators.operator import Operator
from asyncpersist.operators.remembered import Remembered
from asyncpersist.operators.remembered_calls import RememberedCalls, gathered

__all__ = ["Apply"]

Weights = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Made:
    """What waits for a column, and which rows never were; None: none."""

    column: Callable[[], pl.Series]
    never: npt.NDArray[np.bool_] | None = None


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

    @property
    def unsettled(self) -> bool:
        return any(remembered.unsettled for remembered in self._remembered.values())

    def end_epoch(self) -> None:
        for remembered in self._remembered.values():
            remembered.end_epoch()

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
        made = [
            self._begin(call, caller, delta, ids, again) for call, caller in zip(self.calls, self._callers, strict=True)
        ]
        rows, weights = delta.rows.with_columns(each.column() for each in made), delta.weights
        nevers = [each.never for each in made if each.never is not None]
        if nevers:
            left = ~np.logical_or.reduce(nevers)
            rows, weights = rows.filter(pl.Series(left)), None if weights is None else weights[left]
        # Rows that differ only in columns left out would become one and the same.
        kept = delta.consolidated and set(delta.rows.columns) <= set(self._names)
        return Delta(rows[self._names], weights, kept)

    def _begin(self, call: Call, caller: Caller, delta: Delta, ids: pl.Series | None, again: bool) -> _Made:
        """Begins the calls for a delta; the function that is returned waits for the column."""
        rows, weights = delta.rows, delta.weights
        if call.where is not None:
            taken = rows[call.where].fill_null(False)
            if not taken.all():
                if weights is not None:
                    weights = weights[taken.to_numpy()]
                ids = None if ids is None else ids.filter(taken)
                made = self._begin_all(call, caller, rows.filter(taken), weights, ids, again)
                return _spread(made, np.flatnonzero(taken.to_numpy()), rows.height, call.output)
        return self._begin_all(call, caller, rows, weights, ids, again)

    def _begin_all(
        self,
        call: Call,
        caller: Caller,
        rows: pl.DataFrame,
        weights: Weights | None,
        ids: pl.Series | None,
        again: bool,
    ) -> _Made:
        arguments = call.taken(rows)
        remembered = self._remembered.get(call.output)
        if not rows.height:
            return _Made(lambda: pl.Series(call.output, [], call.dtype.polars))
        if remembered is None:
            answers = caller.begin(arguments)
            return _Made(lambda: answers().alias(call.output))
        assert ids is not None, "what is remembered is so by ids"
        keys = remembered.keys(ids, arguments)
        if again:
            slots = remembered.find(keys)
            if (slots < 0).any():
                raise remembered.unknown(keys.filter(pl.Series(slots < 0)))
            return _Made(lambda: remembered.get(slots).alias(call.output))
        calls = RememberedCalls(call, caller, remembered, keys, arguments, weights)
        return _Made(calls.column, calls.never)


def _spread(made: _Made, positions: npt.NDArray[np.int64], height: int, name: str) -> _Made:
    """The same at `positions` of so many rows, with None elsewhere."""
    index = np.full(height, -1, np.int64)
    index[positions] = np.arange(len(positions))
    never = None
    if made.never is not None:
        never = np.zeros(height, np.bool_)
        never[positions] = made.never
    return _Made(lambda: gathered(made.column(), index).alias(name), never)
