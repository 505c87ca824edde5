"""A temporary directory of one run, for what does not fit into memory and nobody needs afterwards."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack

import anyio.to_thread

__all__ = ["Scratch"]


class Scratch:
    """Made when it is first asked for, where the system has its temporary files; removed when `closing` is closed."""

    def __init__(self, closing: AsyncExitStack) -> None:
        self._closing = closing
        self._directory: str | None = None
        self._making = asyncio.Lock()

    async def directory(self) -> str:
        """Its path. Raises `OSError`."""
        async with self._making:
            if self._directory is None:
                made = await anyio.to_thread.run_sync(lambda: tempfile.TemporaryDirectory(prefix="asyncpersist-"))
                self._closing.push_async_callback(anyio.to_thread.run_sync, made.cleanup)
                self._directory = made.name
            return self._directory
