"""Calls that nobody waits for, several who ask for the same: each key gets what its arguments are answered with."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from typing import Any

import polars as pl
import pytest

from asyncpersist.clock import SystemClock
from asyncpersist.columnar.delta import ID
from asyncpersist.dtypes import DType
from asyncpersist.errors import FunctionFailed
from asyncpersist.operators.remembered import ARGUMENTS, Remembered
from asyncpersist.udfs import InMemoryCache
from asyncpersist.udfs.caching.room import CacheRoom
from asyncpersist.udfs.caching.table import CacheTable
from asyncpersist.udfs.executors import fully_async_executor
from asyncpersist.udfs.function import Function
from asyncpersist.udfs.later import flights
from asyncpersist.udfs.later.later_calls import LaterCalls

PATIENCE = 30


def function(call: Any, *, cached: bool = False, deterministic: bool = False) -> Function:
    return Function(
        call=call,
        name="f",
        takes=(DType("int"),),
        result=DType("int"),
        deterministic=deterministic,
        executor=fully_async_executor(autocommit_duration_ms=0),
        cache=InMemoryCache() if cached else None,
    )


def table_of(f: Function) -> CacheTable:
    return CacheRoom(SystemClock()).table(f.digest, f.result.polars)


def frames(pairs: list[tuple[int, int]]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The keys and the arguments of (id, argument)."""
    arguments = pl.DataFrame({"a": [a for _, a in pairs]}, schema={"a": pl.Int64})
    return Remembered.keys(pl.Series([key for key, _ in pairs], dtype=pl.UInt128), arguments), arguments


class Asking:
    """One who asks: what it wants, and that it gets just that."""

    def __init__(self, f: Function, table: CacheTable | None, **settings: Any) -> None:
        self.woken = asyncio.Event()
        self.calls = LaterCalls(
            f, table, loop=asyncio.get_running_loop(), clock=SystemClock(), wake=self.woken.set, **settings
        )
        self.wanted: dict[int, int] = {}
        self.got: dict[int, int] = {}

    def begin(self, *pairs: tuple[int, int]) -> None:
        self.wanted.update(pairs)
        self.calls.begin(*frames(list(pairs)))

    def withdraw(self, *ids: int) -> None:
        self.calls.withdraw(frames([(key, self.wanted.pop(key)) for key in ids])[0])

    def take(self) -> None:
        taken = self.calls.take()
        if taken is None:
            return
        keys, values = taken
        expected = frames([(key, self.wanted[key]) for key in keys[ID].to_list()])[0]
        assert keys[ARGUMENTS].equals(expected[ARGUMENTS])
        for key, value in zip(keys[ID].to_list(), values.to_list(), strict=True):
            assert value == 10 * self.wanted.pop(key)
            self.got[key] = value

    async def all(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.calls.busy:
                await self.woken.wait()
                self.woken.clear()
                self.take()
        assert not self.wanted

    async def close(self) -> None:
        await asyncio.to_thread(self.calls.close)


@pytest.mark.parametrize("seed", range(8))
async def test_everybody_gets_what_is_asked_for(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flights, "_MOST", 3)
    rng = random.Random(seed)
    gates = [asyncio.Event() for _ in range(8)]
    made: Counter[int] = Counter()

    async def f(a: int) -> int:
        made[a] += 1
        await gates[a].wait()
        return 10 * a

    cached, withdraws = seed % 3 > 0, seed % 2 > 0
    made_of = function(f, cached=cached, deterministic=seed % 3 == 1)
    table = table_of(made_of) if cached else None
    asking = [Asking(made_of, table) for _ in range(3)]
    number = 0
    for _ in range(60):
        who = rng.choice(asking)
        act = rng.choice(["begin", "begin", "withdraw", "take", "answer", "turn"])
        if act == "begin":
            pairs = [(number + n, rng.randrange(8)) for n in range(rng.randint(1, 4))]
            number += len(pairs)
            who.begin(*pairs)
        elif act == "withdraw" and withdraws:
            # As an operator does, which never withdraws what has been answered.
            who.take()
            if some := rng.sample(sorted(who.wanted), min(len(who.wanted), rng.randint(0, 3))):
                who.withdraw(*some)
        elif act == "take":
            who.take()
        elif act == "answer":
            rng.choice(gates).set()
        else:
            await asyncio.sleep(0)
    for gate in gates:
        gate.set()
    for who in asking:
        await who.all()
        await who.close()
    if cached and not withdraws:
        assert set(made.values()) == {1}
    counts = [who.calls.counts for who in asking]
    assert sum(each.calls for each in counts) <= made.total()


async def test_answers_are_not_given_out_before_they_are_written() -> None:
    async def f(a: int) -> int:
        return 10 * a

    writing, written = threading.Event(), threading.Event()
    made_of = function(f, cached=True)
    table = table_of(made_of)

    def write() -> None:
        writing.set()
        assert written.wait(PATIENCE)

    asking = Asking(made_of, table, write=write)
    asking.begin((1, 1), (2, 2))
    assert await asyncio.to_thread(writing.wait, PATIENCE)
    asking.take()
    assert len(asking.wanted) == 2
    # They are known all the same, and whoever finds them waits for the write as well.
    other = Asking(made_of, table, write=write)
    other.begin((3, 1))
    other.take()
    assert other.wanted
    written.set()
    await asking.all()
    await other.all()
    assert asking.got == {1: 10, 2: 20}
    for who in (asking, other):
        await who.close()


async def test_a_write_that_fails_is_raised() -> None:
    async def f(a: int) -> int:
        return 10 * a

    def write() -> None:
        raise OSError("full")

    made_of = function(f, cached=True)
    asking = Asking(made_of, table_of(made_of), write=write)
    asking.begin((1, 1))
    await asyncio.wait_for(asking.woken.wait(), PATIENCE)
    with pytest.raises(OSError, match="full"):
        asking.take()
    await asking.close()


async def test_who_waits_for_a_call_of_others_that_fails_makes_it() -> None:
    attempts: list[int] = []

    async def f(a: int) -> int:
        attempts.append(a)
        if len(attempts) == 1:
            await gate.wait()
            raise ValueError("no")
        return 10 * a

    gate = asyncio.Event()
    made_of = function(f, cached=True)
    table = table_of(made_of)
    one, other = Asking(made_of, table), Asking(made_of, table)
    one.begin((1, 1))
    other.begin((2, 1))
    await asyncio.sleep(0)
    gate.set()
    await other.all()
    await asyncio.wait_for(one.woken.wait(), PATIENCE)
    with pytest.raises(FunctionFailed, match="no"):
        one.take()
    assert (one.calls.counts.failures, other.got, attempts) == (1, {2: 10}, [1, 1])
    for who in (one, other):
        await who.close()


async def test_what_is_cancelled_says_nothing_more() -> None:
    async def f(a: int) -> int:
        await asyncio.Event().wait()
        return a

    asking = Asking(function(f), None)
    asking.begin((1, 1))
    await asking.close()
    assert asking.calls.take() is None
    asking.begin((2, 2))
    assert asking.calls.take() is None
    assert not asking.calls.ready
