"""Group-by: one output row per group of rows with equal keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from asyncpersist.columnar.arrangement import Arrangement
from asyncpersist.columnar.delta import ID, WEIGHT, Delta
from asyncpersist.columnar.hashing import id_of
from asyncpersist.columnar.state import State
from asyncpersist.dtypes import DType
from asyncpersist.operators.operator import PRESENT_ROWS, Operator
from asyncpersist.operators.reducers.batch import Batch
from asyncpersist.operators.reducers.group_state import GroupState
from asyncpersist.operators.reducers.plan import Plan
from asyncpersist.operators.reducers.reduction import NEEDS_ID, Reduction
from asyncpersist.operators.replacement import differing, replacement

__all__ = ["GroupBy", "Reduction"]

_WHOLE = "__whole"
"""The key of the only group when there are no keys."""

Mask = npt.NDArray[np.bool_]


class GroupBy(Operator):
    """The groups of its input by `keys`, with `reductions`.

    Output columns: the keys, then the reductions, both in order; with `ids` also `ID`, which follows from the key. A
    group is there while it has rows. Without keys the whole table is one group. None is a key like any other, NaN
    equals NaN, and -0.0 is 0.0.

    An epoch's output retracts, for each group that changed, exactly the row that was emitted before; retractions come
    before insertions, both by the stable hash of the key. Argmin, argmax and tuple need `ID` in the input.
    `append_only` promises that no row is ever retracted; it then keeps less state,
    which one that was made without it cannot load, nor the other way round. `hash_bits` is for tests.
    """

    def __init__(
        self,
        keys: Mapping[str, DType],
        reductions: Sequence[Reduction],
        *,
        ids: bool = False,
        append_only: bool = False,
        hash_bits: int = 64,
    ) -> None:
        self._keys = list(keys)
        schema: dict[str, pl.DataType] = {name: dtype.polars for name, dtype in keys.items()}
        self._by = schema or {_WHOLE: pl.UInt8()}
        self._ids = ids
        self._append_only = append_only
        self._groups = Arrangement(self._by, hash_bits=hash_bits)
        self._plan = Plan(
            reductions,
            keys=self._by,
            stored_keys=self._keys,
            groups=self._groups,
            append_only=append_only,
            hash_bits=hash_bits,
        )
        self._accumulators = list(self._plan.accumulators.values())
        self._value_sets = list(self._plan.value_sets.values())
        self._value_logs = list(self._plan.value_logs.values())
        self._compared = {*self._keys, *(r.input for r in reductions if r.input and r.kind not in ("sum", "avg"))}
        inputs = {reduction.input for reduction in reductions if reduction.input is not None}
        needs_id = any(reduction.kind in NEEDS_ID for reduction in reductions)
        self._columns = [*self._keys, *sorted(inputs - set(self._keys)), *([ID] if needs_id else [])]
        self._output: dict[str, pl.DataType] = dict(schema)
        self._output.update((reduction.output, reduction.output_dtype.polars) for reduction in reductions)
        if ids:
            self._output[ID] = pl.UInt128()
        self._states: dict[str, State] = {
            "groups": GroupState(self._groups, list(self._by), self._keys, self._accumulators),
            **self._plan.value_sets,
            **self._plan.value_logs,
        }
        self._many_groups = False

    def states(self) -> Mapping[str, State]:
        return self._states

    def step(self, inputs: Sequence[Delta]) -> Delta:
        (delta,) = inputs
        if delta.is_empty():
            return Delta(pl.DataFrame(schema=self._output), consolidated=True)
        if self._append_only and delta.weights is not None and delta.weights.min() < 0:
            raise RuntimeError(
                "internal error: a retraction in an input that was said to be append-only. Please report it."
            )
        self._settle()
        batch = Batch(delta, self._columns, compared=self._compared)
        if not self._keys:
            batch.add(_WHOLE, np.zeros(batch.height, np.uint8))
        groups = self._aggregate(batch)
        hashes = self._groups.hashes(groups)
        order = np.argsort(hashes)
        groups = groups[order]
        slots = self._groups.claim(groups, hashes[order])
        size = len(self._groups)
        for accumulator in self._accumulators:
            accumulator.reserve(size)

        lived = self._groups.weights[slots] > 0
        old = self._read(slots) if lived.any() else None
        _, after = self._groups.add(slots, groups[WEIGHT].to_numpy())
        for values in self._value_sets:
            values.apply(batch)
        for log in self._value_logs:
            log.append(groups, slots, batch)
        for accumulator in self._accumulators:
            accumulator.update(groups, slots)
        new = self._read(slots)
        change = self._emit(groups, lived, after > 0, old, new)
        self._collect()
        return change

    def present(self) -> Iterator[Delta]:
        self._settle()
        live = np.flatnonzero(self._groups.weights > 0)
        for start in range(0, len(live), PRESENT_ROWS):
            slots = live[start : start + PRESENT_ROWS]
            groups = self._groups.rows.gather(slots)
            ids = [id_of(groups, list(self._by))] if self._ids else []
            columns = [*(groups[key] for key in self._keys), *self._read(slots), *ids]
            yield Delta(pl.DataFrame(columns), consolidated=True)

    def _settle(self) -> None:
        """Takes in what was loaded."""
        for values in self._value_sets:
            values.settle()
        for log in self._value_logs:
            log.settle()

    def _aggregate(self, batch: Batch) -> pl.DataFrame:
        """The groups of the batch: keys, `WEIGHT`, and what the accumulators ask for."""
        weight = pl.len().cast(pl.Int64) if batch.weights is None else pl.col(WEIGHT).sum()
        asked = [weight.alias(WEIGHT)]
        for accumulator in self._accumulators:
            asked.extend(accumulator.prepare(batch))
        for log in self._value_logs:
            asked.extend(log.prepare(batch))
        # The streaming engine is twice as fast under one key of many values, and slower elsewhere. It promises nothing
        # of the order in lists.
        single = batch.weights is None and not any(log.with_id for log in self._value_logs)
        fit = self._many_groups and len(self._by) == 1 and (single or not self._value_logs)
        engine = "streaming" if fit else "in-memory"
        groups = batch.rows.lazy().group_by(list(self._by)).agg(asked).collect(engine=engine)  # type: ignore[call-overload]
        self._many_groups = batch.height > 10_000 and 4 * groups.height > batch.height
        assert isinstance(groups, pl.DataFrame)
        return groups

    def _read(self, slots: npt.NDArray[np.int64]) -> list[pl.Series]:
        return [read(slots).alias(name) for name, read in self._plan.readers.items()]

    def _emit(
        self,
        groups: pl.DataFrame,
        lived: Mask,
        lives: Mask,
        old: list[pl.Series] | None,
        new: list[pl.Series],
    ) -> Delta:
        """Retractions of what was emitted and insertions of what is now, where these differ."""
        same = [groups[key] for key in self._keys]
        ids = [id_of(groups, list(self._by))] if self._ids else []
        change = lives if old is None else differing(lived, lives, old, new)
        before = None if old is None else [*old, *ids]
        return replacement(same, before, [*new, *ids], gone=lived & change, come=lives & change)

    def _collect(self) -> None:
        """Frees the slots of what is gone, when there are many."""
        for values in self._value_sets:
            values.collect()
        if not self._groups.wasteful:
            return
        removed = self._groups.removable()
        size = len(removed)
        kept = self._groups.compact(removed)
        for accumulator in self._accumulators:
            accumulator.keep(kept)
        for values in self._value_sets:
            values.renumber(kept, size)
        for log in self._value_logs:
            log.renumber(kept, size)
