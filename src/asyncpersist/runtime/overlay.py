"""Where logs lie in a run that may read a root and not write to it: what is new goes to a temporary directory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from asyncpersist.checkpoint.manifest import ObjectRef
from asyncpersist.runtime.scratch import Scratch
from asyncpersist.runtime.spool import Spool

__all__ = ["Overlay"]


class Overlay(Spool):
    """A `LogStore` of one run: `named` are the objects of the root by stream, which `read` reads."""

    temporary = False

    def __init__(
        self,
        scratch: Scratch,
        named: Mapping[str, Sequence[ObjectRef]],
        read: Callable[[ObjectRef], Awaitable[bytes]],
    ) -> None:
        super().__init__(scratch)
        self._named = named
        self._below = {(ref.key, ref.start) for refs in named.values() for ref in refs}
        self._read = read

    async def get(self, ref: ObjectRef) -> bytes:
        """Reads a segment, of this run or of the root."""
        return await self._read(ref) if (ref.key, ref.start) in self._below else await super().get(ref)

    def named(self, stream: str) -> Sequence[ObjectRef]:
        """What the root holds of a log."""
        return self._named.get(stream, ())
