"""Every store against the contract."""

# A test may hold its own loop.

from pathlib import Path

import pytest

from asyncpersist.objectstore.contract import ObjectStore
from asyncpersist.objectstore.filesystem import FilesystemStore
from asyncpersist.objectstore.memory import MemoryStore
from asyncpersist.testing import contract
from asyncpersist.testing.stores import FaultyStore, Outcome

STORES = {
    "memory": lambda path: MemoryStore(),
    "filesystem": lambda path: FilesystemStore(path / "not" / "yet"),
    "faulty": lambda path: FaultyStore(MemoryStore(), lambda method, key: Outcome.DONE),
}


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("kind", STORES)
async def test_contract(kind, check, tmp_path: Path) -> None:
    store: ObjectStore = STORES[kind](tmp_path)
    try:
        await check(store)
    finally:
        await store.aclose()
        await store.aclose()


async def test_writers_on_one_directory_race(tmp_path: Path) -> None:
    """Several stores over one directory, as several processes would have."""
    import asyncio

    stores = [FilesystemStore(tmp_path / "root") for _ in range(4)]
    for round_ in range(20):
        results = await asyncio.gather(
            *(store.create(f"m/{round_}", str(n).encode()) for n, store in enumerate(stores)), return_exceptions=True
        )
        winner = results.index(None)
        assert results.count(None) == 1
        assert await stores[0].get(f"m/{round_}") == str(winner).encode()
    for store in stores:
        await store.aclose()
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".partial")]
