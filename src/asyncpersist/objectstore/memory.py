"""Objects in memory: for tests, and for runs that only want to survive within one process."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable

from asyncpersist.errors import StoreUnavailable
from asyncpersist.objectstore.contract import Entry, KeyExists, KeyMissing, ObjectStore, check_key

__all__ = ["MemoryStore"]


class MemoryStore(ObjectStore):
    """A dict behind the contract. Stores on one dict are stores on one place; `aclose` empties nothing."""

    def __init__(self, objects: dict[str, bytes] | None = None) -> None:
        self._objects: dict[str, bytes] = {} if objects is None else objects
        self._closed = False

    def __repr__(self) -> str:
        return f"MemoryStore({len(self._objects)} objects)"

    def describe(self) -> str:
        return "memory"

    async def get(self, key: str) -> bytes:
        await asyncio.sleep(0)
        try:
            return self._objects[check_key(key)]
        except KeyError as exc:
            raise KeyMissing(f"memory: there is no object {key}") from exc

    async def create(self, key: str, data: bytes) -> None:
        await self._turn()
        if check_key(key) in self._objects:
            raise KeyExists(f"memory: the object {key} exists")
        self._objects[key] = bytes(data)

    async def put(self, key: str, data: bytes) -> None:
        await self._turn()
        self._objects[check_key(key)] = bytes(data)

    async def list(self, prefix: str = "", *, limit: int | None = None) -> list[Entry]:
        await asyncio.sleep(0)
        found = (Entry(key, len(self._objects[key])) for key in sorted(self._objects) if key.startswith(prefix))
        return list(itertools.islice(found, limit))

    async def delete(self, keys: Iterable[str]) -> None:
        await self._turn()
        for key in keys:
            self._objects.pop(check_key(key), None)

    async def aclose(self) -> None:
        self._closed = True

    async def _turn(self) -> None:
        await asyncio.sleep(0)
        if self._closed:
            raise StoreUnavailable("memory: the store has been closed")
