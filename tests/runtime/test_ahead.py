from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial

import pytest

from asyncpersist.runtime.ahead import in_order


class Jobs:
    """Each returns its number once it is told to; notes what begins and ends."""

    def __init__(self, many: int, *, failing: int | None = None) -> None:
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.told = [asyncio.Event() for _ in range(many)]
        self._failing = failing

    def jobs(self) -> list[Callable[[], Awaitable[int]]]:
        return [partial(self._job, number) for number in range(len(self.told))]

    def tell_all(self) -> None:
        for told in self.told:
            told.set()

    async def _job(self, number: int) -> int:
        self.begun.append(number)
        try:
            await self.told[number].wait()
            if number == self._failing:
                raise ValueError(f"job {number}")
        finally:
            self.ended.append(number)
        return number


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_results_come_in_order_whichever_is_done_first() -> None:
    made = Jobs(4)
    async with aclosing(in_order(made.jobs(), at_once=2)) as results:
        first = asyncio.ensure_future(anext(results))
        made.told[1].set()
        await turns()
        assert not first.done()
        made.tell_all()
        assert [await first, *[number async for number in results]] == [0, 1, 2, 3]


async def test_so_many_run_while_a_result_is_used_and_no_more() -> None:
    made = Jobs(5)
    made.told[0].set()
    async with aclosing(in_order(made.jobs(), at_once=2)) as results:
        assert await anext(results) == 0
        await turns()
        assert made.begun == [0, 1, 2]
    assert sorted(made.ended) == [0, 1, 2]


async def test_an_error_comes_in_its_place_and_ends_the_others() -> None:
    made = Jobs(5, failing=2)
    for number in (0, 1, 2):
        made.told[number].set()
    found = []
    with pytest.raises(ValueError, match="job 2"):
        async with aclosing(in_order(made.jobs(), at_once=3)) as results:
            async for result in results:
                found.append(result)
    assert found == [0, 1]
    assert sorted(made.ended) == sorted(made.begun)


async def test_cancelled_while_it_waits_it_ends_what_runs() -> None:
    made = Jobs(3)

    async def read() -> None:
        async with aclosing(in_order(made.jobs(), at_once=2)) as results:
            await anext(results)

    reading = asyncio.create_task(read())
    await turns()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert sorted(made.ended) == [0, 1]
