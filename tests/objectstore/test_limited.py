"""How much is asked of a store at once, who waits for whom, and what throttling does."""

from __future__ import annotations

import asyncio
import random
from collections import deque

import pytest

from asyncpersist.objectstore.contract import KeyMissing, Throttled
from asyncpersist.objectstore.limited import LimitedStore
from asyncpersist.objectstore.memory import MemoryStore
from asyncpersist.testing import contract
from asyncpersist.testing.stores import FaultyStore, Outcome


class Gate(MemoryStore):
    """Holds every put until it is let go, in the order of coming."""

    def __init__(self) -> None:
        super().__init__()
        self.held: deque[tuple[str, asyncio.Future[Exception | None]]] = deque()
        self.sizes: dict[str, int] = {}

    async def put(self, key: str, data: bytes) -> None:
        answer: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.held.append((key, answer))
        self.sizes[key] = len(data)
        try:
            if error := await answer:
                raise error
        finally:
            del self.sizes[key]

    @property
    def under_way(self) -> list[str]:
        return list(self.sizes)

    def let_go(self, error: Exception | None = None) -> None:
        """Answers whoever came first."""
        self.held.popleft()[1].set_result(error)


async def turns() -> None:
    """Lets everything go on that can."""
    for _ in range(10):
        await asyncio.sleep(0)


def put(store: LimitedStore, key: str, size: int = 1) -> asyncio.Task[None]:
    return asyncio.ensure_future(store.put(key, bytes(size)))


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
async def test_it_is_a_store(check) -> None:
    await check(LimitedStore(MemoryStore(), requests=2, bytes_in_flight=100))


async def test_no_more_than_so_many_requests_are_under_way_and_nobody_is_passed() -> None:
    gate = Gate()
    store = LimitedStore(gate, requests=3)
    tasks = [put(store, f"k{n}") for n in range(8)]
    for n in range(8):
        await turns()
        assert gate.under_way == [f"k{m}" for m in range(n, min(n + 3, 8))]
        gate.let_go()
    await asyncio.gather(*tasks)


async def test_no_more_than_so_many_bytes_are_under_way() -> None:
    gate = Gate()
    store = LimitedStore(gate, requests=10, bytes_in_flight=100)
    tasks = [put(store, key, size) for key, size in {"a": 60, "b": 40, "c": 1, "big": 300, "d": 1, "e": 0}.items()]
    await turns()
    assert gate.under_way == ["a", "b"]
    gate.let_go()
    await turns()
    assert gate.under_way == ["b", "c"]
    gate.let_go()
    await turns()
    assert gate.under_way == ["c"]
    gate.let_go()
    await turns()
    # It is alone with its bytes; who writes none may go beside it, but not before it.
    assert gate.under_way == ["big"]
    gate.let_go()
    await turns()
    assert gate.under_way == ["d", "e"]
    gate.let_go()
    gate.let_go()
    await asyncio.gather(*tasks)


async def test_reads_are_requests_too() -> None:
    gate = Gate()
    store = LimitedStore(gate, requests=1)
    writing = put(store, "a")
    await turns()
    reads = [
        asyncio.ensure_future(read)
        for read in (store.get("b"), store.get_range("b", 0, 1), store.list(), store.delete([]), store.check_writable())
    ]
    await turns()
    assert not any(read.done() for read in reads)
    gate.let_go()
    await writing
    results = await asyncio.gather(*reads, return_exceptions=True)
    assert [type(result) for result in results[:2]] == [KeyMissing, KeyMissing]
    assert results[2:] == [[], None, None]


async def test_throttling_halves_what_is_dared_and_success_brings_it_back() -> None:
    answers = deque[Outcome]()
    faulty = FaultyStore(MemoryStore(), lambda *_: answers.popleft() if answers else Outcome.DONE)
    store = LimitedStore(faulty, requests=9)
    seen = [store.allowed]
    for _ in range(5):
        answers.append(Outcome.THROTTLED)
        with pytest.raises(Throttled):
            await store.put("k", b"")
        seen.append(store.allowed)
    assert seen == [9, 4, 2, 1, 1, 1]
    calls = 0
    while store.allowed < 9:
        await store.put("k", b"")
        calls += 1
        assert calls < 1000
    assert calls > 8
    for _ in range(100):
        await store.put("k", b"")
    assert store.allowed == 9


async def test_those_that_are_turned_away_together_are_one_sign() -> None:
    gate = Gate()
    store = LimitedStore(gate, requests=8)
    tasks = [put(store, f"k{n}") for n in range(12)]
    await turns()
    assert len(gate.under_way) == 8
    for _ in range(8):
        gate.let_go(Throttled("slow down"))
    await turns()
    assert store.allowed == 4
    assert gate.under_way == ["k8", "k9", "k10", "k11"]
    gate.let_go(Throttled("slow down"))
    await turns()
    assert store.allowed == 2
    for _ in range(3):
        gate.let_go()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [result is None for result in results] == [False] * 9 + [True] * 3


@pytest.mark.parametrize("seed", range(50))
async def test_who_is_cancelled_keeps_no_place(seed: int) -> None:
    rng = random.Random(seed)
    gate = Gate()
    store = LimitedStore(gate, requests=2, bytes_in_flight=10)
    tasks = [put(store, f"k{n}", rng.choice([0, 1, 5, 30])) for n in range(30)]
    waiting = list(tasks)
    while not all(task.done() for task in tasks):
        for _ in range(rng.randint(0, 3)):
            await asyncio.sleep(0)
        assert len(gate.under_way) <= 2
        assert sum(gate.sizes.values()) <= 10 or len([size for size in gate.sizes.values() if size]) == 1
        if rng.random() < 0.3 and waiting:
            waiting.pop(rng.randrange(len(waiting))).cancel()
        if gate.held and not gate.held[0][1].done():
            gate.let_go()
        elif gate.held:
            gate.held.popleft()
    last = put(store, "last", 100)
    others = [put(store, f"beside {n}".replace(" ", ""), 0) for n in range(2)]
    await turns()
    assert gate.under_way == ["last", "beside0"]
    for task in (last, *others):
        while gate.held:
            gate.let_go()
            await turns()
        await task


@pytest.mark.parametrize("bounds", [{"requests": 0}, {"bytes_in_flight": 0}])
def test_nothing_is_no_bound(bounds: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        LimitedStore(MemoryStore(), **bounds)
