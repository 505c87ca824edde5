"""The contract of object stores as tests, for a store of one's own.

A check is an async function that raises where a store breaks its contract: `AssertionError`, or what the store itself
raised where it should not have. Each wants a place where nothing is yet: a directory, a prefix, a database. `CHECKS`
take one store and leave closing it to their caller, though some close it already; `SHARED_CHECKS` take a function that
opens one more store on the same place, as other processes would, and close what they open::

    @pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
    async def test_contract(check, tmp_path):
        store = MyStore(tmp_path)
        try:
            await check(store)
        finally:
            await store.aclose()


    @pytest.mark.parametrize("check", contract.SHARED_CHECKS, ids=lambda check: check.__name__)
    async def test_contract_of_several(check, tmp_path):
        await check(lambda: MyStore(tmp_path))

Objects are up to 20 MB large and up to 1005 in number; a check takes seconds at most where a store answers quickly.
What no check can see is up to the store: that what a returned write wrote survives a loss of power.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import numpy as np

from asyncpersist.errors import StoreUnavailable
from asyncpersist.objectstore.contract import Entry, KeyExists, KeyMissing, ObjectStore

__all__ = [
    "CHECKS",
    "SHARED_CHECKS",
    "can_create_again_what_was_deleted",
    "creates_only_what_is_absent",
    "deletes_what_is_there_and_what_is_not",
    "gives_back_what_was_put",
    "is_closed_again_and_again",
    "keeps_a_large_object",
    "keeps_every_byte",
    "keeps_what_was_written_when_closed",
    "leaves_whole_or_nothing_when_cancelled",
    "lets_one_of_many_creators_win",
    "lets_one_of_many_stores_win",
    "lists_and_deletes_many",
    "lists_sorted_below_a_prefix",
    "names_itself",
    "puts_many_at_once",
    "reads_ranges",
    "refuses_what_is_no_key",
    "replaces_wholly",
    "says_that_a_key_is_missing",
    "sees_its_own_writes",
    "sees_the_writes_of_others",
    "shows_whole_objects_only",
    "writes_nothing_once_closed",
]

MEGABYTE = 1_000_000


async def gives_back_what_was_put(store: ObjectStore) -> None:
    """What was put or created is read again as it was, empty objects too."""
    for data in (b"", b"x", bytes(range(256)) * 5000):
        await store.put("objects/a", data)
        assert await store.get("objects/a") == data
    await store.create("objects/b", b"")
    assert await store.get("objects/b") == b""
    assert await store.list() == [("objects/a", 1_280_000), ("objects/b", 0)]


async def keeps_every_byte(store: ObjectStore) -> None:
    """Bytes are bytes, whatever they look like: text, line ends, compressed data, markup."""
    contents = [
        *("é ☃ 𝄞\ufeff".encode(encoding) for encoding in ("utf-8", "utf-16", "utf-32")),
        *(b"a\r\nb\nc\r", b"\n", b" ", b"\0", b"\xff" * 1000, b"\x1f\x8b\x08\x00 not gzip", b"(\xb5/\xfd not zstd"),
        *(b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>', b'{"a": 1}', b"0\r\n\r\n", b"%41+%00"),
    ]
    for n, data in enumerate(contents):
        await store.put(f"put/{n}", data)
        await store.create(f"create/{n}", data)
        assert await store.get(f"put/{n}") == data
        assert await store.get(f"create/{n}") == data
        assert await store.get_range(f"put/{n}", 0, len(data)) == data


async def keeps_a_large_object(store: ObjectStore) -> None:
    """20 MB are put and read again, wholly and in ranges, and replaced by others."""
    data = _pattern(20 * MEGABYTE)
    await store.put("large", data)
    assert await store.get("large") == data
    assert await store.list() == [("large", len(data))]
    for start, stop in ((0, 10), (8 * 2**20 - 5, 8 * 2**20 + 5), (16 * 2**20 - 1, 16 * 2**20 + MEGABYTE)):
        assert await store.get_range("large", start, stop) == data[start:stop]
    assert await store.get_range("large", len(data) - 7, len(data) + MEGABYTE) == data[-7:]
    await store.put("large", data[1:])
    assert await store.get("large") == data[1:]


async def replaces_wholly(store: ObjectStore) -> None:
    """A put leaves nothing of what was there, also if that was longer or created."""
    await store.create("a", b"0123456789")
    for data in (b"abc", b"0123456789" * 100_000, b"", b"x"):
        await store.put("a", data)
        assert await store.get("a") == data
        assert await store.get_range("a", 0, 2 * MEGABYTE) == data
        assert await store.list() == [("a", len(data))]


async def creates_only_what_is_absent(store: ObjectStore) -> None:
    """A key that has something, put or created, is not created, not even with the same bytes."""
    await store.create("manifests/1.json", b"first")
    await _expect(KeyExists, store.create("manifests/1.json", b"second"))
    await _expect(KeyExists, store.create("manifests/1.json", b"first"))
    assert await store.get("manifests/1.json") == b"first"
    await store.put("manifests/2.json", b"")
    await _expect(KeyExists, store.create("manifests/2.json", b"second"))
    assert await store.get("manifests/2.json") == b""


async def lets_one_of_many_creators_win(store: ObjectStore) -> None:
    """Of many that create one key at once, one succeeds and all others get `KeyExists`."""
    for round_ in range(5):
        await _race([store] * 16, f"race/{round_}")


async def can_create_again_what_was_deleted(store: ObjectStore) -> None:
    await store.create("a", b"1")
    await store.delete(["a"])
    await store.create("a", b"2")
    assert await store.get("a") == b"2"


async def says_that_a_key_is_missing(store: ObjectStore) -> None:
    """A missing key is `KeyMissing`, and so is one that was deleted or that only begins other keys."""
    await store.put("there/is/one", b"")
    await store.put("gone", b"")
    await store.delete(["gone"])
    for key in ("nothing", "no/such/thing", "gone", "there/is/on"):
        await _expect(KeyMissing, store.get(key))
        await _expect(KeyMissing, store.get_range(key, 0, 1))


async def reads_ranges(store: ObjectStore) -> None:
    """A range ends where the object ends, and may be empty."""
    await store.put("a", b"0123456789")
    await store.put("empty", b"")
    for start, stop in ((2, 5), (0, 10), (9, 10), (8, 100), (10, 11), (100, 200), (3, 3), (0, 0)):
        assert await store.get_range("a", start, stop) == b"0123456789"[start:stop]
    assert await store.get_range("empty", 0, 10) == b""


async def lists_sorted_below_a_prefix(store: ObjectStore) -> None:
    """A prefix is of characters, not of names; keys are sorted as text, whatever characters they have."""
    assert await store.list() == []
    assert await store.list("a/") == []
    for key in ("b", "a/2", "a/10", "a/1/x", "ab"):
        await store.put(key, key.encode())
    assert await _keys(store) == ["a/1/x", "a/10", "a/2", "ab", "b"]
    assert await store.list("a/1") == [("a/1/x", 5), ("a/10", 4)]
    assert await store.list("a/1/x/") == []
    assert await _keys(store, "a") == ["a/1/x", "a/10", "a/2", "ab"]
    assert await store.list("a/3/") == []
    assert set(await store.list(limit=2)) < set(await store.list())
    assert len(await store.list(limit=2)) == 2
    assert await _keys(store, "b", limit=7) == ["b"]
    odd = ["c-d/e", "c.d/e", "c/d/e", "c0d", "cZd", "c_d", "cad", f"c/{'long' * 40}/{'name' * 40}"]
    for key in odd:
        await store.put(key, b"")
    assert await _keys(store, "c") == sorted(odd)


async def lists_and_deletes_many(store: ObjectStore, many: int = 1005) -> None:
    """More objects than vendors list or delete at a time."""
    keys = [f"objects/{n:04d}" for n in range(many)]
    for some in range(0, len(keys), 100):
        await asyncio.gather(*(store.put(key, b"x" * (some // 100)) for key in keys[some : some + 100]))
    assert await store.list() == [(key, n // 100) for n, key in enumerate(keys)]
    for limit in (1, many - 4):
        found = await store.list("objects/", limit=limit)
        assert len(set(found)) == min(limit, len(keys))
        assert {entry.key for entry in found} <= set(keys)
    await store.delete(keys[4:])
    assert await _keys(store) == keys[:4]


async def deletes_what_is_there_and_what_is_not(store: ObjectStore) -> None:
    """Keys come as any iterable; missing ones do not matter."""
    await store.put("a/1", b"")
    await store.put("a/2", b"")
    await store.delete(key for key in ("a/1", "a/3", "c/d"))
    await store.delete(["a/1"])
    await store.delete([])
    assert await _keys(store) == ["a/2"]


async def puts_many_at_once(store: ObjectStore) -> None:
    """A hundred calls under way at once are all carried out."""
    keys = [f"objects/{n:03d}" for n in range(100)]
    await asyncio.gather(*(store.put(key, key.encode()) for key in keys))
    assert await _keys(store, "objects/") == keys
    assert await asyncio.gather(*(store.get(key) for key in keys)) == [key.encode() for key in keys]


async def sees_its_own_writes(store: ObjectStore) -> None:
    """Every call sees what was done by those that returned before, over and over under one key."""
    for n in range(10):
        data = b"%d" % n
        await _expect(KeyMissing, store.get("a/b"))
        await store.create("a/b", data)
        assert await store.get("a/b") == data
        assert await store.list("a/") == [("a/b", 1)]
        await store.put("a/b", data * 2)
        assert await store.get("a/b") == data * 2
        assert await store.list() == [("a/b", 2)]
        await store.delete(["a/b"])
        assert await store.list("a/") == []


async def leaves_whole_or_nothing_when_cancelled(store: ObjectStore) -> None:
    """A write that is cancelled at any moment was done or not; the store goes on."""
    old, new = b"old" * 1000, _pattern(2 * MEGABYTE)
    for n, seconds in enumerate((None, 0.0, 0.001, 0.003, 0.01, 0.03, 0.1)):
        await store.put(f"put/{n}", old)
        await _cancelled_after(seconds, store.put(f"put/{n}", new))
        await _cancelled_after(seconds, store.create(f"create/{n}", new))
        assert await store.get(f"put/{n}") in (old, new)
        assert await _get(store, f"create/{n}") in (None, new)
        assert all(entry.size in (len(old), len(new)) for entry in await _whole(store))
    await _cancelled_after(0.05, store.put("large", _pattern(20 * MEGABYTE)))
    assert await _get(store, "large") in (None, _pattern(20 * MEGABYTE))
    await store.put("after", new)
    assert await store.get("after") == new


async def refuses_what_is_no_key(store: ObjectStore) -> None:
    """What is no key raises `ValueError` and does nothing."""
    for key in ("", "/a", "a/", "a//b", "../a", "a/../b", ".hidden", "a b", "a\\b", "a\n", "é", "a?b", "a%2fb"):
        await _expect(ValueError, store.put(key, b""))
        await _expect(ValueError, store.create(key, b""))
        await _expect(ValueError, store.get(key))
        await _expect(ValueError, store.get_range(key, 0, 1))
        await _expect(ValueError, store.delete([key]))
    assert await store.list() == []


async def names_itself(store: ObjectStore) -> None:
    """`describe` says something, and a store that can be written has nothing against it."""
    assert store.describe()
    await store.check_writable()
    assert await store.list() == []


async def is_closed_again_and_again(store: ObjectStore) -> None:
    """Closing may be repeated, also at once."""
    await store.put("a", b"")
    await asyncio.gather(store.aclose(), store.aclose())
    await store.aclose()


async def writes_nothing_once_closed(open_store: Callable[[], ObjectStore]) -> None:
    """Closed is closed, also if it was never used: writes raise `StoreUnavailable`; a read does, or answers rightly."""
    async with _opened(open_store) as other:
        await other.put("a", b"1")
        for used in (True, False):
            store = open_store()
            if used:
                assert await store.get("a") == b"1"
            await store.aclose()
            await _expect(StoreUnavailable, store.put("a", b"2"))
            await _expect(StoreUnavailable, store.create("b", b"2"))
            await _expect(StoreUnavailable, store.delete(["a"]))
            with suppress(StoreUnavailable):
                assert await store.get("a") == b"1"
            with suppress(StoreUnavailable):
                assert await store.list() == [("a", 1)]
            assert await other.list() == [("a", 1)]
            assert await other.get("a") == b"1"


async def keeps_what_was_written_when_closed(open_store: Callable[[], ObjectStore]) -> None:
    """Writes under way when a store is closed are done or raise; what returned is there for the next one."""
    async with _opened(open_store) as store:
        await store.put("first", b"1")
        writes = [asyncio.create_task(store.put(f"objects/{n:02d}", _pattern(50_000 + n))) for n in range(20)]
        await asyncio.sleep(0)
        await store.aclose()
        results = await asyncio.gather(*writes, return_exceptions=True)
    assert all(result is None or isinstance(result, StoreUnavailable) for result in results), results
    async with _opened(open_store) as store:
        assert await store.get("first") == b"1"
        for n, result in enumerate(results):
            found = await _get(store, f"objects/{n:02d}")
            assert found == _pattern(50_000 + n) or (found is None and result is not None)


async def lets_one_of_many_stores_win(open_store: Callable[[], ObjectStore]) -> None:
    """Of many stores that create one key at once, several times each, one succeeds."""
    async with _opened(open_store) as a, _opened(open_store) as b, _opened(open_store) as c, _opened(open_store) as d:
        for round_ in range(5):
            await _race([a, b, c, d] * 3, f"race/{round_}")


async def sees_the_writes_of_others(open_store: Callable[[], ObjectStore]) -> None:
    """What one store has done another sees at once, also where it had looked before."""
    async with _opened(open_store) as one, _opened(open_store) as other:
        for writer, reader in ((one, other), (other, one)):
            await _expect(KeyMissing, reader.get("a/b"))
            assert await reader.list() == []
            await writer.create("a/b", b"created")
            await _expect(KeyExists, reader.create("a/b", b"mine"))
            assert await reader.get("a/b") == b"created"
            await writer.put("a/b", b"put")
            assert await reader.get("a/b") == b"put"
            assert await reader.list("a/") == [("a/b", 3)]
            await reader.delete(["a/b"])
            await _expect(KeyMissing, writer.get("a/b"))
            await writer.create("a/b", b"again")
            assert await reader.get("a/b") == b"again"
            await writer.delete(["a/b"])


async def shows_whole_objects_only(open_store: Callable[[], ObjectStore]) -> None:
    """Readers beside writers find the one content or the other, never a part or a mixture."""
    contents = [bytes([n]) * (1 + n * MEGABYTE) for n in range(3)]
    sizes = {len(data) for data in contents}
    async with _opened(open_store) as one, _opened(open_store) as two, _opened(open_store) as reader:
        await one.put("put", contents[0])

        async def write(store: ObjectStore, name: str) -> None:
            for n in range(8):
                await store.put("put", contents[n % 3])
                await store.create(f"{name}/{n:02d}", contents[n % 3])

        async def read() -> None:
            while not writing.done():
                await asyncio.sleep(0)  # so that others come to their turn even if the store never waits
                assert await reader.get("put") in contents
                listed = await _whole(reader)
                assert {entry.size for entry in listed} <= sizes
                for newest in (entry.key for entry in listed[-1:]):
                    assert await reader.get(newest) in contents

        writing = asyncio.gather(write(one, "one"), write(two, "two"))
        reading = asyncio.gather(read(), read())
        try:
            await writing
            await reading
        finally:
            for tasks in (writing, reading):
                tasks.cancel()
            await asyncio.gather(writing, reading, return_exceptions=True)


CHECKS: tuple[Callable[[ObjectStore], Awaitable[None]], ...] = (
    gives_back_what_was_put,
    keeps_every_byte,
    keeps_a_large_object,
    replaces_wholly,
    creates_only_what_is_absent,
    lets_one_of_many_creators_win,
    can_create_again_what_was_deleted,
    says_that_a_key_is_missing,
    reads_ranges,
    lists_sorted_below_a_prefix,
    lists_and_deletes_many,
    deletes_what_is_there_and_what_is_not,
    puts_many_at_once,
    sees_its_own_writes,
    leaves_whole_or_nothing_when_cancelled,
    refuses_what_is_no_key,
    names_itself,
    is_closed_again_and_again,
)
"""Every check of one store; each wants a place of its own."""

SHARED_CHECKS: tuple[Callable[[Callable[[], ObjectStore]], Awaitable[None]], ...] = (
    lets_one_of_many_stores_win,
    sees_the_writes_of_others,
    shows_whole_objects_only,
    keeps_what_was_written_when_closed,
    writes_nothing_once_closed,
)
"""Every check of several stores on one place; each wants a place of its own."""


async def _race(stores: list[ObjectStore], key: str) -> None:
    """All create the key at once."""
    contents = [f"{key} {n}".encode() * 100 for n in range(len(stores))]
    creating = (store.create(key, data) for store, data in zip(stores, contents, strict=True))
    results = await asyncio.gather(*creating, return_exceptions=True)
    winners = [data for data, result in zip(contents, results, strict=True) if result is None]
    assert len(winners) == 1, f"{len(winners)} of {len(stores)} created {key}: {results}"
    assert all(result is None or isinstance(result, KeyExists) for result in results), results
    for store in set(stores):
        assert await store.get(key) == winners[0]


async def _cancelled_after(seconds: float | None, call: Awaitable[None]) -> None:
    """Cancels a call once it has run for so long, or before it begins, and waits for its end."""
    task = asyncio.ensure_future(call)
    if seconds is not None:
        await asyncio.wait({task}, timeout=seconds)
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled() and (failure := task.exception()) is not None:
        raise failure


async def _expect(error: type[Exception], call: Awaitable[object]) -> None:
    try:
        await call
    except error:
        return
    raise AssertionError(f"expected {error.__name__}")


async def _get(store: ObjectStore, key: str) -> bytes | None:
    try:
        return await store.get(key)
    except KeyMissing:
        return None


async def _keys(store: ObjectStore, prefix: str = "", limit: int | None = None) -> list[str]:
    return [entry.key for entry in await store.list(prefix, limit=limit)]


async def _whole(store: ObjectStore) -> list[Entry]:
    """All but the remains of writes, which the contract allows."""
    return [entry for entry in await store.list() if not entry.key.endswith(".partial")]


@asynccontextmanager
async def _opened(open_store: Callable[[], ObjectStore]) -> AsyncIterator[ObjectStore]:
    store = open_store()
    try:
        yield store
    finally:
        await store.aclose()


def _pattern(size: int) -> bytes:
    """Bytes of which no two places look alike."""
    return np.arange(size // 4 + 1, dtype=">u4").tobytes()[:size]
