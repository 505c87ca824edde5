"""Objects in a bucket of S3, or of a store that speaks its protocol.

One request for each call, sent once: waiting, repeating and limiting are other stores' around it. Only large objects
go up in parts, and listings and deletions of thousands in batches.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from asyncpersist.errors import StoreUnavailable
from asyncpersist.objectstore.contract import Entry, ObjectStore, check_key
from asyncpersist.objectstore.own_loop import check_loop
from asyncpersist.objectstore.s3.errors import Intent, Place, refusal, translated
from asyncpersist.objectstore.s3.parts import PARTS_ABOVE, put_in_parts
from asyncpersist.objectstore.s3.settings import AwsS3Settings, split_s3_path

__all__ = ["S3Store"]

_BATCH = 1000
"""The most keys that S3 lists or deletes at once."""

_LONGEST_PREFIX = 512
"""Bytes; S3 allows names of 1024, and keys need some of them."""

_PATIENCE = 60.0
_SLOWEST = 64 * 1024
"""A request may take so many seconds, and one more for so many bytes that it sends."""

_CLOSING_SECONDS = 2.0
"""For so long closing waits for the parts of cancelled uploads to be removed."""


class S3Store(ObjectStore):
    """The objects below `root_path` in the bucket of `settings`; for one event loop, on which setting up may block.

    A call in another loop than the first one raises `RuntimeError`. The parts of a large `put` that was cancelled are
    removed after it has returned; `aclose` waits up to 2 s for that.

    `root_path`: names separated by `/`; empty for the whole bucket; or `s3://bucket/path`, if `settings` name no other
    bucket. Raises `ValueError`. The first call raises `ImportError` if the packages of `asyncpersist[s3]` are missing.
    """

    def __init__(self, settings: AwsS3Settings, root_path: str) -> None:
        bucket, path = _place_in(settings, root_path)
        self._settings = settings
        self._bucket = bucket
        self._prefix = path and f"{path}/"
        secrets = (settings.access_key, settings.secret_access_key, settings.session_token)
        self._place = Place(
            name=f"s3://{bucket}/{path}".rstrip("/"),
            bucket=bucket,
            endpoint=settings.endpoint or "AWS",
            region=settings.region or "that the AWS settings name",
            own_keys=settings.access_key is not None,
            secrets=tuple(secret for secret in secrets if secret),
        )
        self._opening = asyncio.Lock()
        self._client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._removals: set[asyncio.Task[None]] = set()
        self._resources = AsyncExitStack()
        self._closed = False
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def __repr__(self) -> str:
        return f"S3Store({self._place.name!r})"

    def describe(self) -> str:
        return self._place.name

    async def check_writable(self) -> None:
        """By listing: finds out a wrong address, region, bucket or key, and credentials that may not list."""
        await self.list(limit=1)

    async def get(self, key: str) -> bytes:
        return (await self._read(key))[0]

    async def get_range(self, key: str, start: int, stop: int) -> bytes:
        # S3 has no empty ranges; whether there is an object is asked all the same.
        data, whole = await self._read(key, Range=f"bytes={start}-{max(stop - 1, start)}")
        return data[start:stop] if whole else data[: max(stop - start, 0)]

    async def create(self, key: str, data: bytes) -> None:
        name = self._prefix + check_key(key)
        what = f"{key} cannot be created"
        async with self._call():
            await self._ask("put_object", what, Intent.CREATE, Key=name, Body=data, IfNoneMatch="*")

    async def put(self, key: str, data: bytes) -> None:
        name = self._prefix + check_key(key)
        what = f"{key} cannot be written"
        async with self._call():
            if len(data) > PARTS_ABOVE:
                await put_in_parts(self._ask, what, name, data, self._beside)
            else:
                await self._ask("put_object", what, Intent.WRITE, Key=name, Body=data)

    async def list(self, prefix: str = "", *, limit: int | None = None) -> list[Entry]:
        found: list[Entry] = []
        params: dict[str, Any] = {"Prefix": self._prefix + prefix}
        async with self._call():
            while limit is None or len(found) < limit:
                params["MaxKeys"] = _BATCH if limit is None else min(_BATCH, limit - len(found))
                page = await self._ask("list_objects_v2", "it cannot be listed", Intent.LIST, **params)
                if "IsTruncated" not in page:
                    raise StoreUnavailable(
                        f"{self._place.name}: it cannot be listed: what answers at {self._place.endpoint} does not "
                        "speak S3. Is the endpoint right?"
                    )
                for item in page.get("Contents", ()):
                    key = item["Key"].removeprefix(self._prefix)
                    if key and not key.endswith("/"):  # What some tools leave for a folder is no object.
                        found.append(Entry(key, item["Size"]))
                if not page["IsTruncated"]:
                    break
                params["ContinuationToken"] = page["NextContinuationToken"]
        return sorted(found)

    async def delete(self, keys: Iterable[str]) -> None:
        names = [{"Key": self._prefix + check_key(key)} for key in keys]
        what = "objects cannot be deleted"
        async with self._call():
            for start in range(0, len(names), _BATCH):
                batch = {"Objects": names[start : start + _BATCH], "Quiet": True}
                answer = await self._ask("delete_objects", what, Intent.WRITE, Delete=batch)
                for failed in answer.get("Errors", ()):
                    if failed.get("Code") != "NoSuchKey":
                        what = f"{failed.get('Key', '')} cannot be deleted"
                        raise refusal({"Error": failed}, self._place, what, Intent.WRITE)

    async def aclose(self) -> None:
        check_loop(self._loop, self._place.name)
        self._closed = True
        await self._idle.wait()
        if self._removals:
            _, late = await asyncio.wait(self._removals, timeout=_CLOSING_SECONDS)
            for removal in late:
                removal.cancel()
            if late:
                await asyncio.wait(late)
        await self._resources.aclose()
        self._loop = None

    async def _read(self, key: str, **params: str) -> tuple[bytes, bool]:
        """The bytes, and whether they are the whole object although a part was asked for."""
        name = self._prefix + check_key(key)
        async with self._call(), self._translating(f"{key} cannot be read", Intent.READ) as client:
            try:
                answer = await client.get_object(Bucket=self._bucket, Key=name, **params)
            except client.exceptions.ClientError as exc:
                if exc.response["ResponseMetadata"]["HTTPStatusCode"] == 416:  # It ends before the range begins.
                    return b"", False
                raise
            async with answer["Body"] as body:
                return await body.read(), "ContentRange" not in answer

    async def _ask(self, operation: str, what: str, intent: Intent, **params: Any) -> dict[str, Any]:
        """The answer to one request, sent once."""
        async with self._translating(what, intent) as client:
            async with asyncio.timeout(_PATIENCE + len(params.get("Body", b"")) / _SLOWEST):
                answer: dict[str, Any] = await getattr(client, operation)(Bucket=self._bucket, **params)
        return answer

    @asynccontextmanager
    async def _call(self) -> AsyncIterator[None]:
        """Around what `aclose` has to wait for."""
        if self._closed:
            raise StoreUnavailable(f"{self._place.name}: the store has been closed")
        check_loop(self._loop, self._place.name)
        self._under_way += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    @asynccontextmanager
    async def _translating(self, what: str, intent: Intent) -> AsyncIterator[Any]:
        """Gives the client; errors of the vendor's leave as those of the contract."""
        client = await self._opened()
        try:
            yield client
        except Exception as exc:
            error = translated(exc, self._place, what, intent)
            if error is None:
                raise
            raise error from exc

    async def _opened(self) -> Any:
        async with self._opening:
            if self._client is None:
                try:
                    from asyncpersist.objectstore.s3.client import open_client
                except ImportError as exc:
                    raise ImportError(
                        f"{self._place.name}: S3 needs packages that are missing ({exc}). "
                        'Install them: pip install "asyncpersist[s3]"'
                    ) from exc
                self._client, address, region = await open_client(self._settings, self._place, self._resources)
                self._place = dataclasses.replace(self._place, endpoint=address, region=region)
                self._loop = asyncio.get_running_loop()
        return self._client

    def _beside(self, removal: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(removal)
        self._removals.add(task)
        task.add_done_callback(self._removals.discard)
        return task


def _place_in(settings: AwsS3Settings, root_path: str) -> tuple[str, str]:
    """The bucket, and the path in it without slashes around."""
    bucket, path = settings.bucket_name, root_path.strip("/")
    if root_path.lower().startswith("s3://"):
        bucket, path = split_s3_path(root_path)
        if settings.bucket_name not in (None, bucket):
            raise ValueError(f"{root_path} is not in the bucket {settings.bucket_name}; name one bucket")
    if bucket is None:
        raise ValueError("no bucket is named: give AwsS3Settings a bucket_name, or a root path s3://bucket/path")
    names = path.split("/") if path else []
    if re.search(r"[\x00-\x1f\x7f]", path) or not {"", ".", ".."}.isdisjoint(names):
        raise ValueError(
            f"{root_path!r} cannot be a root in a bucket: names separated by single '/', none of them . or .."
        )
    if len(path.encode()) > _LONGEST_PREFIX:
        raise ValueError(
            f"a root in a bucket can have {_LONGEST_PREFIX} bytes; {path[:40]}... has {len(path.encode())}"
        )
    return bucket, path
