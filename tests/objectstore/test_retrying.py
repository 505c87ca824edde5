"""Asking again: what is repeated, for how long, and what is said when it was not enough."""

from __future__ import annotations

import logging
import random

import pytest

from asyncpersist.errors import StateUnwritable, StoreUnavailable
from asyncpersist.objectstore.contract import KeyExists, KeyMissing, ObjectStore, OutcomeUnknown, Throttled
from asyncpersist.objectstore.memory import MemoryStore
from asyncpersist.objectstore.retrying import RetryingStore
from asyncpersist.testing import contract
from asyncpersist.testing.clocks import ManualClock
from asyncpersist.testing.stores import FaultyStore, Outcome

WRITES = ["create", "put", "delete"]
READS = ["get", "get_range", "list"]
NOT_NOW = [Outcome.REFUSED, Outcome.THROTTLED, Outcome.LOST_ANSWER, Outcome.LOST_REQUEST, Outcome.LATE]


class Sleepless(ManualClock):
    """Remembers how long it was slept on."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.pauses: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await super().sleep(seconds)


class Failing(MemoryStore):
    """Raises one error whatever it is asked."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
        self.asked = 0

    async def put(self, key: str, data: bytes) -> None:
        self.asked += 1
        raise self.error

    async def create(self, key: str, data: bytes) -> None:
        self.asked += 1
        raise self.error

    async def get(self, key: str) -> bytes:
        self.asked += 1
        raise self.error

    async def check_writable(self) -> None:
        self.asked += 1
        raise self.error


async def call(store: ObjectStore, method: str) -> object:
    """One call of `method` about the key `k`."""
    calls = {
        "get": lambda: store.get("k"),
        "get_range": lambda: store.get_range("k", 0, 1),
        "list": lambda: store.list("k"),
        "create": lambda: store.create("k", b"data"),
        "put": lambda: store.put("k", b"data"),
        "delete": lambda: store.delete(key for key in ["k"]),
    }
    return await calls[method]()


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
async def test_it_is_a_store(check) -> None:
    await check(RetryingStore(MemoryStore(), clock=ManualClock()))


@pytest.mark.parametrize("outcome", NOT_NOW)
@pytest.mark.parametrize("method", [*READS, *WRITES])
async def test_what_is_not_answered_is_asked_again(method: str, outcome: Outcome) -> None:
    inner = MemoryStore()
    if method != "create":
        await inner.put("k", b"old")
    faulty = FaultyStore.scripted(inner, outcome, outcome, outcome, method=method)
    await call(RetryingStore(faulty, clock=ManualClock()), method)
    await faulty.settle()
    if method in WRITES:
        assert await inner.list() == ([] if method == "delete" else [("k", 4)])
    assert [name for name, _ in faulty.calls].count(method) in (2, 4)


@pytest.mark.parametrize("error", [StateUnwritable("no"), KeyExists("no"), KeyMissing("no"), ValueError("no")])
async def test_what_will_not_change_is_asked_once(error: Exception) -> None:
    inner = Failing(error)
    store = RetryingStore(inner, clock=ManualClock())
    for attempt in (store.get("k"), store.put("k", b""), store.create("k", b""), store.check_writable()):
        with pytest.raises(type(error)) as raised:
            await attempt
        assert raised.value is error
    assert inner.asked == 4


async def test_the_pauses_are_random_and_grow_to_a_bound() -> None:
    ceilings = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    first, seventh = [], []
    for seed in range(50):
        clock = Sleepless(seed)
        with pytest.raises(StoreUnavailable):
            await RetryingStore(Failing(StoreUnavailable("away")), deadline=600.0, clock=clock).get("k")
        assert all(pause < ceiling for pause, ceiling in zip(clock.pauses, ceilings, strict=False))
        assert max(clock.pauses) < 5.0
        first.append(clock.pauses[0])
        seventh.append(clock.pauses[6])
    assert (min(first) < 0.01, max(first) > 0.09) == (True, True)
    assert (min(seventh) < 0.5, max(seventh) > 4.5) == (True, True)


async def test_a_store_that_names_a_time_is_left_alone_for_so_long() -> None:
    clock = Sleepless()
    with pytest.raises(Throttled):
        await RetryingStore(Failing(Throttled("slow down", 7.0)), deadline=30.0, clock=clock).put("k", b"")
    assert 3 <= len(clock.pauses) <= 5
    assert all(7.0 <= pause < 8.0 for pause in clock.pauses[:-1])


@pytest.mark.parametrize("seconds", [29.99, 60.0, 1e9])
async def test_a_store_that_names_a_longer_time_than_is_left_is_asked_once_more_at_the_end(seconds: float) -> None:
    clock, inner = Sleepless(), Failing(Throttled("slow down", seconds))
    with pytest.raises(Throttled):
        await RetryingStore(inner, deadline=30.0, clock=clock).get("k")
    assert (inner.asked, clock.pauses, clock.monotonic()) == (2, [30.0], 30.0)
    faulty = FaultyStore.scripted(MemoryStore(), Outcome.REFUSED, method="put")
    await RetryingStore(faulty, deadline=1e-9, clock=ManualClock()).put("k", b"")
    assert faulty.calls == [("put", "k")] * 2


@pytest.mark.parametrize("deadline", [0.0, 3.0, 30.0])
async def test_the_deadline_ends_it_with_the_last_error(deadline: float) -> None:
    for seed in range(20):
        clock, error = Sleepless(seed), StoreUnavailable("away")
        inner = Failing(error)
        with pytest.raises(StoreUnavailable) as raised:
            await RetryingStore(inner, deadline=deadline, clock=clock).get("k")
        assert raised.value is error
        assert clock.monotonic() == deadline
        assert inner.asked == len(clock.pauses) + 1


