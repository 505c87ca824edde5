"""The vendor's client for Azure Blob Storage, set up so that it sends every request once and logs little.

Needs the packages of the extra `asyncpersist[azure]`; imported only when a store is used.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from azure.core.credentials import AzureNamedKeyCredential
from azure.core.pipeline.transport import AioHttpTransport
from azure.storage.blob.aio import ContainerClient

from asyncpersist.objectstore.azure.place import AzurePlace

__all__ = ["Body", "ConnectionLost", "open_client"]

_CONNECT_SECONDS = 5
_READ_SECONDS = 30
_PIECE = 256 * 1024
_NO_LIMIT = 2**40

_API_VERSION = "2021-12-02"
"""Nothing newer is used, and emulators do not know the newest."""

_LOGGER = logging.getLogger(f"{__name__}.http")
if _LOGGER.level == logging.NOTSET:
    # The vendor logs every request at INFO, the signature left out.
    _LOGGER.setLevel(logging.WARNING)


class ConnectionLost(aiohttp.ClientError):
    """The connection broke after the request had begun."""


def open_client(place: AzurePlace, stack: AsyncExitStack) -> ContainerClient:
    """A client for the loop that runs, closed with `stack`."""
    credential: Any
    if place.key is None:
        from azure.identity.aio import DefaultAzureCredential

        credential = DefaultAzureCredential()
        stack.push_async_callback(credential.close)
    else:
        credential = AzureNamedKeyCredential(place.account, place.key)
    session = aiohttp.ClientSession(
        # aiohttp's own authorities are those of the moment it was imported.
        connector=aiohttp.TCPConnector(ssl=ssl.create_default_context()),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        middlewares=[_once],
    )
    client = ContainerClient(
        place.endpoint,
        place.container,
        credential=credential,
        api_version=_API_VERSION,
        transport=_Transport(
            session=session,
            connection_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
            connection_data_block_size=_PIECE,
        ),
        proxies=_proxies(place.endpoint),
        logger=_LOGGER,
        retry_total=0,
        max_single_put_size=_NO_LIMIT,
        max_single_get_size=_NO_LIMIT,
    )
    stack.push_async_callback(client.close)
    return client


def _proxies(endpoint: str) -> dict[str, str]:
    """Those of the environment. aiohttp would look for each request, in a thread, and stumble over a `~/.netrc`."""
    address = urlsplit(endpoint)
    proxy = getproxies().get(address.scheme)
    return {} if proxy is None or proxy_bypass(address.hostname or "") else {address.scheme: proxy}


async def _once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keeps aiohttp from sending a PUT again if a connection breaks: a create would meet its own blob."""
    try:
        return await send(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as exc:
        raise ConnectionLost(str(exc)) from exc


class Body:
    """Bytes to be sent piece by piece, without a copy of them; the loop goes on in between."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)

    def __aiter__(self) -> AsyncIterator[memoryview]:
        return _Pieces(self._data)


class _Pieces:
    def __init__(self, data: memoryview) -> None:
        self._left = data

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> memoryview:
        if not self._left:
            raise StopAsyncIteration
        await asyncio.sleep(0)
        piece, self._left = self._left[:_PIECE], self._left[_PIECE:]
        return piece


class _Transport(AioHttpTransport):  # type: ignore[misc]
    """Sends large bodies piece by piece."""

    async def send(self, request: Any, **config: Any) -> Any:
        data = request.data
        if isinstance(data, bytes) and len(data) > _PIECE:
            request.data = Body(data)
        try:
            return await super().send(request, **config)
        finally:
            request.data = data
