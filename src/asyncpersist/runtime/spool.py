"""Where logs lie in a run without a state root: in a temporary directory, for what may have to be taken back."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext

import anyio.to_thread

from asyncpersist.checkpoint.manifest import ObjectRef
from asyncpersist.runtime.snapshots import LogSegment

__all__ = ["Spool"]


class Spool:
    """A `LogStore` of one run. The directory is made with the first segment, and removed when `closing` is closed."""

    def __init__(self, closing: AsyncExitStack) -> None:
        self._closing = closing
        self._directory: str | None = None
        self._opening = asyncio.Lock()
        self._count = 0

    def is_consolidated(self, stream: str) -> bool:
        """Always: only what is there matters here."""
        return True

    async def put(self, part: LogSegment, epoch: int) -> ObjectRef:
        """Writes a segment. Raises `OSError`."""
        async with self._opening:
            if self._directory is None:
                made = await anyio.to_thread.run_sync(lambda: tempfile.TemporaryDirectory(prefix="asyncpersist-"))
                self._closing.push_async_callback(anyio.to_thread.run_sync, made.cleanup)
                self._directory = made.name
        self._count += 1
        path = os.path.join(self._directory, f"{self._count}.arrow")

        def write() -> int:
            data = part.encode("zstd")
            with open(path, "wb") as file:
                file.write(data)
            return len(data)

        length = await anyio.to_thread.run_sync(write)
        return ObjectRef(key=path, length=length, checksum="", rows=part.rows, first_epoch=0, last_epoch=epoch)

    async def get(self, ref: ObjectRef) -> bytes:
        """Reads a segment. Raises `OSError`."""

        def read() -> bytes:
            with open(ref.key, "rb") as file:
                return file.read()

        return await anyio.to_thread.run_sync(read)

    def named(self, stream: str) -> Sequence[ObjectRef]:
        """None: a `SourceLog` remembers all it wrote."""
        return ()

    def reading(self) -> AbstractAsyncContextManager[object]:
        """Nothing is ever deleted before the end."""
        return nullcontext()
