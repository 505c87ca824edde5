"""Every store against the contract; and the contract against stores that break it."""

# A test may hold its own loop.

import asyncio
from collections.abc import Iterable

import pytest

from asyncpersist.errors import AsyncPersistError, StoreUnavailable
from asyncpersist.objectstore.azure import blobs
from asyncpersist.objectstore.contract import Entry, KeyExists, ObjectStore
from asyncpersist.objectstore.memory import MemoryStore
from asyncpersist.objectstore.s3 import store as s3
from asyncpersist.testing import contract
from asyncpersist.testing.stores import FaultyStore, Outcome
from tests.amounts import EVERYWHERE
from tests.servers.stores import KINDS, StorePlaces

FOUND_OUT = (AssertionError, AsyncPersistError, KeyError)
"""What a check raises: its own error, or what the store raised where it should not have."""


def name(value: object) -> str | None:
    """How a check or a class is shown in the id of a test."""
    return getattr(value, "__name__", None)


# Around the vendors' stores there is more for what happens at once, is cut off, or is large.
MORE_WHEN_REMOTE = {
    contract.gives_back_what_was_put,
    contract.is_closed_again_and_again,
    contract.keeps_a_large_object,
    contract.leaves_whole_or_nothing_when_cancelled,
    contract.lets_one_of_many_creators_win,
    contract.names_itself,
    contract.puts_many_at_once,
    contract.says_that_a_key_is_missing,
}
# As many as real servers list at a time are made only in scripts/torture.
MANY = {"s3": (s3, "_BATCH"), "azure": (blobs, "_PAGE")}
ONE = [
    (kind, check)
    for kind in KINDS
    for check in contract.CHECKS
    if (not kind.startswith("remote") or check in MORE_WHEN_REMOTE)
    and (EVERYWHERE or kind not in MANY or check is not contract.lists_and_deletes_many)
]


@pytest.mark.parametrize(("kind", "check"), ONE, ids=name)
async def test_contract(kind: str, check, store_places: StorePlaces) -> None:
    await check(store_places.new(kind)())


