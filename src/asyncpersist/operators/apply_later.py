"""A function of users whose answers rows do not wait for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from asyncpersist.columnar.delta import ID, WEIGHT, Delta, concat
from asyncpersist.columnar.state import State
from asyncpersist.dtypes import DType
from asyncpersist.operators.calls import Call, LaterCaller
from asyncpersist.operators.copies import Copies
from asyncpersist.operators.operator import Operator
from asyncpersist.operators.reducers.batch import canonical
from asyncpersist.operators.remembered import ARGUMENTS, Remembered
from asyncpersist.operators.waiting import Waiting

__all__ = ["ApplyLater"]

Weights = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_POSITION = "__position"


class ApplyLater(Operator):
    """The input's rows with one more column, a future: pending until the function has answered for the row.

    Output columns: `carried` ones of the input's `columns`, then that of the `call`, which is for all rows. -0.0
    becomes 0.0. A row that comes is called for, unless that is done already for a row of the same id and equal
    arguments. When the answer is there, all rows that wait for it are replaced in one step. Whatever is taken back is
    so as it was last given out; a call that no row waits for any more is withdrawn. A row that comes again with equal
    arguments in the epoch that takes it back keeps its answer, or its call.

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
        self._caller: LaterCaller

    def bind(self, caller: LaterCaller) -> None:
        """Who calls."""
        self._caller = caller

    def resume(self) -> None:
        """Begins the calls for all rows that wait."""
        calls = self._waiting.calls(self.call.arguments)
        if calls.height:
            self._caller.begin(calls.select(ID, ARGUMENTS), self._arguments(calls))

    def states(self) -> Mapping[str, State]:
        states: dict[str, State] = {"waiting": self._waiting}
        if self._remembered is not None:
            states["answers"] = self._remembered
        if self._copies is not None:
            states["copies"] = self._copies
        return states

    @property
    def unsettled(self) -> bool:
        return self._remembered is not None and self._remembered.unsettled

    def end_epoch(self) -> None:
        if self._remembered is not None:
            self._remembered.end_epoch()

    @property
    def tells(self) -> bool:
        return False

    def step(self, inputs: Sequence[Delta]) -> Delta:
        (delta,) = inputs
        rows = None if delta.is_empty() else self._apart(delta, again=False)
        distinct = None if rows is None else _distinct(rows)
        if rows is None or distinct is None:
            answered = self._caller.take()
            return self._empty if answered is None else self._settled(*answered)
        known = self._known(distinct)
        waits = np.zeros(distinct.height, np.bool_)
        waits[~known] = self._waiting.has(distinct.filter(pl.Series(~known)))
        weights = distinct[WEIGHT].to_numpy()
        # What comes and goes within the epoch never was: it needs no call.
        new = ~known & ~waits & (weights > 0)
        if new.any():
            called = rows[distinct[_POSITION].to_numpy()[new]]
            self._caller.begin(called.select(ID, ARGUMENTS), self._arguments(called))
        answered = self._caller.take()
        if answered is None:
            return self._changed(delta, rows, distinct, waits)
        settled = self._settled(*answered)
        changed = self._changed(delta, rows, distinct, waits, *answered)
        if settled.is_empty() or changed.is_empty():
            return settled if changed.is_empty() else changed
        both = concat([settled, changed])
        consolidated = settled.consolidated and changed.consolidated
        consolidated = consolidated and not settled.rows.join(changed.rows, on=ID, how="semi").height
        return Delta(both.rows, both.weights, consolidated)

    def again(self, inputs: Sequence[Delta]) -> Delta:
        (delta,) = inputs
        if delta.is_empty():
            return self._empty
        rows = self._apart(delta, again=True)
        values, done = self._values(rows)
        if not done.all():
            lacking = rows.filter(pl.Series(~done))
            if not (waits := self._waiting.has(lacking)).all():
                raise Remembered.unknown(lacking.select(ID, ARGUMENTS).filter(pl.Series(~waits)))
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

    def _arguments(self, rows: pl.DataFrame) -> pl.DataFrame:
        return self.call.taken(rows)

    def _known(self, keys: pl.DataFrame) -> Mask:
        if self._remembered is None:
            return np.zeros(keys.height, np.bool_)
        known: Mask = self._remembered.find(keys) >= 0
        return known

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
            mask = pl.Series(waited)
            self._remembered.add(
                keys.filter(mask), totals[waited], values.filter(mask), np.ones(waited.sum(), np.bool_)
            )
        pending = self._futures(self._none.new_from_index(0, rows.height), np.zeros(rows.height, np.bool_))
        finished = self._futures(values.gather(positions), np.ones(rows.height, np.bool_))
        both = [rows.with_columns(column).select(self._names) for column in (pending, finished)]
        return Delta(pl.concat(both), np.concatenate([-weights, weights]), self._are_distinct(rows))

    def _changed(
        self,
        delta: Delta,
        rows: pl.DataFrame,
        distinct: pl.DataFrame,
        waits: Mask,
        keys: pl.DataFrame | None = None,
        answers: pl.Series | None = None,
    ) -> Delta:
        """Lets rows come and go. `waits`: of the `distinct` keys, which did so before; `keys` are answered now."""
        weights = distinct[WEIGHT].to_numpy()
        values, done = self._values(distinct, keys, answers)
        if self._remembered is not None and done.any():
            mask = pl.Series(done)
            new = ~self._known(distinct)[done]
            self._remembered.add(distinct.filter(mask), weights[done], values.filter(mask).filter(pl.Series(new)), new)
        if distinct.height < rows.height:
            values = values.alias(self.call.output)
            looked_up = distinct.select(ID, ARGUMENTS).with_columns(values, pl.Series(_POSITION, done))
            joined = rows.select(ID, ARGUMENTS).join(looked_up, on=[ID, ARGUMENTS], how="left", maintain_order="left")
            values, all_done = joined[self.call.output], joined[_POSITION].to_numpy()
        else:
            all_done = done
        if not done.all():
            pending = rows.filter(pl.Series(~all_done))
            self._waiting.add(pending, _weights(pending))
            gone = distinct.filter(pl.Series(waits & ~done & (weights < 0)))
            if gone.height and (unwanted := ~self._waiting.has(gone)).any():
                self._caller.withdraw(gone.select(ID, ARGUMENTS).filter(pl.Series(unwanted)))
        return self._output(rows, values, all_done, delta)

    def _values(
        self, keys: pl.DataFrame, answered: pl.DataFrame | None = None, answers: pl.Series | None = None
    ) -> tuple[pl.Series, Mask]:
        """What has been answered under each key, None where nothing was, and whether something was."""
        parts = [self._none]
        index = np.zeros(keys.height, np.int64)
        if answered is not None and answers is not None:
            place = answered.with_columns(pl.int_range(1, answered.height + 1).alias(_POSITION))
            found = keys.select(ID, ARGUMENTS).join(place, on=[ID, ARGUMENTS], how="left", maintain_order="left")
            index = found[_POSITION].fill_null(0).to_numpy().copy()
            parts.append(answers.alias(self.call.output))
        if self._remembered is not None:
            slots = self._remembered.find(keys)
            known = slots >= 0
            first = sum(map(len, parts))
            index[known] = np.arange(first, first + np.count_nonzero(known))
            parts.append(self._remembered.get(slots[known]).alias(self.call.output))
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
    frame = rows.select(ID, ARGUMENTS, *([WEIGHT] if WEIGHT in rows.columns else [])).with_row_index(_POSITION)
    return frame.group_by(ID, ARGUMENTS, maintain_order=True).agg(weight, pl.col(_POSITION).first())
