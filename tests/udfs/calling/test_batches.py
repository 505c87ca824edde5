"""Functions of whole columns and of lists."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import polars as pl
import pytest

from asyncpersist.dtypes import DateTimeUtc
from asyncpersist.errors import FunctionFailed
from asyncpersist.udfs.executors import async_executor
from tests.udfs.calling.pieces import function, outcome


async def test_series_in_and_out() -> None:
    seen = []

    def joined(left: pl.Series, right: pl.Series, *, sep: pl.Series) -> pl.Series:
        seen.append((left.name, right.name, sep.name, len(left)))
        return left + sep + right.cast(pl.String)

    of = function(joined, str, int, str, result=str, keywords=("sep",), columns="polars")
    answers, failure = await outcome(of, ["ß", "", "日"], [1, 2, 3], ["-", "", "👍"])
    assert failure is None
    assert answers.values == ["ß-1", "2", "日👍3"]
    assert seen == [("left", "right", "sep", 3)]


@pytest.mark.parametrize(
    ("returned", "result", "expected"),
    [
        (lambda s: [1, None, 3], int | None, [1, None, 3]),
        (lambda s: range(3), int, [0, 1, 2]),
        (lambda s: s.to_numpy() * 2, float, [0.0, 2.0, 4.0]),
        (lambda s: pl.Series([["a"], [], None]), list[str] | None, [["a"], [], None]),
        (lambda s: s.cast(pl.Int8), int, [0, 1, 2]),
    ],
)
async def test_whatever_makes_a_series(returned: Any, result: Any, expected: list[Any]) -> None:
    answers, failure = await outcome(function(returned, int, result=result, columns="polars"), [0, 1, 2])
    assert failure is None
    assert answers.values == expected


async def test_arrays_in_and_out() -> None:
    kinds: list[Any] = []

    def same(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        kinds.append(array.dtype.kind)
        array[:1] = array[:1]  # it may be written to
        return array

    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, 6)
    cases: list[tuple[Any, list[Any], str]] = [
        (int, [1, 2**62], "i"),
        (int | None, [2**62 + 1, None], "O"),
        (float, [0.5, -1.0], "f"),
        (bool, [True, False], "b"),
        (bool | None, [True, None], "O"),
        (str | None, ["ß", "", None], "O"),
        (datetime.datetime, [moment], "M"),
        (DateTimeUtc, [moment.replace(tzinfo=datetime.UTC)], "M"),
        (datetime.timedelta, [datetime.timedelta(days=-1, microseconds=3)], "m"),
        (list[int], [[1], []], "O"),
    ]
    for kind, values, _ in cases:
        answers, failure = await outcome(function(same, kind, result=kind, columns="numpy"), values)
        assert failure is None, (kind, failure)
        assert answers.values == values
    assert kinds == [expected for _, _, expected in cases]


@pytest.mark.parametrize("kind", ["array", "list", "series", "arrays"])
@pytest.mark.parametrize("coroutine", [False, True])
async def test_a_function_may_use_its_memory_again(kind: str, coroutine: bool) -> None:
    array = np.zeros(2, np.int64)
    values: list[int] = []

    def filled(given: Any) -> Any:
        array[: len(given)] = given
        values[:] = array[: len(given)].tolist()
        match kind:
            case "array":
                return array[: len(given)]
            case "list":
                return values
            case "series":
                return pl.Series(array[: len(given)])
            case _:
                return Like(array[: len(given)])

    async def later(given: Any) -> Any:
        return filled(given)

    columns = {"list": None, "series": "polars"}.get(kind, "numpy")
    of = function(later if coroutine else filled, int, result=int, columns=columns, max_batch_size=2)
    answers, failure = await outcome(of, range(7))
    assert failure is None
    assert answers.values == list(range(7))


class Like:
    """What an array is made of, in the same memory."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self._array = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return self._array.copy() if copy else self._array


async def test_rows_of_a_matrix_are_lists() -> None:
    of = function(lambda a: np.stack([a, a + 1], axis=1), float, result=list[float], columns="numpy")
    answers, failure = await outcome(of, [0.0, 5.0])
    assert failure is None
    assert answers.values == [[0.0, 1.0], [5.0, 6.0]]


@pytest.mark.parametrize("columns", ["polars", "numpy", None])
async def test_at_most_so_many_at_a_time(columns: Any) -> None:
    sizes = []

    def counted(values: Any) -> Any:
        sizes.append(len(values))
        return values

    of = function(counted, int, result=int, columns=columns, max_batch_size=4)
    answers, failure = await outcome(of, range(10))
    assert failure is None
    assert answers.values == list(range(10))
    assert sizes == [4, 4, 2]


async def test_lists_of_values_by_coroutines() -> None:
    async def doubled(texts: list[str], times: list[int]) -> list[str]:
        return [text * n for text, n in zip(texts, times, strict=True)]

    of = function(doubled, str, int, result=str, max_batch_size=3, executor=async_executor(capacity=2))
    answers, failure = await outcome(of, ["a"] * 7, range(7))
    assert failure is None
    assert answers.values == ["a" * n for n in range(7)]

    async def summed(series: pl.Series) -> pl.Series:
        return series + 1

    answers, failure = await outcome(function(summed, int, result=int, columns="polars"), range(5000))
    assert failure is None
    assert answers.values == list(range(1, 5001))

    async def plus(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return array + "!"

    answers, failure = await outcome(function(plus, str, result=str, columns="numpy"), ["ß"] * 5000)
    assert failure is None
    assert answers.values == ["ß!"] * 5000


@pytest.mark.parametrize("executor", [None, async_executor()])
@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda values: values[:2], "expected 2 values, got 1|expected 3 values, got 2"),
        (lambda values: 5, "expected a list, got int"),
        (lambda values: ["a"] * len(values), "expected int, got 'a'"),
        (lambda values: 1 / 0, "ZeroDivisionError"),
    ],
)
async def test_a_failure_names_the_rows(call: Any, said: str, executor: Any) -> None:
    settings = {} if executor is None else {"executor": executor}
    _, failure = await outcome(function(call, int, result=int, max_batch_size=3, **settings), [7, 8, 9])
    assert isinstance(failure, FunctionFailed)
    assert "3 rows, the first of which is (7)" in str(failure)
    assert any(each in str(failure) for each in said.split("|"))


async def test_a_failed_batch_keeps_those_before_it() -> None:
    def call(values: list[int]) -> list[Any]:
        return [None if value == 5 else value for value in values]

    answers, failure = await outcome(function(call, int, result=int, max_batch_size=2), range(8))
    assert isinstance(failure, FunctionFailed)
    assert answers.values == [0, 1, 2, 3]