@pytest.mark.parametrize("kind", MANY)
async def test_contract_of_many_where_few_are_too_many(
    kind: str, store_places: StorePlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(*MANY[kind], 20)
    await contract.lists_and_deletes_many(store_places.new(kind)(), 45)


SEVERAL = [(kind, check) for kind in KINDS for check in contract.SHARED_CHECKS]


@pytest.mark.parametrize(("kind", "check"), SEVERAL, ids=name)
async def test_contract_of_several(kind: str, check, store_places: StorePlaces) -> None:
    await check(store_places.new(kind))


@pytest.mark.parametrize("check", contract.CHECKS, ids=name)
async def test_contract_of_a_wrapper(check) -> None:
    await check(FaultyStore(MemoryStore(), lambda method, key: Outcome.DONE))


def test_every_check_is_in_a_list() -> None:
    listed = {check.__name__ for check in (*contract.CHECKS, *contract.SHARED_CHECKS)}
    assert listed == set(contract.__all__) - {"CHECKS", "SHARED_CHECKS"}


class Truncating(MemoryStore):
    async def put(self, key: str, data: bytes) -> None:
        await super().put(key, data[:1_000_000])


class TextMode(MemoryStore):
    async def put(self, key: str, data: bytes) -> None:
        await super().put(key, data.replace(b"\r\n", b"\n"))


class LosingParts(MemoryStore):
    """Puts together the parts of a large object in another order."""

    async def put(self, key: str, data: bytes) -> None:
        parts = [data[start : start + 2**23] for start in range(0, len(data), 2**23)]
        await super().put(key, b"".join([*parts[:1], *reversed(parts[1:])]))


class Overlaying(MemoryStore):
    """Writes into what is there, and does not cut it."""

    async def put(self, key: str, data: bytes) -> None:
        await super().put(key, data + self._objects.get(key, b"")[len(data) :])


class Overwriting(MemoryStore):
    async def create(self, key: str, data: bytes) -> None:
        await self.put(key, data)


class LookingFirst(MemoryStore):
    """Looks whether there is something, and only then writes."""

    async def create(self, key: str, data: bytes) -> None:
        absent = key not in self._objects
        await asyncio.sleep(0)
        await (self.put(key, data) if absent else super().create(key, data))


class Remembering(MemoryStore):
    """Deleted objects keep their names."""

    def __init__(self) -> None:
        super().__init__()
        self._created: set[str] = set()

    async def create(self, key: str, data: bytes) -> None:
        if key in self._created:
            self._objects.setdefault(key, b"")
        self._created.add(key)
        await super().create(key, data)


class EmptyForMissing(MemoryStore):
    async def get(self, key: str) -> bytes:
        return await super().get(key) if key in self._objects else b""


class InclusiveRanges(MemoryStore):
    async def get_range(self, key: str, start: int, stop: int) -> bytes:
        return await super().get_range(key, start, stop + 1)


class PrefixesAreFolders(MemoryStore):
    async def list(self, prefix: str = "", *, limit: int | None = None) -> list[Entry]:
        below = prefix and prefix.rstrip("/") + "/"
        return await super().list(below, limit=limit)


class OnePage(MemoryStore):
    async def list(self, prefix: str = "", *, limit: int | None = None) -> list[Entry]:
        return (await super().list(prefix, limit=limit))[:1000]


class LimitOfPages(MemoryStore):
    """Takes the limit for the size of a page."""

    async def list(self, prefix: str = "", *, limit: int | None = None) -> list[Entry]:
        return await super().list(prefix)


class OneBatch(MemoryStore):
    async def delete(self, keys: Iterable[str]) -> None:
        await super().delete(list(keys)[:1000])


class StrictDeletes(MemoryStore):
    async def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            await self.get(key)
            await super().delete([key])


class OneAtATime(MemoryStore):
    """Drops what comes while it is busy."""

    busy = False

    async def put(self, key: str, data: bytes) -> None:
        if not self.busy:
            self.busy = True
            await super().put(key, data)
            self.busy = False


class LateDeletes(MemoryStore):
    """A deletion returns before it is done."""

    def __init__(self) -> None:
        super().__init__()
        self._later: list[str] = []

    async def delete(self, keys: Iterable[str]) -> None:
        await super().delete(self._later)
        self._later = list(keys)


class PieceByPiece(MemoryStore):
    """Fills an object where everybody sees it."""

    async def put(self, key: str, data: bytes) -> None:
        for stop in (len(data) // 2, len(data)):
            await super().put(key, data[:stop])
            await asyncio.sleep(0.002)


class AnyKey(MemoryStore):
    async def get(self, key: str) -> bytes:
        return self._objects[key]


class Nameless(MemoryStore):
    def describe(self) -> str:
        return ""


class ClosedOnce(MemoryStore):
    closed = False

    async def aclose(self) -> None:
        assert not self.closed
        self.closed = True


BROKEN = [
    (contract.gives_back_what_was_put, Truncating),
    (contract.keeps_every_byte, TextMode),
    (contract.keeps_a_large_object, LosingParts),
    (contract.replaces_wholly, Overlaying),
    (contract.creates_only_what_is_absent, Overwriting),
    (contract.lets_one_of_many_creators_win, LookingFirst),
    (contract.can_create_again_what_was_deleted, Remembering),
    (contract.says_that_a_key_is_missing, EmptyForMissing),
    (contract.reads_ranges, InclusiveRanges),
    (contract.lists_sorted_below_a_prefix, PrefixesAreFolders),
    (contract.lists_and_deletes_many, OnePage),
    (contract.lists_and_deletes_many, LimitOfPages),
    (contract.lists_and_deletes_many, OneBatch),
    (contract.deletes_what_is_there_and_what_is_not, StrictDeletes),
    (contract.puts_many_at_once, OneAtATime),
    (contract.sees_its_own_writes, LateDeletes),
    (contract.leaves_whole_or_nothing_when_cancelled, PieceByPiece),
    (contract.refuses_what_is_no_key, AnyKey),
    (contract.names_itself, Nameless),
    (contract.is_closed_again_and_again, ClosedOnce),
]
"""For each check a store that it has to find out."""


@pytest.mark.parametrize(("check", "broken"), BROKEN, ids=name)
async def test_a_broken_store_is_found_out(check, broken: type[MemoryStore]) -> None:
    with pytest.raises(FOUND_OUT):
        await check(broken())


def test_every_check_of_one_store_has_a_broken_one() -> None:
    assert {check for check, _ in BROKEN} == set(contract.CHECKS)


class Client(ObjectStore):
    """One of several stores on the same objects, as clients of a server are. Broken ones differ in one thing."""

    def __init__(self, server: MemoryStore) -> None:
        self._server = server
        self._closed = False

    def describe(self) -> str:
        return "client"

    async def get(self, key: str) -> bytes:
        return await self._server.get(key)

    async def create(self, key: str, data: bytes) -> None:
        self._refuse_if_closed()
        await self._server.create(key, data)

    async def put(self, key: str, data: bytes) -> None:
        self._refuse_if_closed()
        await self._server.put(key, data)

    async def list(self, prefix: str = "", *, limit: int | None = None) -> list[Entry]:
        return await self._server.list(prefix, limit=limit)

    async def delete(self, keys: Iterable[str]) -> None:
        self._refuse_if_closed()
        await self._server.delete(keys)

    async def aclose(self) -> None:
        self._closed = True

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise StoreUnavailable("client: closed")


class Caching(Client):
    def __init__(self, server: MemoryStore) -> None:
        super().__init__(server)
        self._cache: dict[str, bytes] = {}

    async def get(self, key: str) -> bytes:
        if key not in self._cache:
            self._cache[key] = await super().get(key)
        return self._cache[key]


class LocksOfItsOwn(Client):
    """Keeps writers apart, but only those that use the same object."""

    def __init__(self, server: MemoryStore) -> None:
        super().__init__(server)
        self._lock = asyncio.Lock()

    async def create(self, key: str, data: bytes) -> None:
        async with self._lock:
            if any(entry.key == key for entry in await self.list(key)):
                raise KeyExists(key)
            await self.put(key, data)


class Buffering(Client):
    """Returns before a write is done, and forgets it when closed."""

    def __init__(self, server: MemoryStore) -> None:
        super().__init__(server)
        self._writes: dict[str, bytes] = {}

    async def put(self, key: str, data: bytes) -> None:
        self._refuse_if_closed()
        self._writes[key] = data

    async def get(self, key: str) -> bytes:
        return self._writes[key] if key in self._writes else await super().get(key)


class NeverClosed(Client):
    async def aclose(self) -> None:
        pass


BROKEN_SHARED = [
    (contract.lets_one_of_many_stores_win, MemoryStore, LocksOfItsOwn),
    (contract.sees_the_writes_of_others, MemoryStore, Caching),
    (contract.shows_whole_objects_only, PieceByPiece, Client),
    (contract.keeps_what_was_written_when_closed, MemoryStore, Buffering),
    (contract.writes_nothing_once_closed, MemoryStore, NeverClosed),
]
"""For each check of several stores a server and its client, one of which it has to find out."""


@pytest.mark.parametrize(("check", "server", "client"), BROKEN_SHARED, ids=name)
async def test_broken_stores_on_one_place_are_found_out(check, server, client) -> None:
    place = server()
    with pytest.raises(FOUND_OUT):
        await check(lambda: client(place))


@pytest.mark.parametrize("check", contract.SHARED_CHECKS, ids=name)
async def test_several_stores_that_are_right_pass(check) -> None:
    place = MemoryStore()
    await check(lambda: Client(place))


def test_every_check_of_several_stores_has_a_broken_one() -> None:
    assert {check for check, _, _ in BROKEN_SHARED} == set(contract.SHARED_CHECKS)


async def test_a_check_that_fails_says_what_it_found() -> None:
    with pytest.raises(AssertionError, match="16 of 16 created race/0"):
        await contract.lets_one_of_many_creators_win(Overwriting())
