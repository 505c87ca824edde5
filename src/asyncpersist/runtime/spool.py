"""Where logs lie in a run without a state root: on disk while it goes on, for what may have to be taken back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext

import anyio.to_thread

from asyncpersist.checkpoint.manifest import ObjectRef
from asyncpersist.columnar.consolidate import consolidate_if_smaller
from asyncpersist.columnar.delta import concat
from asyncpersist.runtime.scratch import Scratch
from asyncpersist.runtime.segments import LogSegment

__all__ = ["Spool"]


class Spool:
    """A `LogStore` of one run."""

    temporary = True

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self._count = 0

    async def put(self, part: LogSegment, epoch: int) -> ObjectRef:
        """Writes a segment; its reference counts the rows that `get` will give. Raises `OSError`."""
        self._count += 1
        name = f"log-{self._count}.arrow"
        path = os.path.join(await self._scratch.directory(), name)

        def write() -> tuple[int, int]:
            whole = consolidate_if_smaller(concat([delta for _, delta in part.deltas]))
            encoded = LogSegment(part.stream, [([(epoch, whole.height)], whole)], consolidated=False).encode("zstd")
            with open(path, "wb") as file:
                file.write(encoded.data)
            return len(encoded.data), encoded.rows

        length, rows = await anyio.to_thread.run_sync(write)
        return ObjectRef(key=path, length=length, checksum="", rows=rows, first_epoch=0, last_epoch=epoch)

    async def get(self, ref: ObjectRef) -> bytes:
        """Reads a segment. Raises `OSError`."""

        def read() -> bytes:
            with open(ref.key, "rb") as file:
                return file.read()

        return await anyio.to_thread.run_sync(read)

    async def delete(self, ref: ObjectRef) -> None:
        """Deletes a segment. Raises `OSError`."""
        await anyio.to_thread.run_sync(os.unlink, ref.key)

    def named(self, stream: str) -> Sequence[ObjectRef]:
        """None: a `SourceLog` remembers all it wrote."""
        return ()

    def reading(self) -> AbstractAsyncContextManager[object]:
        """Nothing that is named is ever deleted: nothing is."""
        return nullcontext()
