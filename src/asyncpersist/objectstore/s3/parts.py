"""Large objects go to S3 in parts: they are there together when the last request is done, or not at all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from asyncpersist.errors import AsyncPersistError
from asyncpersist.objectstore.s3.errors import Intent

__all__ = ["PARTS_ABOVE", "Ask", "put_in_parts"]

PARTS_ABOVE = 16 << 20
"""Bytes; an object that is larger goes up in parts."""

_PART = 8 << 20
_AT_ONCE = 4
_ABORT_SECONDS = 10.0

logger = logging.getLogger("asyncpersist")


class Ask(Protocol):
    """Sends one request about the bucket. `what` says what does not happen if it fails."""

    def __call__(self, operation: str, what: str, intent: Intent, **params: Any) -> Awaitable[dict[str, Any]]: ...


async def put_in_parts(
    ask: Ask,
    what: str,
    name: str,
    data: bytes,
    beside: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
) -> None:
    """Puts `data` under `name`. If that fails, the parts are removed first, as far as possible.

    If it is cancelled, they are removed later: `beside` starts what goes on when the call has returned, and whoever
    gives it waits for that in the end, or cancels it.
    """
    begun = asyncio.ensure_future(ask("create_multipart_upload", what, Intent.PREPARE, Key=name))
    try:
        # Shielded: the upload of a request that was cancelled could not be named, and so not be removed.
        upload = (await asyncio.shield(begun))["UploadId"]
        parts = await _send_parts(ask, what, name, upload, data)
        await ask(
            "complete_multipart_upload",
            what,
            Intent.WRITE,
            Key=name,
            UploadId=upload,
            MultipartUpload={"Parts": parts},
        )
    except asyncio.CancelledError:
        beside(_abort(ask, name, begun))
        raise
    except BaseException:
        await asyncio.shield(beside(_abort(ask, name, begun)))
        raise


async def _send_parts(ask: Ask, what: str, name: str, upload: str, data: bytes) -> list[dict[str, Any]]:
    count = -(-len(data) // _PART)
    numbers = iter(range(1, count + 1))
    tags: dict[int, str] = {}

    async def send() -> None:
        for number in numbers:
            part = data[(number - 1) * _PART : number * _PART]
            answer = await ask(
                "upload_part", what, Intent.PREPARE, Key=name, UploadId=upload, PartNumber=number, Body=part
            )
            tags[number] = answer["ETag"]

    senders = [asyncio.create_task(send()) for _ in range(min(_AT_ONCE, count))]
    try:
        await asyncio.gather(*senders)
    finally:
        for sender in senders:
            sender.cancel()
        await asyncio.wait(senders)
    return [{"PartNumber": number, "ETag": tags[number]} for number in sorted(tags)]


async def _abort(ask: Ask, name: str, begun: asyncio.Future[dict[str, Any]]) -> None:
    try:
        async with asyncio.timeout(_ABORT_SECONDS):
            try:
                upload = (await begun)["UploadId"]
            except AsyncPersistError:
                return  # None was begun.
            await ask(
                "abort_multipart_upload", "its parts cannot be removed", Intent.PREPARE, Key=name, UploadId=upload
            )
    except (AsyncPersistError, TimeoutError, asyncio.CancelledError) as exc:
        logger.warning(
            "the parts of an unfinished upload of %s stay in the bucket: %s. A lifecycle rule with "
            "AbortIncompleteMultipartUpload removes such",
            name,
            str(exc) or "the store did not answer in time",
        )
