"""What a restart refuses, and how it loads what it finds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import anyio
import anyio.to_thread
import polars as pl

from asyncpersist.checkpoint.manifest import Manifest
from asyncpersist.checkpoint.root import Root
from asyncpersist.columnar import codec
from asyncpersist.columnar.state import State
from asyncpersist.errors import (
    AsyncPersistError,
    DamagedState,
    Fenced,
    GraphChanged,
    ModeChanged,
    OutputError,
    StoreUnavailable,
)
from asyncpersist.graph.plan import Plan, differences
from asyncpersist.persistence import Config

__all__ = ["fetch", "fill", "reason", "refuse"]


def refuse(head: Manifest, config: Config, plan: Plan, where: str) -> None:
    """Raises `ModeChanged` or `GraphChanged` if what `head` holds is not what would go on."""
    mode = config.persistence_mode.name
    if head.mode != mode:
        raise ModeChanged(
            f"{where} was written with persistence_mode={head.mode}, this run asks for {mode}. "
            f"Use PersistenceMode.{head.mode}, or another directory for a new start."
        )
    changes = differences(head.graph, plan.fingerprints())
    if changes:
        raise GraphChanged(
            f"the graph is not the one that {where} was written by:\n  "
            + "\n  ".join(changes)
            + "\nGoing on with a changed graph is not built yet: restore the graph, or start anew with another "
            "directory (and other output files). Nothing was changed."
        )


async def fetch(root: Root, states: Mapping[str, State]) -> dict[str, pl.DataFrame]:
    """Reads and verifies what the head holds for `states` (by stream); fills nothing.

    Raises `DamagedState`, naming the object.
    """
    head = root.head
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

    async with anyio.create_task_group() as group:
        for stream, state in states.items():
            group.start_soon(read, stream, state.key)
    return fetched


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
