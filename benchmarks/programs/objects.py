"""Many objects into an object store, by this package or by a client alone.

Task: how ("ours", "plain" or "obstore"), vendor ("s3" or "azure"), endpoint, place (a bucket or container), account,
key, count, size, at_once.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

from measured import report, task, ticked

Put = Callable[[str, bytes], Awaitable[object]]

job: dict[str, Any] = task()
IDLE_SECONDS = LEAST_SECONDS = 2.0


async def each(put: Put, contents: list[bytes]) -> None:
    """All of them, `at_once` at a time."""
    numbers = iter(range(len(contents)))

    async def some() -> None:
        for number in numbers:
            await put(f"objects/{number:05d}", contents[number])

    await asyncio.gather(*(some() for _ in range(job["at_once"])))


async def measure(write: Callable[[list[bytes]], Awaitable[object]]) -> None:
    """Writes once to set everything up, then so often that the ticks of a ticker tell something."""
    contents = [os.urandom(job["size"]) for _ in range(job["count"])]
    await write(contents[:2])
    figures: dict[str, Any] = {"idle_lag_ms": await ticked(asyncio.sleep(IDLE_SECONDS))}
    cpu, start, times = time.process_time(), time.perf_counter(), 0

    async def again_and_again() -> None:
        nonlocal times
        while time.perf_counter() - start < LEAST_SECONDS:
            await write(contents)
            times += 1

    figures["lag_ms"] = await ticked(again_and_again())
    figures["seconds"] = (time.perf_counter() - start) / times
    figures["cpu_seconds"] = (time.process_time() - cpu) / times
    figures["times"] = times
    report(figures)


async def ours() -> None:
    """As a snapshot writes them: named, summed up, and small ones in objects that they share."""
    import asyncpersist as ap
    from asyncpersist.checkpoint.packing import packs
    from asyncpersist.checkpoint.root import Piece, Root
    from asyncpersist.clock import SystemClock
    from asyncpersist.disk import Disk

    if job["vendor"] == "s3":
        backend = ap.persistence.Backend.s3(
            "root",
            ap.io.s3.AwsS3Settings(
                bucket_name=job["place"],
                access_key=job["account"],
                secret_access_key=job["key"],
                with_path_style=True,
                region="us-east-1",
                endpoint=job["endpoint"],
            ),
        )
    else:
        backend = ap.persistence.Backend.azure(
            "root", job["account"], job["key"], job["place"], endpoint=job["endpoint"]
        )
    store = backend.open_store(Disk())
    root = await Root.open(store, clock=SystemClock())
    await root.claim(mode="PERSISTING", access="FULL")

    async def write(contents: list[bytes]) -> None:
        pieces = [Piece(data=content, rows=1, first_epoch=2, last_epoch=2) for content in contents]
        together = packs([len(content) for content in contents])
        await asyncio.gather(*(root.put(*(pieces[i] for i in positions)) for positions in together))

    await measure(write)
    await root.release()
    await store.aclose()


async def plain() -> None:
    """The vendor's client in the application's loop."""
    if job["vendor"] == "s3":
        from aiobotocore.config import AioConfig
        from aiobotocore.session import get_session

        async with get_session().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=job["endpoint"],
            aws_access_key_id=job["account"],
            aws_secret_access_key=job["key"],
            config=AioConfig(max_pool_connections=job["at_once"], s3={"addressing_style": "path"}),
        ) as client:

            async def put(key: str, data: bytes) -> object:
                return await client.put_object(Bucket=job["place"], Key=key, Body=data)

            await measure(lambda contents: each(put, contents))
    else:
        from azure.storage.blob.aio import ContainerClient

        async with ContainerClient(job["endpoint"], job["place"], credential=job["key"]) as container:

            async def put(key: str, data: bytes) -> object:
                return await container.upload_blob(key, data, overwrite=True)

            await measure(lambda contents: each(put, contents))


async def obstore() -> None:
    """A client in Rust."""
    from obstore import put_async
    from obstore.store import AzureStore, S3Store

    store: Any
    if job["vendor"] == "s3":
        store = S3Store(
            job["place"],
            endpoint=job["endpoint"],
            access_key_id=job["account"],
            secret_access_key=job["key"],
            region="us-east-1",
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )
    else:
        store = AzureStore(
            job["place"],
            account_name=job["account"],
            account_key=job["key"],
            endpoint=job["endpoint"],
            client_options={"allow_http": True},
        )
    await measure(lambda contents: each(lambda key, data: put_async(store, key, data), contents))
    await asyncio.sleep(0.2)  # it may abort the interpreter if that ends sooner


asyncio.run({"ours": ours, "plain": plain, "obstore": obstore}[job["how"]]())
