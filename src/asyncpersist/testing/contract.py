"""The contract of object stores as tests: plain async functions over a fresh, empty store.

::

    @pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
    async def test_contract(check, store):
        await check(store)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from asyncpersist.objectstore.contract import KeyExists, KeyMissing, ObjectStore

__all__ = [
    "CHECKS",
    "can_create_again_what_was_deleted",
    "creates_only_what_is_absent",
    "deletes_what_is_there_and_what_is_not",
    "gives_back_what_was_put",
    "lets_one_of_many_creators_win",
    "lists_sorted_below_a_prefix",
    "names_itself",
    "puts_many_at_once",
    "reads_ranges",
    "refuses_what_is_no_key",
    "says_that_a_key_is_missing",
]


async def gives_back_what_was_put(store: ObjectStore) -> None:
    for data in (b"", b"x", bytes(range(256)) * 5000):
        await store.put("objects/a", data)
        assert await store.get("objects/a") == data


async def creates_only_what_is_absent(store: ObjectStore) -> None:
    await store.create("manifests/1.json", b"first")
    await _expect(KeyExists, store.create("manifests/1.json", b"second"))
    await _expect(KeyExists, store.create("manifests/1.json", b"first"))
    assert await store.get("manifests/1.json") == b"first"


async def lets_one_of_many_creators_win(store: ObjectStore) -> None:
    for round_ in range(5):
        key = f"race/{round_}"
        contents = [f"{round_} {n}".encode() * 100 for n in range(16)]
        results = await asyncio.gather(*(store.create(key, c) for c in contents), return_exceptions=True)
        winners = [c for c, result in zip(contents, results, strict=True) if result is None]
        assert len(winners) == 1
        assert all(result is None or isinstance(result, KeyExists) for result in results)
        assert await store.get(key) == winners[0]


async def can_create_again_what_was_deleted(store: ObjectStore) -> None:
    await store.create("a", b"1")
    await store.delete(["a"])
    await store.create("a", b"2")
    assert await store.get("a") == b"2"


async def says_that_a_key_is_missing(store: ObjectStore) -> None:
    await _expect(KeyMissing, store.get("nothing"))
    await _expect(KeyMissing, store.get("no/such/thing"))
    await _expect(KeyMissing, store.get_range("nothing", 0, 1))


async def reads_ranges(store: ObjectStore) -> None:
    await store.put("a", b"0123456789")
    assert await store.get_range("a", 2, 5) == b"234"
    assert await store.get_range("a", 8, 100) == b"89"
    assert await store.get_range("a", 100, 200) == b""
    assert await store.get_range("a", 3, 3) == b""


async def lists_sorted_below_a_prefix(store: ObjectStore) -> None:
    assert await store.list() == []
    assert await store.list("a/") == []
    for key in ("b", "a/2", "a/10", "a/1/x", "ab"):
        await store.put(key, key.encode())
    assert [entry.key for entry in await store.list()] == ["a/1/x", "a/10", "a/2", "ab", "b"]
    assert await store.list("a/1") == [("a/1/x", 5), ("a/10", 4)]
    assert [entry.key for entry in await store.list("a")] == ["a/1/x", "a/10", "a/2", "ab"]
    assert len(await store.list(limit=2)) == 2
    assert [entry.key for entry in await store.list("b", limit=7)] == ["b"]


async def deletes_what_is_there_and_what_is_not(store: ObjectStore) -> None:
    await store.put("a/1", b"")
    await store.put("a/2", b"")
    await store.delete(["a/1", "a/3", "c/d"])
    await store.delete(["a/1"])
    await store.delete([])
    assert [entry.key for entry in await store.list()] == ["a/2"]


async def puts_many_at_once(store: ObjectStore) -> None:
    keys = [f"objects/{n:03d}" for n in range(100)]
    await asyncio.gather(*(store.put(key, key.encode()) for key in keys))
    assert [entry.key for entry in await store.list("objects/")] == keys
    assert await asyncio.gather(*(store.get(key) for key in keys)) == [key.encode() for key in keys]


async def refuses_what_is_no_key(store: ObjectStore) -> None:
    for key in ("", "/a", "a/", "a//b", "../a", "a/../b", ".hidden", "a b", "a\\b", "a\n"):
        await _expect(ValueError, store.put(key, b""))
        await _expect(ValueError, store.create(key, b""))
        await _expect(ValueError, store.get(key))


async def names_itself(store: ObjectStore) -> None:
    assert store.describe()
    await store.check_writable()


CHECKS: tuple[Callable[[ObjectStore], Awaitable[None]], ...] = (
    gives_back_what_was_put,
    creates_only_what_is_absent,
    lets_one_of_many_creators_win,
    can_create_again_what_was_deleted,
    says_that_a_key_is_missing,
    reads_ranges,
    lists_sorted_below_a_prefix,
    deletes_what_is_there_and_what_is_not,
    puts_many_at_once,
    refuses_what_is_no_key,
    names_itself,
)
"""Every check; each wants a store of its own."""


async def _expect(error: type[Exception], call: Awaitable[object]) -> None:
    try:
        await call
    except error:
        return
    raise AssertionError(f"expected {error.__name__}")
