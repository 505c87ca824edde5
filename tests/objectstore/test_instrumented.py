"""What is counted of the calls of a store."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from asyncpersist.errors import StoreUnavailable
from asyncpersist.objectstore.contract import KeyExists, KeyMissing
from asyncpersist.objectstore.instrumented import InstrumentedStore
from asyncpersist.objectstore.memory import MemoryStore
from asyncpersist.testing import contract
from asyncpersist.testing.clocks import ManualClock
from asyncpersist.testing.stores import FaultyStore, Outcome


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
async def test_it_is_a_store(check) -> None:
    await check(InstrumentedStore(MemoryStore()))


async def test_calls_bytes_and_seconds() -> None:
    clock = ManualClock()
    store = InstrumentedStore(
        FaultyStore(MemoryStore(), lambda *_: Outcome.DONE, latency=lambda *_: clock.sleep(0.25)), clock
    )
    assert store.figures() == {}
    await store.put("a", b"12345")
    before = store.figures()
    await store.put("b", b"123")
    await store.create("c", b"1")
    await store.get("a")
    await store.get_range("a", 1, 3)
    await store.list()
    await store.delete(key for key in ["a", "b"])
    await store.check_writable()
    assert before == {"put": (1, 0, 5, 0.5)}
    assert store.figures() == {
        "put": (2, 0, 8, 1.0),
        "create": (1, 0, 1, 0.5),
        "get": (1, 0, 5, 0.5),
        "get_range": (1, 0, 2, 0.5),
        "list": (1, 0, 0, 0.5),
        "delete": (1, 0, 0, 0.5),
        "check_writable": (1, 0, 0, 0.0),
    }


async def test_failures() -> None:
    outcome = Outcome.DONE
    store = InstrumentedStore(FaultyStore(MemoryStore(), lambda *_: outcome), ManualClock())
    with pytest.raises(KeyMissing):
        await store.get("a")
    await store.create("a", b"1234")
    with pytest.raises(KeyExists):
        await store.create("a", b"5678")
    assert store.figures() == {"get": (1, 0, 0, 0.0), "create": (2, 0, 4, 0.0)}
    outcome = Outcome.REFUSED
    with pytest.raises(StoreUnavailable):
        await store.create("b", b"1234")
    outcome = Outcome.DONE
    cut = asyncio.ensure_future(store.create("c", b"1234"))
    await asyncio.sleep(0)
    cut.cancel()
    with suppress(asyncio.CancelledError):
        await cut
    assert store.figures()["create"] == (4, 2, 4, 0.0)
