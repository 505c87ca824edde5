"""What is asked of a container: each call one request or, for large objects, one for each block.

Needs the packages of the extra `asyncpersist[azure]`; imported only when a store is used.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobBlock

from asyncpersist.errors import AsyncPersistError
from asyncpersist.objectstore.azure.client import Body, open_client
from asyncpersist.objectstore.azure.errors import VENDOR_ERRORS, code_of, status_of, translated
from asyncpersist.objectstore.azure.place import AzurePlace
from asyncpersist.objectstore.contract import Entry, KeyExists, KeyMissing

__all__ = ["AzureBlobs"]

_LARGE = 16 * 1024 * 1024
_BLOCK = 8 * 1024 * 1024
_BLOCKS_AT_ONCE = 4
_DELETIONS_AT_ONCE = 16
_PAGE = 5000

_SECONDS = 60.0
_BYTES_A_SECOND = 128 * 1024
"""A write may take the seconds and those that its bytes need at least; then it is given up."""


class AzureBlobs:
    """The objects below a place, for the loop that runs. Keys and errors are those of the contract."""

    def __init__(self, place: AzurePlace) -> None:
        self._place = place
        self._stack = AsyncExitStack()
        self._client = open_client(place, self._stack)
        self._worked = False

    async def aclose(self) -> None:
        await self._stack.aclose()

    async def get(self, key: str, start: int | None = None, length: int | None = None) -> bytes:
        """All of an object; or up to `length` bytes, at least 1, from `start`."""
        async with self._asking(f"{key} cannot be read"):
            try:
                blob = await self._client.download_blob(self._blob(key), offset=start, length=length)
                return await blob.readall()
            except HttpResponseError as exc:
                if code_of(exc) == "BlobNotFound":
                    raise KeyMissing(f"{self._place.name}: there is no object {key}") from exc
                if status_of(exc, self._place) == 416:
                    return b""
                raise

    async def create(self, key: str, data: bytes) -> None:
        async with self._asking(f"{key} cannot be created", write=True, size=len(data)):
            try:
                await self._client.upload_blob(self._blob(key), data, length=len(data), overwrite=False)
            except HttpResponseError as exc:
                if status_of(exc, self._place) == 412 or code_of(exc) == "BlobAlreadyExists":
                    raise KeyExists(f"{self._place.name}: the object {key} exists") from exc
                raise

    async def put(self, key: str, data: bytes, token: str) -> None:
        """`token`, always as long and never given before, keeps uploads at the same time apart."""
        what = f"{key} cannot be written"
        if len(data) > _LARGE:
            await self._put_blocks(key, data, token, what)
            return
        async with self._asking(what, write=True, size=len(data)):
            await self._client.upload_blob(self._blob(key), data, length=len(data), overwrite=True)

    async def list(self, prefix: str, limit: int | None) -> list[Entry]:
        """In any order."""
        found: list[Entry] = []
        page = _PAGE if limit is None else min(limit, _PAGE)
        async with self._asking("objects cannot be listed"):
            blobs = self._client.list_blobs(self._blob(prefix) or None, include=["metadata"], results_per_page=page)
            async for blob in blobs:
                # An account with a hierarchical namespace lists directories too.
                if (blob.metadata or {}).get("hdi_isfolder") != "true":
                    found.append(Entry(blob.name.removeprefix(self._place.prefix), blob.size))
                if len(found) == limit:
                    break
        return found

    async def delete(self, keys: Iterable[str]) -> None:
        """Missing ones are no error."""
        await _for_each(keys, self._delete, _DELETIONS_AT_ONCE)

    async def _delete(self, key: str) -> None:
        async with self._asking(f"{key} cannot be deleted", write=True, size=0):
            try:
                await self._client.delete_blob(self._blob(key), delete_snapshots="include")
            except HttpResponseError as exc:
                if code_of(exc) != "BlobNotFound":
                    raise

    async def _put_blocks(self, key: str, data: bytes, token: str, what: str) -> None:
        blob = self._client.get_blob_client(self._blob(key))
        whole = memoryview(data)
        blocks = {f"{token}{n:05d}": start for n, start in enumerate(range(0, len(data), _BLOCK))}

        async def stage(block: str) -> None:
            part = whole[blocks[block] : blocks[block] + _BLOCK]
            # Nobody sees a block before all are committed.
            async with self._asking(what, size=len(part)):
                await blob.stage_block(block, cast(Any, Body(part)), length=len(part))

        await _for_each(blocks, stage, _BLOCKS_AT_ONCE)
        async with self._asking(what, write=True, size=0):
            await blob.commit_block_list([BlobBlock(block) for block in blocks])

    def _blob(self, key: str) -> str:
        return f"{self._place.prefix}{key}"

    @asynccontextmanager
    async def _asking(self, what: str, *, write: bool = False, size: int | None = None) -> AsyncIterator[None]:
        """Translates errors; with the `size` of what is sent, bounds the time."""
        seconds = None if size is None else _SECONDS + size / _BYTES_A_SECOND
        try:
            async with asyncio.timeout(seconds):
                yield
        except AsyncPersistError:
            raise
        except VENDOR_ERRORS as exc:
            error = translated(exc, self._place, what, write=write, worked_before=self._worked)
            # The service repeats what was signed, and the signature.
            raise error from (None if status_of(exc, self._place) in {401, 403} else exc)
        self._worked = True


async def _for_each(items: Iterable[str], work: Callable[[str], Awaitable[None]], at_once: int) -> None:
    """The first error ends the rest; nothing goes on after the return."""
    waiting = iter(items)

    async def one_after_the_other() -> None:
        for item in waiting:
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(one_after_the_other())
    except ExceptionGroup as exc:
        first = exc.exceptions[0]
        raise first from first.__cause__
