"""Which functions an executor takes."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from asyncpersist.errors import GraphError
from asyncpersist.udfs.calling.choosing import check_executor
from asyncpersist.udfs.executors import (
    Executor,
    async_executor,
    auto_executor,
    fully_async_executor,
    process_executor,
    sync_executor,
)
from tests.udfs.calling import elsewhere
from tests.udfs.calling.pieces import function, outcome


async def coroutine(n: int, plus: int = 1) -> int:
    return n + plus


class Called:
    """Its instances are coroutine functions."""

    async def __call__(self, n: int) -> int:
        return n + 1

    async def method(self, n: int) -> int:
        return n + 1


COROUTINES = [coroutine, Called(), Called().method, functools.partial(coroutine, plus=1), functools.partial(Called())]


@pytest.mark.parametrize("call", COROUTINES)
async def test_coroutine_functions_whatever_they_look_like(call: Any) -> None:
    answers, failure = await outcome(function(call, int, result=int), [1, 2])
    assert failure is None
    assert answers.values == [2, 3]
    for executor in (async_executor(), fully_async_executor(), auto_executor()):
        check_executor(function(call, int, result=int, executor=executor))
    for refused in (sync_executor(), process_executor(1)):
        with pytest.raises(GraphError, match="async def"):
            check_executor(function(call, int, result=int, executor=refused))


async def test_plain_callables_of_every_kind() -> None:
    for call in (len, str.__len__, functools.partial(int.__add__, 1), elsewhere.Adding(1), lambda value: 7):
        for executor in (auto_executor(), sync_executor(), async_executor()):
            check_executor(function(call, int, result=int, executor=executor))
    answers, _ = await outcome(function(elsewhere.Adding(3), int, result=int), [1])
    assert answers.values == [4]


@pytest.mark.parametrize("executor", [auto_executor(), sync_executor(), async_executor(), process_executor(1)])
def test_generators_are_refused(executor: Executor) -> None:
    def plain(n: int) -> Any:
        yield n

    async def asynchronous(n: int) -> Any:
        yield n

    for call in (plain, asynchronous, functools.partial(asynchronous)):
        with pytest.raises(GraphError, match="generator"):
            check_executor(function(call, int, result=int, executor=executor))


def test_other_processes_have_to_find_it() -> None:
    def local(n: int) -> int:
        return n

    for call in (local, lambda n: n, functools.partial(local)):
        with pytest.raises(GraphError, match="at the top of a module"):
            check_executor(function(call, int, result=int, executor=process_executor(1)))
    for call in (elsewhere.everything, elsewhere.stuck.func, elsewhere.Adding(1), len, str.upper):
        check_executor(function(call, int, result=int, executor=process_executor(1)))