@pytest.mark.parametrize("method", WRITES)
async def test_a_write_that_may_have_happened_says_so_in_the_end(method: str) -> None:
    for doubt in (Outcome.LOST_ANSWER, Outcome.LOST_REQUEST, Outcome.LATE):
        outcomes = iter([Outcome.REFUSED, doubt])
        faulty = FaultyStore(MemoryStore(), lambda *_, rest=outcomes: next(rest, Outcome.REFUSED))
        with pytest.raises(OutcomeUnknown):
            await call(RetryingStore(faulty, clock=ManualClock()), method)
        await faulty.aclose()


@pytest.mark.parametrize("method", [*READS, *WRITES])
async def test_a_call_that_was_never_carried_out_is_not_in_doubt(method: str) -> None:
    faulty = FaultyStore(MemoryStore(), lambda *_: Outcome.REFUSED)
    with pytest.raises(StoreUnavailable) as raised:
        await call(RetryingStore(faulty, clock=ManualClock()), method)
    assert not isinstance(raised.value, OutcomeUnknown)


async def test_a_create_that_meets_itself_has_succeeded() -> None:
    faulty = FaultyStore.scripted(MemoryStore(), Outcome.LOST_ANSWER)
    store = RetryingStore(faulty, clock=ManualClock())
    await store.create("k", b"mine")
    assert await store.get("k") == b"mine"
    assert faulty.calls[:3] == [("create", "k"), ("create", "k"), ("get", "k")]


async def test_a_create_that_meets_another_has_not() -> None:
    for outcome in (Outcome.LOST_ANSWER, Outcome.LOST_REQUEST, Outcome.LATE):
        inner = MemoryStore()
        await inner.create("k", b"theirs")
        faulty = FaultyStore.scripted(inner, outcome)
        with pytest.raises(KeyExists):
            await RetryingStore(faulty, clock=ManualClock()).create("k", b"mine")
        await faulty.aclose()
        assert await inner.get("k") == b"theirs"


async def test_a_create_that_certainly_did_not_happen_believes_a_conflict() -> None:
    inner = MemoryStore()
    await inner.create("k", b"same")
    for outcomes in ([], [Outcome.REFUSED, Outcome.THROTTLED]):
        faulty = FaultyStore.scripted(inner, *outcomes)
        with pytest.raises(KeyExists):
            await RetryingStore(faulty, clock=ManualClock()).create("k", b"same")
        assert ("get", "k") not in faulty.calls


async def test_a_create_whose_bytes_cannot_be_read_back_is_in_doubt() -> None:
    def decide(method: str, key: str) -> Outcome:
        return Outcome.REFUSED if method == "get" else Outcome.LOST_ANSWER if len(faulty.calls) == 1 else Outcome.DONE

    faulty = FaultyStore(MemoryStore(), decide)
    with pytest.raises(OutcomeUnknown):
        await RetryingStore(faulty, clock=ManualClock()).create("k", b"mine")


async def test_a_create_is_made_again_if_it_was_deleted_before_it_could_be_read_back() -> None:
    class Vanishing(MemoryStore):
        """Somebody deletes what is there just before it is read."""

        async def get(self, key: str) -> bytes:
            await self.delete([key])
            return await super().get(key)

    inner = Vanishing()
    await RetryingStore(FaultyStore.scripted(inner, Outcome.LOST_ANSWER), clock=ManualClock()).create("k", b"mine")
    assert await inner.list() == [("k", 4)]


@pytest.mark.parametrize("seed", range(200))
async def test_whatever_becomes_of_a_create_what_is_said_is_true(seed: int) -> None:
    rng = random.Random(seed)
    inner = MemoryStore()
    before = rng.choice([None, b"mine", b"theirs"])
    if before is not None:
        await inner.create("k", before)
    rate, kinds = rng.choice([0.3, 0.9, 1.0]), rng.sample(NOT_NOW, rng.randint(1, 3))
    faulty = FaultyStore(inner, lambda *_: rng.choice(kinds) if rng.random() < rate else Outcome.DONE)
    try:
        await RetryingStore(faulty, deadline=rng.choice([0.5, 5.0]), clock=ManualClock(seed=seed)).create("k", b"mine")
    except KeyExists:
        assert before is not None
    except OutcomeUnknown:
        pass
    except StoreUnavailable:
        await faulty.settle()
        assert [entry.key for entry in await inner.list()] == ([] if before is None else ["k"])
    else:
        assert before != b"theirs"
        assert await inner.get("k") == b"mine"
    await faulty.settle()
    assert before is None or await inner.get("k") == before


async def test_one_that_stays_away_is_complained_of_once_until_it_answers(caplog: pytest.LogCaptureFixture) -> None:
    away = True
    faulty = FaultyStore(MemoryStore(), lambda *_: Outcome.REFUSED if away else Outcome.DONE)
    store = RetryingStore(faulty, clock=ManualClock())
    with caplog.at_level(logging.WARNING, "asyncpersist"):
        for _ in range(2):
            for _ in range(3):
                with pytest.raises(StoreUnavailable):
                    await store.put("k", b"")
            away = False
            await store.put("k", b"")
            away = True
    assert len(caplog.messages) == 2
    assert "refused" in caplog.messages[0]
