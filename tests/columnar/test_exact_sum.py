"""Sums of floats against exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from asyncpersist.columnar.exact_sum import ExactSums, split
from tests.examples import examples

numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(
        [5e-324, -5e-324, 2.0**-1022, 1.7976931348623157e308, -1.7976931348623157e308, 2.0**31, -(2.0**63)]
    ),
    st.builds(math.ldexp, st.integers(-(2**53), 2**53), st.integers(-60, 60)),
)


def exact(values: list[float]) -> float:
    total = sum(map(Fraction, values), Fraction(0))
    try:
        return float(total)
    except OverflowError:
        return math.inf if total > 0 else -math.inf


@examples(150)
@given(st.lists(numbers, min_size=1, max_size=40))
def test_split_is_exact(values: list[float]) -> None:
    parts = split(np.array(values))
    for i, value in enumerate(values):
        assert sum(Fraction(2) ** (32 * limb) * int(part[i]) for limb, part in parts.items()) == Fraction(value)
    assert all(np.abs(part).max() < 2**32 for part in parts.values())


@examples(150)
@given(
    st.lists(st.tuples(st.integers(0, 2), numbers, st.sampled_from([1, 1, -1, 1000])), max_size=40), st.integers(1, 5)
)
def test_sums_are_the_nearest_doubles_however_split(rows: list[tuple[int, float, int]], batches: int) -> None:
    sums = ExactSums()
    sums.reserve(3)
    slots = np.arange(3)
    value = np.zeros(3)
    for number in range(batches):
        batch = rows[number::batches]
        parts = split(np.array([row[1] for row in batch])) if batch else {}
        summed = {limb: np.zeros(3, np.int64) for limb in parts}
        for i, (slot, _, weight) in enumerate(batch):
            for limb, part in parts.items():
                summed[limb][slot] += part[i] * weight
        value = sums.add(slots, summed)
    for slot in range(3):
        assert value[slot] == exact(
            [
                number
                for s, number, weight in rows
                if s == slot
                for _ in range(abs(weight))
                for number in ([number] if weight > 0 else [-number])
            ]
        )


def test_nothing_remains_of_what_is_taken_back() -> None:
    sums = ExactSums()
    sums.reserve(1)
    slot = np.array([0])
    for number in (0.1, 1e300, -1e-300):
        sums.add(slot, split(np.array([number])))
    for number in (1e300, -1e-300):
        last = sums.add(slot, {limb: -part for limb, part in split(np.array([number])).items()})
    assert last[0] == 0.1
