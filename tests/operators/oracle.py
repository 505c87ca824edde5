"""Group-by recomputed from scratch in plain Python, and what it takes to drive an operator beside it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import polars as pl

from asyncpersist.columnar.codec import latest_rows
from asyncpersist.columnar.delta import ID, Delta
from asyncpersist.dtypes import DType
from asyncpersist.operators.operator import Operator
from asyncpersist.operators.reducers.reduction import Reduction

Row = dict[str, Any]


def plain(value: Any) -> Any:
    """A value that equals itself: NaN by name, no negative zero, lists as tuples."""
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else value + 0.0
    if isinstance(value, (list, tuple)):
        return tuple(plain(item) for item in value)
    if isinstance(value, Mapping):
        return tuple((name, plain(item)) for name, item in value.items())
    return value


def rank(value: Any) -> Any:
    """Sort order: None first, NaN last."""
    if value is None:
        return (0,)
    if isinstance(value, float) and math.isnan(value):
        return (2,)
    if isinstance(value, (list, tuple)):
        return (1, tuple(rank(item) for item in value))
    if isinstance(value, Mapping):
        return (1, tuple(rank(item) for item in value.values()))
    return (1, value)


def float_sum(values: Iterable[float]) -> float:
    values = list(values)
    special = [value for value in values if not math.isfinite(value)]
    if special:
        return math.nan if len(set(map(plain, special))) > 1 else special[0]
    exact = sum((Fraction(value) for value in values), Fraction(0))
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


def reduced(reduction: Reduction, rows: Sequence[Row]) -> Any:
    """The value of a reduction over the rows of one group."""
    if reduction.input is None:
        return len(rows)
    values = [row[reduction.input] for row in rows]
    present = [value for value in values if value is not None]
    match reduction.kind:
        case "count_distinct":
            return len(set(map(plain, values)))
        case "sorted_tuple":
            return sorted(present if reduction.skip_nones else values, key=rank)
        case "tuple":
            ordered = [row[reduction.input] for row in sorted(rows, key=lambda row: row[ID])]
            return [value for value in ordered if value is not None or not reduction.skip_nones]
    if not present:
        return None
    match reduction.kind:
        case "sum" if isinstance(present[0], float):
            return float_sum(present)
        case "sum":
            return sum(present[1:], present[0])
        case "avg" if isinstance(present[0], float):
            return float_sum(present) / len(present)
        case "avg":
            return np.float64(sum(present)) / len(present)
        case "min" | "any":
            return min(present, key=rank)
        case "max":
            return max(present, key=rank)
        case "unique":
            assert len(set(map(plain, values))) == 1
            return present[0]
        case "argmin" | "argmax":
            best = (min if reduction.kind == "argmin" else max)(present, key=rank)
            return min(row[ID] for row in rows if plain(row[reduction.input]) == plain(best))
    raise AssertionError(reduction.kind)


def expected(keys: Iterable[str], reductions: Sequence[Reduction], rows: Iterable[Row]) -> Counter[Any]:
    """The output rows of a group-by over `rows`."""
    keys = list(keys)
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(plain(row[key]) for key in keys), []).append(row)
    return Counter(
        (*key, *(plain(reduced(reduction, members)) for reduction in reductions)) for key, members in groups.items()
    )


def delta(schema: Mapping[str, DType], inserted: Sequence[Row], retracted: Sequence[Row], *, ids: bool) -> Delta:
    """A delta of rows; without retractions it has no weights, as sources give it."""
    columns = {name: dtype.polars for name, dtype in schema.items()}
    if ids:
        columns[ID] = pl.UInt128()
    rows = [*retracted, *inserted]
    frame = pl.DataFrame({name: pl.Series([row[name] for row in rows], dtype=dtype) for name, dtype in columns.items()})
    if not retracted:
        return Delta(frame)
    return Delta(frame, np.array([-1] * len(retracted) + [1] * len(inserted), np.int64))


class Accumulated:
    """The sum of an operator's output; at every epoch, what is retracted must be there."""

    def __init__(self) -> None:
        self.rows: Counter[Any] = Counter()

    def take(self, output: Delta) -> None:
        assert output.consolidated
        weights = np.ones(output.height, np.int64) if output.weights is None else output.weights
        changes: Counter[Any] = Counter()
        for row, weight in zip(output.rows.rows(), weights.tolist(), strict=True):
            assert weight in (1, -1)
            assert plain(row) not in changes, "a row both retracted and inserted, or twice"
            changes[plain(row)] = weight
        for row, weight in changes.items():
            if weight < 0:
                assert self.rows[row] == 1, f"retracted, but not there: {row}"
            self.rows[row] += weight
        self.rows = +self.rows
        assert all(count == 1 for count in self.rows.values())

    def assert_told_by(self, operator: Operator) -> None:
        """What an operator tells of its output is all of it, every row once and as it was emitted."""
        pieces = list(operator.present())
        assert all(piece.weights is None for piece in pieces)
        assert Counter(plain(row) for piece in pieces for row in piece.rows.rows()) == self.rows


class Saved:
    """The increments of an operator's states, and new operators made of them."""

    def __init__(self) -> None:
        self.increments: dict[str, list[pl.DataFrame]] = {}

    def capture(self, operator: Operator) -> None:
        for name, state in operator.states().items():
            increment = state.capture()
            if increment is not None:
                before = [] if increment.complete else self.increments.get(name, [])
                self.increments[name] = [*before, increment.rows]

    def restore(self, operator: Operator) -> None:
        # In the order of names, which is not that in which the operator gives them.
        for name, state in sorted(operator.states().items(), reverse=True):
            if name in self.increments:
                state.load(latest_rows(self.increments[name], state.key, drop_tombstones=True))
