"""A store in a thread of its own: nobody waits for it in the loop, and nothing goes on behind the caller's back."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import anyio
import pytest

from asyncpersist.clock import SystemClock
from asyncpersist.errors import StoreUnavailable
from asyncpersist.objectstore.contract import Entry, KeyExists, KeyMissing
from asyncpersist.objectstore.memory import MemoryStore
from asyncpersist.objectstore.remote import remote
from asyncpersist.objectstore.threaded import ThreadedStore
from asyncpersist.testing import contract
from asyncpersist.testing.stores import FaultyStore, Outcome
from tests.amounts import PATIENCE


def store_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "asyncpersist-store"]


class Tracing(MemoryStore):
    """Says where it is called and how calls end; `get` never answers, `put` when it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.where: set[int] = set()
        self.log: list[str] = []
        self.called = threading.Event()
        self.go = threading.Event()

    async def list(self, prefix: str = "", *, limit: int | None = None) -> list[Entry]:
        self.where.add(threading.get_ident())
        return await super().list(prefix, limit=limit)

    async def get(self, key: str) -> bytes:
        self.log.append("begun")
        self.called.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.log.append("cancelled")
            for _ in range(50):
                await asyncio.sleep(0)
            self.log.append("ended")
            raise
        raise AssertionError

    async def put(self, key: str, data: bytes) -> None:
        self.called.set()
        while not self.go.is_set():
            await asyncio.sleep(0)
        await super().put(key, data)
        self.log.append("put")

    async def create(self, key: str, data: bytes) -> None:
        self.called.set()
        assert self.go.wait(PATIENCE), "nobody went on while this thread was blocked"

    async def aclose(self) -> None:
        self.where.add(threading.get_ident())
        self.log.append("closed")


async def called(inner: Tracing) -> None:
    while not inner.called.is_set():
        await asyncio.sleep(0)


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("wrap", [ThreadedStore, lambda inner: remote(inner, SystemClock())], ids=["alone", "remote"])
async def test_it_is_a_store(wrap, check) -> None:
    store = wrap(MemoryStore())
    try:
        await check(store)
    finally:
        await store.aclose()
    assert not store_threads()


async def test_everything_happens_in_one_thread_that_the_first_call_starts() -> None:
    inner = Tracing()
    store = ThreadedStore(inner)
    assert store.describe() == "memory"
    assert not store_threads()
    await asyncio.gather(*(store.list() for _ in range(10)))
    (thread,) = store_threads()
    assert thread.daemon
    await store.aclose()
    assert inner.where == {thread.ident}
    assert inner.log == ["closed"]


async def test_the_callers_loop_goes_on_while_the_store_blocks() -> None:
    inner = Tracing()
    store = ThreadedStore(inner)
    blocked = asyncio.ensure_future(store.create("k", b""))
    await called(inner)
    inner.go.set()
    await blocked
    await store.aclose()


async def test_errors_are_those_of_the_store() -> None:
    store = ThreadedStore(MemoryStore())
    await store.create("k", b"1")
    with pytest.raises(KeyExists):
        await store.create("k", b"2")
    with pytest.raises(KeyMissing):
        await store.get("nothing")
    with pytest.raises(ValueError, match="no object key"):
        await store.put("/", b"")
    await store.aclose()


async def test_a_cancelled_call_has_ended_over_there_when_it_ends_here() -> None:
    inner = Tracing()
    store = ThreadedStore(inner)
    call = asyncio.ensure_future(store.get("k"))
    await called(inner)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert inner.log == ["begun", "cancelled", "ended"]
    await store.aclose()


async def test_cancelling_twice_does_not_cut_it_short() -> None:
    inner = Tracing()
    store = ThreadedStore(inner)
    call = asyncio.ensure_future(store.get("k"))
    await called(inner)
    for _ in range(5):
        call.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await call
    assert inner.log == ["begun", "cancelled", "ended"]
    await store.aclose()


async def test_a_cancel_scope_waits_for_the_end_too() -> None:
    inner = Tracing()
    store = ThreadedStore(inner)
    async with anyio.create_task_group() as group:
        group.start_soon(store.get, "k")
        await called(inner)
        group.cancel_scope.cancel()
    assert inner.log == ["begun", "cancelled", "ended"]
    await store.aclose()


async def test_a_call_that_is_cancelled_at_once_does_not_linger() -> None:
    for turns in range(4):
        inner = Tracing()
        store = ThreadedStore(inner)
        call = asyncio.ensure_future(store.get("k"))
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert inner.log in ([], ["begun", "cancelled", "ended"])
        await store.aclose()


async def test_a_call_that_ends_as_it_is_cancelled_is_cancelled() -> None:
    class Stubborn(Tracing):
        async def get(self, key: str) -> bytes:
            try:
                return await super().get(key)
            except asyncio.CancelledError as exc:
                raise KeyMissing("ended otherwise") from exc

    inner = Stubborn()
    store = ThreadedStore(inner)
    call = asyncio.ensure_future(store.get("k"))
    await called(inner)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await store.aclose()


async def test_closing_waits_for_what_is_under_way() -> None:
    inner = Tracing()
    store = ThreadedStore(inner)
    writing = asyncio.ensure_future(store.put("k", b"1"))
    await called(inner)
    closing = [asyncio.ensure_future(store.aclose()) for _ in range(2)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert not any(task.done() for task in closing)
    with pytest.raises(StoreUnavailable, match="has been closed"):
        await store.list()
    inner.go.set()
    await asyncio.gather(writing, *closing)
    assert inner.log == ["put", "closed"]
    assert not store_threads()
    await store.aclose()
    assert inner.log == ["put", "closed"]


async def test_closing_what_was_never_used_is_closing() -> None:
    inner = Tracing()
    store = ThreadedStore(inner)
    await store.aclose()
    assert inner.log == ["closed"]
    assert not store_threads()
    with pytest.raises(StoreUnavailable, match="has been closed"):
        await store.put("k", b"")


async def test_a_failure_to_close_is_told_and_the_thread_ends() -> None:
    class Stuck(MemoryStore):
        async def aclose(self) -> None:
            raise StoreUnavailable("cannot be closed")

    store = ThreadedStore(Stuck())
    await store.list()
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="cannot be closed"):
            await store.aclose()
    assert not store_threads()


def test_one_loop_may_follow_another() -> None:
    store = ThreadedStore(MemoryStore())
    asyncio.run(store.put("k", b"1"))
    assert asyncio.run(store.get("k")) == b"1"
    asyncio.run(store.aclose())
    assert not store_threads()


def test_a_program_that_forgets_to_close_ends_all_the_same() -> None:
    program = """
import asyncio
from asyncpersist.objectstore.memory import MemoryStore
from asyncpersist.objectstore.threaded import ThreadedStore

class Forever(MemoryStore):
    async def get(self, key):
        await asyncio.Event().wait()

async def main():
    store = ThreadedStore(Forever())
    await store.put("k", b"1")
    print(await store.list())

asyncio.run(main())
"""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "'k'" in ended.stdout


async def test_the_stack_for_the_network_asks_again_in_the_thread() -> None:
    faulty = FaultyStore.scripted(MemoryStore(), Outcome.REFUSED, Outcome.LOST_ANSWER)
    store = remote(faulty, SystemClock())
    await store.create("k", b"1")
    assert await store.get("k") == b"1"
    assert [method for method, _ in faulty.calls] == ["create", "create", "create", "get", "get"]
    await store.aclose()
