"""How a restart reads what it finds, and what it makes of a run's failure."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import anyio
import anyio.to_thread
import msgspec
import polars as pl

from asyncpersist.checkpoint.answers import Addition, Answers
from asyncpersist.checkpoint.caches import is_cache
from asyncpersist.checkpoint.manifest import Manifest
from asyncpersist.checkpoint.root import Root
from asyncpersist.columnar import codec
from asyncpersist.columnar.state import State
from asyncpersist.errors import AsyncPersistError, DamagedState, Fenced, OutputError, StoreUnavailable
from asyncpersist.graph.plan import Plan, ids_asked_for

__all__ = ["add_answers", "fetch", "fill", "in_present_words", "reason"]


def in_present_words(manifest: Manifest, before: Plan, now: Plan) -> Manifest:
    """A manifest of format 1 with the identities that its nodes have now; others as they are.

    `before` and `now` are plans of one graph, the first by the rules of format 1. Where the graph is another than that
    of the manifest, the nodes that are the same are found, as always.
    """
    entries = now.entries()
    names: dict[str, str] = {}
    graph = dict(manifest.graph)
    for old, new in zip(before.vertices, now.vertices, strict=True):
        known = graph.get(old.identity)
        if known is not None and known["fingerprint"] == old.fingerprint:
            del graph[old.identity]
            graph[new.identity] = {**entries[new.identity], **known, "fingerprint": new.fingerprint}
            names[old.identity] = new.identity
    # Who was told ids is still there, or nobody minds that they become others.
    with_ids = ids_asked_for(now, names.values())
    return msgspec.structs.replace(
        manifest,
        graph=graph,
        streams={_renamed(stream, names): refs for stream, refs in manifest.streams.items()},
        sinks={names.get(identity, identity): position for identity, position in manifest.sinks.items()},
        logs={
            names.get(identity, identity): msgspec.structs.replace(facts, ids=names.get(identity) in with_ids)
            for identity, facts in manifest.logs.items()
        },
    )


def _renamed(stream: str, names: Mapping[str, str]) -> str:
    """`log/IDENTITY`, `offsets/IDENTITY` or `state/IDENTITY/NAME` under another identity; either may hold slashes."""
    if is_cache(stream):
        return stream
    kind, _, rest = stream.partition("/")
    for identity in sorted(names, key=len, reverse=True):
        if rest == identity or rest.startswith(f"{identity}/"):
            return f"{kind}/{names[identity]}{rest[len(identity) :]}"
    return stream


async def fetch(root: Root, head: Manifest | None, states: Mapping[str, State]) -> dict[str, pl.DataFrame]:
    """Reads and verifies what a manifest of the root holds for `states` (by stream); fills nothing.

    Raises `DamagedState`, naming the object.
    """
    fetched: dict[str, pl.DataFrame] = {}
    if head is None:
        return fetched

    async def read(stream: str, key: tuple[str, ...]) -> None:
        refs = head.streams.get(stream, [])
        if not refs:
            return
        parts = await asyncio.gather(*(root.get(ref) for ref in refs))

        def decode() -> pl.DataFrame:
            try:
                return codec.latest_rows([codec.decode(part) for part in parts], key, drop_tombstones=True)
            except ValueError as exc:
                raise DamagedState(f"{refs[0].key} and its increments cannot be read as {stream}: {exc}") from exc

        fetched[stream] = await anyio.to_thread.run_sync(decode)

    try:
        async with anyio.create_task_group() as group:
            for stream, state in states.items():
                group.start_soon(read, stream, state.key)
    except BaseExceptionGroup as exc:
        raise exc.exceptions[0] from None
    return fetched


async def add_answers(
    root: Root, fetched: dict[str, pl.DataFrame], states: Mapping[str, State], found: Sequence[Answers]
) -> None:
    """Adds to what was fetched of caches what answers hold that were found besides, in the order in which they apply.

    Raises `DamagedState`.
    """
    additions: dict[str, list[Addition]] = {}
    for addition in (addition for answers in found for addition in answers.additions):
        if addition.stream in states:
            additions.setdefault(addition.stream, []).append(addition)
    for stream, some in additions.items():
        parts = await asyncio.gather(*(root.get(addition.ref) for addition in some))

        def decode(stream: str = stream, some: list[Addition] = some, parts: list[bytes] = parts) -> pl.DataFrame:
            frames = [fetched[stream]] if stream in fetched else []
            try:
                for addition, part in zip(some, parts, strict=True):
                    frames = [*([] if addition.complete else frames), codec.decode(part)]
                return codec.latest_rows(frames, states[stream].key, drop_tombstones=True)
            except ValueError as exc:
                raise DamagedState(f"{some[0].ref.key} cannot be read as {stream}: {exc}") from exc

        fetched[stream] = await anyio.to_thread.run_sync(decode)


async def reason(root: Root | None, error: BaseException) -> BaseException:
    """Why a run failed: `Fenced` where an output could not be written because the root was taken over, else `error`."""
    if root is not None and isinstance(error, OSError | OutputError) and not isinstance(error, StoreUnavailable):
        try:
            await root.confirm()
        except Fenced as fenced:
            fenced.__cause__ = error
            return fenced
        except AsyncPersistError:
            return error
    return error


async def fill(states: Mapping[str, State], fetched: Mapping[str, pl.DataFrame]) -> None:
    """Loads what was fetched into empty states."""
    for stream, frame in fetched.items():
        await anyio.to_thread.run_sync(states[stream].load, frame)
