"""Objects as blobs in a container of Azure Blob Storage.

Every call is sent once; repeating it, running it beside other work and bounding how many run at once is for wrappers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from asyncpersist.clock import Clock, SystemClock
from asyncpersist.errors import StoreUnavailable
from asyncpersist.objectstore.azure.place import AzurePlace
from asyncpersist.objectstore.contract import Entry, ObjectStore, check_key
from asyncpersist.objectstore.own_loop import check_loop

if TYPE_CHECKING:
    from asyncpersist.objectstore.azure.blobs import AzureBlobs

__all__ = ["AzureStore"]


class AzureStore(ObjectStore):
    """The blobs of `container` whose names start with `root_path`; an empty one takes the whole container.

    `key` is one of the two keys of `account`. None: whatever credentials azure-identity finds, as
    `DefaultAzureCredential` (the environment, a managed identity, `az login`); they need the role Storage Blob Data
    Contributor.

    `endpoint` is the account's, by default `https://ACCOUNT.blob.core.windows.net`. That of an emulator has the account
    in its path, `http://127.0.0.1:10000/ACCOUNT`; where the host is an IP address or localhost and no path is given,
    the account is appended. Proxies are taken from the environment (`HTTPS_PROXY`), authorities besides the system's
    from `SSL_CERT_FILE`.

    Raises `ValueError` for names, an endpoint or a key that cannot be; the first call raises `ImportError` if the
    packages of the extra `asyncpersist[azure]` are missing. One event loop uses a store, and the first call in it may
    block it for half a second; in another loop calls raise `RuntimeError`.
    """

    def __init__(
        self,
        account: str,
        container: str,
        root_path: str,
        *,
        key: str | None,
        endpoint: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._place = AzurePlace.of(account, container, root_path, key, endpoint)
        self._clock = SystemClock() if clock is None else clock
        self._blobs: AzureBlobs | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def __repr__(self) -> str:
        return f"AzureStore({self._place.name!r}, account={self._place.account!r}, endpoint={self._place.endpoint!r})"

    def describe(self) -> str:
        return self._place.name

    async def check_writable(self) -> None:
        await self.list(limit=1)

    async def get(self, key: str) -> bytes:
        async with self._using(key) as blobs:
            return await blobs.get(key)

    async def get_range(self, key: str, start: int, stop: int) -> bytes:
        async with self._using(key) as blobs:
            # Azure has no empty ranges.
            return (await blobs.get(key, start, max(stop - start, 1)))[: max(stop - start, 0)]

    async def create(self, key: str, data: bytes) -> None:
        async with self._using(key) as blobs:
            await blobs.create(key, data)

    async def put(self, key: str, data: bytes) -> None:
        async with self._using(key) as blobs:
            await blobs.put(key, data, self._clock.token())

    async def list(self, prefix: str = "", *, limit: int | None = None) -> list[Entry]:
        async with self._using() as blobs:
            return [] if limit == 0 else sorted(await blobs.list(prefix, limit))

    async def delete(self, keys: Iterable[str]) -> None:
        keys = list(keys)
        async with self._using(*keys) as blobs:
            await blobs.delete(keys)

    async def aclose(self) -> None:
        check_loop(self._loop, self._place.name)
        self._closed = True
        await self._idle.wait()
        blobs, self._blobs = self._blobs, None
        if blobs is not None:
            await blobs.aclose()
        self._loop = None

    @asynccontextmanager
    async def _using(self, *keys: str) -> AsyncIterator[AzureBlobs]:
        for key in keys:
            check_key(key)
        if self._closed:
            raise StoreUnavailable(f"{self._place.name}: the store has been closed")
        check_loop(self._loop, self._place.name)
        if self._blobs is None:
            self._blobs = self._opened()
            self._loop = asyncio.get_running_loop()
        self._under_way += 1
        self._idle.clear()
        try:
            yield self._blobs
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    def _opened(self) -> AzureBlobs:
        try:
            from asyncpersist.objectstore.azure.blobs import AzureBlobs
        except ImportError as exc:
            raise ImportError(
                f"{self._place.name}: Azure Blob Storage needs further packages: "
                f'pip install "asyncpersist[azure]" ({exc})'
            ) from exc
        return AzureBlobs(self._place)
