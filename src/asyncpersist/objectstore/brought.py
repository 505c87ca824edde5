"""A store of a user's own, whose mistakes are to be found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from asyncpersist.errors import AsyncPersistError
from asyncpersist.objectstore.contract import Entry, ObjectStore

__all__ = ["BroughtStore"]


class BroughtStore(ObjectStore):
    """`inner`; an error that its contract does not know gets a note that says which call it came from."""

    def __init__(self, inner: ObjectStore) -> None:
        self._inner = inner

    def __repr__(self) -> str:
        return f"BroughtStore({self._inner!r})"

    def describe(self) -> str:
        return self._inner.describe()

    async def check_writable(self) -> None:
        with self._noted("check_writable()"):
            await self._inner.check_writable()

    async def get(self, key: str) -> bytes:
        with self._noted(f"get({key!r})"):
            return await self._inner.get(key)

    async def get_range(self, key: str, start: int, stop: int) -> bytes:
        with self._noted(f"get_range({key!r}, {start}, {stop})"):
            return await self._inner.get_range(key, start, stop)

    async def create(self, key: str, data: bytes) -> None:
        with self._noted(f"create({key!r})"):
            await self._inner.create(key, data)

    async def put(self, key: str, data: bytes) -> None:
        with self._noted(f"put({key!r})"):
            await self._inner.put(key, data)

    async def list(self, prefix: str = "", *, limit: int | None = None) -> list[Entry]:
        with self._noted(f"list({prefix!r})"):
            return await self._inner.list(prefix, limit=limit)

    async def delete(self, keys: Iterable[str]) -> None:
        with self._noted("delete(...)"):
            await self._inner.delete(keys)

    async def aclose(self) -> None:
        await self._inner.aclose()

    @contextmanager
    def _noted(self, call: str) -> Iterator[None]:
        try:
            yield
        except AsyncPersistError:
            raise
        except Exception as exc:
            exc.add_note(
                f"raised by {call} of the object store {self._inner.describe()}, whose contract does not know it: a "
                "store raises StoreUnavailable where the same call may succeed later (it is repeated then), "
                "OutcomeUnknown where a write may have happened, StateUnwritable where it never will."
            )
            raise
