"""A bound on the bytes that are held at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

__all__ = ["ByteRoom"]


class ByteRoom:
    """Room for `size` bytes; what is larger than all of it has it alone."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken = 0
        self._left = asyncio.Condition()

    @contextlib.asynccontextmanager
    async def take(self, size: int) -> AsyncIterator[None]:
        """Waits until there is room for `size` bytes, and holds it."""
        async with self._left:
            await self._left.wait_for(lambda: self._taken == 0 or self._taken + size <= self._size)
            self._taken += size
        try:
            yield
        finally:
            async with self._left:
                self._taken -= size
                self._left.notify_all()
