"""From reductions to the accumulators they share and the readers of their output columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
import polars as pl

from asyncpersist.columnar.arrangement import Arrangement
from asyncpersist.operators.reducers.accumulator import Accumulator, Ints, Reader, Slots
from asyncpersist.operators.reducers.count import PresentCount
from asyncpersist.operators.reducers.distinct import DistinctCount, Unique
from asyncpersist.operators.reducers.extreme import Extreme
from asyncpersist.operators.reducers.float_sum import FloatSum
from asyncpersist.operators.reducers.int_sum import IntSum
from asyncpersist.operators.reducers.reduction import Reduction
from asyncpersist.operators.reducers.tuples import lists_of
from asyncpersist.operators.reducers.value_log import ValueLog
from asyncpersist.operators.reducers.value_set import ValueSet

__all__ = ["Plan"]

A = TypeVar("A", bound=Accumulator)


class Plan:
    """What a group-by keeps for its reductions, and how their outputs are read from it.

    Accumulators are listed in the order in which they are updated, after the value sets and logs.
    """

    def __init__(
        self,
        reductions: Sequence[Reduction],
        *,
        keys: Mapping[str, pl.DataType],
        stored_keys: Sequence[str],
        groups: Arrangement,
        append_only: bool,
        hash_bits: int,
    ) -> None:
        self.accumulators: dict[str, Accumulator] = {}
        self.value_sets: dict[str, ValueSet] = {}
        self.value_logs: dict[str, ValueLog] = {}
        self.readers: dict[str, Reader] = {}
        self._keys = keys
        self._stored_keys = tuple(stored_keys)
        self._groups = groups
        self._append_only = append_only
        self._hash_bits = hash_bits
        for reduction in reductions:
            self.readers[reduction.output] = self._reader(reduction)

    def _reader(self, reduction: Reduction) -> Reader:
        if reduction.kind == "count":
            return lambda slots: pl.Series(self._groups.weights[slots])
        if reduction.kind == "sum":
            return self._sum(reduction)
        if reduction.kind == "avg":
            return self._avg(reduction)
        if reduction.kind in ("min", "max", "any"):
            return self._extreme(reduction, largest=reduction.kind == "max", with_id=False).get
        if reduction.kind in ("argmin", "argmax"):
            return self._extreme(reduction, largest=reduction.kind == "argmax", with_id=True).get_ids
        if reduction.kind == "count_distinct":
            counts = self._distinct(reduction)
            return lambda slots: pl.Series(counts.get(slots))
        if reduction.kind == "unique":
            column, dtype = _input(reduction)
            unique = Unique(
                column,
                dtype,
                keys=self._stored_keys,
                values=self._values(reduction),
                counts=self._distinct(reduction),
            )
            return self._shared(unique).get
        return self._lists(reduction)

    def _shared(self, accumulator: A) -> A:
        """The accumulator of that name that is there already, else this one."""
        return cast(A, self.accumulators.setdefault(accumulator.name, accumulator))

    def _values(self, reduction: Reduction) -> ValueSet:
        column, dtype = _input(reduction)
        values = ValueSet(
            column,
            dtype,
            keys=self._keys,
            stored_keys=self._stored_keys,
            groups=self._groups,
            hash_bits=self._hash_bits,
        )
        return self.value_sets.setdefault(values.name, values)

    def _log(self, reduction: Reduction, *, with_id: bool) -> ValueLog:
        column, dtype = _input(reduction)
        log = ValueLog(
            column,
            dtype,
            with_id=with_id,
            keys=self._keys,
            stored_keys=self._stored_keys,
            groups=self._groups,
        )
        return self.value_logs.setdefault(log.name, log)

    def _distinct(self, reduction: Reduction) -> DistinctCount:
        column, _ = _input(reduction)
        return self._shared(DistinctCount(column, self._values(reduction)))

    def _extreme(self, reduction: Reduction, *, largest: bool, with_id: bool) -> Extreme:
        column, dtype = _input(reduction)
        extreme = Extreme(
            column,
            dtype,
            largest=largest,
            with_id=with_id,
            keys=list(self._keys),
            groups=self._groups,
            values=None if self._append_only else self._log(reduction, with_id=with_id),
        )
        return self._shared(extreme)

    def _summed(self, reduction: Reduction) -> IntSum | FloatSum:
        column, dtype = _input(reduction)
        if dtype.is_float():
            return self._shared(FloatSum(column))
        return self._shared(IntSum(column, self._stored_keys))

    def _counted(self, reduction: Reduction) -> Callable[[Slots], Ints]:
        """How many values of groups are not None."""
        assert reduction.dtype is not None
        if not reduction.dtype.optional:
            return lambda slots: self._groups.weights[slots]
        column, _ = _input(reduction)
        return self._shared(PresentCount(column)).get

    def _sum(self, reduction: Reduction) -> Reader:
        assert reduction.dtype is not None
        total, dtype = self._summed(reduction), reduction.output_dtype.polars
        if not reduction.dtype.optional:
            return lambda slots: pl.Series(total.get(slots)).cast(dtype)
        counted = self._counted(reduction)
        return lambda slots: _where(counted(slots) > 0, total.get(slots), dtype)

    def _avg(self, reduction: Reduction) -> Reader:
        total, counted = self._summed(reduction), self._counted(reduction)
        dtype = reduction.output_dtype.polars

        def read(slots: Slots) -> pl.Series:
            counts = counted(slots)
            present = counts > 0
            divisors = np.where(present, counts, 1)
            if isinstance(dtype, pl.Duration):
                return _where(present, total.get(slots) // divisors, dtype)
            return _where(present, total.get(slots) / divisors, dtype)

        return read

    def _lists(self, reduction: Reduction) -> Reader:
        _, dtype = _input(reduction)
        by_id = reduction.kind == "tuple"
        values, skip_nones = self._log(reduction, with_id=by_id), reduction.skip_nones
        return lambda slots: lists_of(values, dtype, slots, by_id=by_id, skip_nones=skip_nones)


def _input(reduction: Reduction) -> tuple[str, pl.DataType]:
    assert reduction.input is not None
    assert reduction.dtype is not None
    return reduction.input, reduction.dtype.polars


def _where(present: npt.NDArray[np.bool_], values: npt.NDArray[Any], dtype: pl.DataType) -> pl.Series:
    """The values as a column of a type, None where there is none."""
    column = pl.Series("value", values).cast(dtype)
    if present.all():
        return column
    return pl.select(pl.when(pl.Series(present)).then(column)).to_series()
