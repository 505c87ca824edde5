"""A function of users whose answers rows do not wait for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from asyncpersist.columnar.delta import ID, WEIGHT, Delta, concat
from asyncpersist.columnar.state import State
from asyncpersist.dtypes import DType
from asyncpersist.operators.calls import Call, LaterCaller
from asyncpersist.operators.copies import Copies
from asyncpersist.operators.inheriting import heirs
from asyncpersist.operators.operator import Operator
from asyncpersist.operators.reducers.batch import canonical
from asyncpersist.operators.remembered import ARGUMENTS, Remembered
from asyncpersist.operators.waiting import Waiting

__all__ = ["ApplyLater"]

Weights = npt.NDArray[np.int64]
Slots = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

Known = tuple[pl.DataFrame, pl.Series]
"""Keys, and what was answered under them."""

_KEY = (ID, ARGUMENTS)
_POSITION = "__position"
_VALUE = "__value"
_DONE = "__done"


@dataclass(frozen=True, slots=True)
class _Keys:
    """The keys of the rows of a step, each once.

    `frame` has them with the sum of their `weights` and the position of the first row. `slots`: where their answers are
    remembered, else -1. `waiting`: how many rows waited under a key before.
    """

    frame: pl.DataFrame
    weights: Weights
    slots: Slots
    waiting: Weights


class ApplyLater(Operator):
    """The input's rows with one more column, a future: pending until the function has answered for the row.

    Output columns: `carried` ones of the input's `columns`, then that of the `call`, which is for all rows. -0.0
    becomes 0.0. A row that comes is called for, unless that is done already for a row of the same id and equal
    arguments. When the answer is there, all rows that wait for it are replaced in one step. Whatever is taken back is
    so as it was last given out; a call that no row waits for any more is withdrawn. A row that comes again with equal
    arguments in the epoch that takes it back keeps its answer, or its call; so does another row.

    Rows are told apart by `ID`, which the input then has; without `identified` by counting equal ones, and the ids in
    the output are made here. Rows that wait are kept whole. Answers are remembered while their row lives, or not at all
    if the operator `forgets`: nothing is ever taken back, nor told again.

    `bind` says who calls, before the first step; `resume` begins the calls for all that waits, after a load.
    """

    def __init__(
        self,
        columns: Mapping[str, DType],
        carried: Sequence[str],
        call: Call,
        *,
        ids: bool,
        identified: bool,
        forgets: bool,
        hash_bits: int = 64,
    ) -> None:
        self.call = call
        types = {name: dtype.polars for name, dtype in columns.items()}
        kept = {name: types[name] for name in dict.fromkeys([*carried, *call.arguments])}
        self._rows = [canonical(pl.col(name), dtype).alias(name) for name, dtype in kept.items()]
        self._carries_all = len(carried) == len(columns)
        self._names = [*carried, call.output, *([ID] if ids else [])]
        schema = {**{name: types[name] for name in carried}, call.output: call.dtype.as_future().polars}
        self._empty = Delta(pl.DataFrame(schema=schema | ({ID: pl.UInt128()} if ids else {})), consolidated=True)
        self._none = pl.Series(call.output, [None], dtype=call.dtype.polars)
        self._waiting = Waiting(kept, hash_bits=hash_bits)
        self._remembered = None if forgets else Remembered(call.dtype.polars, hash_bits=hash_bits)
        self._copies = None if identified else Copies(hash_bits=hash_bits)
        # Whose call is under way while no row waits for it any more, in this epoch.
        self._leaving = pl.DataFrame(schema=dict.fromkeys(_KEY, pl.UInt128()))
        self._caller: LaterCaller

    def bind(self, caller: LaterCaller) -> None:
        """Who calls."""
        self._caller = caller

    def resume(self) -> None:
        """Begins the calls for all rows that wait."""
        calls = self._waiting.calls(self.call.arguments)
        if calls.height:
            self._caller.begin(calls.select(_KEY), self.call.taken(calls))

    def states(self) -> Mapping[str, State]:
        states: dict[str, State] = {"waiting": self._waiting}
        if self._remembered is not None:
            states["answers"] = self._remembered
        if self._copies is not None:
            states["copies"] = self._copies
        return states

    @property
    def tells(self) -> bool:
        return False

    def step(self, inputs: Sequence[Delta]) -> Delta:
        (delta,) = inputs
        if delta.is_empty():
            settled, _ = self._take()
            return settled
        rows = self._apart(delta, again=False)
        keys = self._keys(rows)
        inherited = self._begin(rows, keys)
        settled, answered = self._take()
        changed = self._changed(delta, rows, keys, [inherited, *answered])
        if settled.is_empty() or changed.is_empty():
            return settled if changed.is_empty() else changed
        both = concat([settled, changed])
        consolidated = settled.consolidated and changed.consolidated
        consolidated = consolidated and not settled.rows.join(changed.rows, on=ID, how="semi").height
        return Delta(both.rows, both.weights, consolidated)

    @property
    def unsettled(self) -> bool:
        return bool(self._leaving.height) or (self._remembered is not None and self._remembered.unsettled)

    def end_epoch(self) -> None:
        if self._leaving.height:
            self._caller.withdraw(self._leaving)
            self._leaving = self._leaving.clear()
        if self._remembered is not None:
            self._remembered.end_epoch()

    def again(self, inputs: Sequence[Delta]) -> Delta:
        (delta,) = inputs
        if delta.is_empty():
            return self._empty
        rows = self._apart(delta, again=True)
        values, done = self._values(rows, [])
        if not done.all():
            lacking = rows.filter(pl.Series(~done))
            waits = self._waiting.counts(lacking) > 0
            if not waits.all():
                raise Remembered.unknown(lacking.select(_KEY).filter(pl.Series(~waits)))
        return self._output(rows, values, done, delta)

    def _apart(self, delta: Delta, *, again: bool) -> pl.DataFrame:
        """The rows as they are kept, with their keys and, unless all are 1, their `WEIGHT`."""
        ids = delta.rows[ID] if self._copies is None else None
        rows = delta.with_rows(delta.rows.select(self._rows))
        if self._copies is not None:
            rows, ids = self._copies.apart(rows, again=again)
        assert ids is not None
        keys = Remembered.keys(ids, self.call.taken(rows.rows))
        weights = [] if rows.weights is None else [pl.Series(WEIGHT, rows.weights)]
        return pl.DataFrame([*rows.rows.get_columns(), *keys.get_columns(), *weights])

    def _keys(self, rows: pl.DataFrame) -> _Keys:
        frame = _distinct(rows)
        slots = np.full(frame.height, -1, np.int64)
        if self._remembered is not None:
            slots = self._remembered.find(frame)
        waiting = np.zeros(frame.height, np.int64)
        waiting[slots < 0] = self._waiting.counts(frame.filter(pl.Series(slots < 0)))
        return _Keys(frame, frame[WEIGHT].to_numpy(), slots, waiting)

    def _begin(self, rows: pl.DataFrame, keys: _Keys) -> Known:
        """Begins the calls for what is new, save for rows that take the place of others: theirs is what these had.

        Gives answers that were inherited; calls under way are handed over.
        """
        known, weights = keys.slots >= 0, keys.weights
        # What comes and goes within the epoch never was: it needs no call.
        new = np.flatnonzero(~known & (keys.waiting == 0) & (weights > 0))
        inherited: Known = (keys.frame.clear().select(_KEY), self._none.clear())
        if self._remembered is not None:
            leaves = keys.slots[known & (weights < 0)]
            leaves = leaves[self._remembered.counts(leaves) + weights[known & (weights < 0)] == 0]
            heirs_at, slots = self._remembered.heritage(keys.frame[new], leaves)
            inherited = (keys.frame[new[heirs_at]].select(_KEY), self._remembered.get(slots))
            new = np.delete(new, heirs_at)
        unwanted = keys.frame.filter(pl.Series((keys.waiting > 0) & (keys.waiting + weights == 0))).select(_KEY)
        leaving = pl.concat([self._leaving, unwanted])
        heirs_at, left_at = heirs(keys.frame[new], leaving)
        left, others = leaving[left_at], keys.frame[new[heirs_at]].select(_KEY)
        moved = left[ID] != others[ID]
        if moved.any():
            self._caller.move(left.filter(moved), others.filter(moved))
        self._leaving = leaving[np.delete(np.arange(leaving.height), left_at)]
        new = np.delete(new, heirs_at)
        if len(new):
            called = rows[keys.frame[_POSITION].to_numpy()[new]]
            self._caller.begin(called.select(_KEY), self.call.taken(called))
        return inherited

    def _take(self) -> tuple[Delta, list[Known]]:
        """Takes in what was answered: how the rows change that waited for it, and the answers."""
        answered = self._caller.take()
        if answered is None:
            return self._empty, []
        keys, values = answered
        if self._leaving.height and self._remembered is not None:
            there = keys.with_row_index(_POSITION).join(self._leaving, on=_KEY, how="semi")[_POSITION].to_numpy()
            there = there[self._waiting.counts(keys[there]) == 0]
            if len(there):
                # Who comes in what is left of the epoch may still inherit it.
                for weight, new in ((1, True), (-1, False)):
                    some = values.gather(there) if new else values.clear()
                    mask = np.full(len(there), new)
                    self._remembered.add(keys[there], np.full(len(there), weight, np.int64), some, mask)
            self._leaving = self._leaving.join(keys, on=_KEY, how="anti", maintain_order="left")
        return self._settled(keys, values), [answered]

    def _settled(self, keys: pl.DataFrame, values: pl.Series) -> Delta:
        """Gives the answers to the rows that wait for them."""
        positions, rows = self._waiting.take(keys)
        if not len(positions):
            return self._empty
        weights = rows[WEIGHT].to_numpy()
        if self._remembered is not None:
            totals = np.zeros(keys.height, np.int64)
            np.add.at(totals, positions, weights)
            waited = totals > 0
            new = pl.Series(waited)
            self._remembered.add(keys.filter(new), totals[waited], values.filter(new), waited[waited])
        pending = self._futures(self._none.new_from_index(0, rows.height), np.zeros(rows.height, np.bool_))
        finished = self._futures(values.gather(positions), np.ones(rows.height, np.bool_))
        both = [rows.with_columns(column).select(self._names) for column in (pending, finished)]
        return Delta(pl.concat(both), np.concatenate([-weights, weights]), self._are_distinct(rows))

    def _changed(self, delta: Delta, rows: pl.DataFrame, keys: _Keys, known: Sequence[Known]) -> Delta:
        """Lets rows come and go; what is `known` beside what is remembered are the answers of this step."""
        frame, weights = keys.frame, keys.weights
        values, done = self._values(frame, known)
        if self._remembered is not None and done.any():
            mask = pl.Series(done)
            new = self._remembered.find(frame)[done] < 0
            self._remembered.add(frame.filter(mask), weights[done], values.filter(mask).filter(pl.Series(new)), new)
        all_done = done
        if frame.height < rows.height:
            looked_up = frame.select(*_KEY, values.alias(_VALUE), pl.Series(_DONE, done))
            joined = rows.select(_KEY).join(looked_up, on=_KEY, how="left", maintain_order="left")
            values, all_done = joined[_VALUE], joined[_DONE].to_numpy()
        if not done.all():
            pending = rows.filter(pl.Series(~all_done))
            self._waiting.add(pending, _weights(pending))
        return self._output(rows, values, all_done, delta)

    def _values(self, keys: pl.DataFrame, known: Sequence[Known]) -> tuple[pl.Series, Mask]:
        """What is known or remembered for each key, None where nothing is, and whether something is."""
        parts = [self._none]
        index = np.zeros(keys.height, np.int64)
        for answered, answers in known:
            if answered.height:
                first = sum(map(len, parts))
                place = answered.with_columns((pl.int_range(pl.len()) + first).alias(_POSITION))
                found = keys.select(_KEY).join(place, on=_KEY, how="left", maintain_order="left")[_POSITION]
                index = np.where(found.is_not_null().to_numpy(), found.fill_null(0).to_numpy(), index)
                parts.append(answers.alias(self.call.output))
        if self._remembered is not None:
            slots = self._remembered.find(keys)
            there = slots >= 0
            first = sum(map(len, parts))
            index[there] = np.arange(first, first + np.count_nonzero(there))
            parts.append(self._remembered.get(slots[there]).alias(self.call.output))
        return pl.concat(parts).gather(index), index > 0

    def _futures(self, values: pl.Series, done: Mask) -> pl.Series:
        return pl.DataFrame([pl.Series("done", done), values.alias("value")]).to_struct(self.call.output)

    def _output(self, rows: pl.DataFrame, values: pl.Series, done: Mask, delta: Delta) -> Delta:
        out = rows.with_columns(self._futures(values, done)).select(self._names)
        consolidated = (delta.consolidated and self._carries_all) or self._are_distinct(rows)
        weights = rows[WEIGHT].to_numpy() if WEIGHT in rows.columns else None
        return Delta(out, weights, consolidated and ID in self._names)

    def _are_distinct(self, rows: pl.DataFrame) -> bool:
        """Whether it is certain that output rows differ: those of one id may do so in arguments alone."""
        return ID in self._names and rows[ID].n_unique() == rows.height


def _weights(rows: pl.DataFrame) -> Weights:
    return rows[WEIGHT].to_numpy() if WEIGHT in rows.columns else np.ones(rows.height, np.int64)


def _distinct(rows: pl.DataFrame) -> pl.DataFrame:
    """The keys of rows, each once: with the sum of the weights and the position of the first row."""
    weight = pl.col(WEIGHT).sum() if WEIGHT in rows.columns else pl.len().cast(pl.Int64).alias(WEIGHT)
    frame = rows.select(*_KEY, *([WEIGHT] if WEIGHT in rows.columns else [])).with_row_index(_POSITION)
    return frame.group_by(_KEY, maintain_order=True).agg(weight, pl.col(_POSITION).first())
