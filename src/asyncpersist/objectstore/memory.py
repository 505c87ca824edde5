"""Objects in memory: for tests, and for runs that only want to survive within one process."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable

from asyncpersist.objectstore.contract import Entry, KeyExists, KeyMissing, ObjectStore, check_key

__all__ = ["MemoryStore"]


class MemoryStore(ObjectStore):
    """A dict behind the contract. It lives as long as the object; `aclose` empties nothing."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}

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
        await asyncio.sleep(0)
        if check_key(key) in self._objects:
            raise KeyExists(f"memory: the object {key} exists")
        self._objects[key] = bytes(data)

    async def put(self, key: str, data: bytes) -> None:
        await asyncio.sleep(0)
        self._objects[check_key(key)] = bytes(data)

    async def list(self, prefix: str = "", *, limit: int | None = None) -> list[Entry]:
        await asyncio.sleep(0)
        found = (Entry(key, len(self._objects[key])) for key in sorted(self._objects) if key.startswith(prefix))
        return list(itertools.islice(found, limit))

    async def delete(self, keys: Iterable[str]) -> None:
        await asyncio.sleep(0)
        for key in keys:
            self._objects.pop(check_key(key), None)
