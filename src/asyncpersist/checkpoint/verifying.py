"""Reading objects back: what is loaded is verified against its length and checksum."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from asyncpersist.checkpoint.caches import cache_of, is_cache
from asyncpersist.checkpoint.manifest import Manifest, ObjectRef, checksum
from asyncpersist.objectstore.contract import KeyMissing, ObjectStore

__all__ = ["Problem", "advice", "joined", "load", "problems"]

_INLINE = 32 * 1024


@dataclass(frozen=True, slots=True)
class Problem:
    """An object that cannot be loaded, and why."""

    key: str
    detail: str


async def joined(pieces: Sequence[bytes]) -> tuple[bytes, list[str]]:
    """All pieces as one, and the checksum of each; if they are large, in a thread."""

    def work() -> tuple[bytes, list[str]]:
        whole = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return whole, [checksum(piece) for piece in pieces]

    return work() if sum(map(len, pieces)) <= _INLINE else await asyncio.to_thread(work)


async def load(store: ObjectStore, ref: ObjectRef) -> tuple[bytes, Problem | None]:
    """The bytes of an object or a piece of one, unless there is a problem with it. Raises `StoreUnavailable`."""
    try:
        if ref.start is None:
            data = await store.get(ref.key)
        else:
            data = await store.get_range(ref.key, ref.start, ref.start + ref.length)
    except KeyMissing:
        return b"", Problem(ref.key, "it is missing")
    if len(data) != ref.length:
        return b"", Problem(ref.key, f"it has {len(data)} bytes, not {ref.length}")
    summed = checksum(data) if len(data) <= _INLINE else await asyncio.to_thread(checksum, data)
    if summed != ref.checksum:
        return b"", Problem(ref.key, "its bytes do not fit their checksum")
    return data, None


async def problems(store: ObjectStore, refs: Iterable[ObjectRef], *, at_once: int) -> list[Problem]:
    """Every object of `refs` that is missing or altered."""
    gate = asyncio.Semaphore(at_once)

    async def look(ref: ObjectRef) -> Problem | None:
        async with gate:
            return (await load(store, ref))[1]

    found = await asyncio.gather(*(look(ref) for ref in refs))
    return [problem for problem in found if problem is not None]


def advice(where: str, problem: Problem, chain: Sequence[Manifest]) -> str:
    """What to do about a problem with an object of the first of `chain`, the others being what else is kept."""
    if needed := {stream for m in chain[:1] for stream, refs in m.streams.items() if _has(refs, problem.key)}:
        caches = {cache_of(stream) for stream in needed if is_cache(stream)}
        if caches and all(map(is_cache, needed)):
            drops = " and ".join(f"`asyncpersist cache {where} --drop {shlex.quote(name)}`" for name in sorted(caches))
            return (
                f"{where}: the object {problem.key} is damaged: {problem.detail}. It holds results of functions. Put "
                f"it back from a backup, or run {drops} to do without them. Nothing was changed."
            )
    older = [m.sequence for m in chain[1:] if m.kind == "snapshot" and problem.key not in m.names()]
    way_out = (
        f"run `asyncpersist restore {where} --to {older[0]}` to go on from that older snapshot"
        if older
        else "name another directory to start anew"
    )
    return (
        f"{where}: the object {problem.key} is damaged: {problem.detail}. Put it back from a backup, or {way_out}. "
        "Nothing was changed."
    )


def _has(refs: Iterable[ObjectRef], key: str) -> bool:
    return any(ref.key == key for ref in refs)
