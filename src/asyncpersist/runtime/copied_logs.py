"""The logs of a root whose owner goes on, copied aside: what is read for long may be deleted there meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Mapping
from dataclasses import replace

import anyio.to_thread

from asyncpersist.checkpoint.manifest import ObjectRef
from asyncpersist.runtime.log_reading import LogReader
from asyncpersist.runtime.scratch import Scratch

__all__ = ["copied"]

_AT_ONCE = 4


async def copied(logs: Mapping[str, LogReader], scratch: Scratch) -> dict[str, LogReader]:
    """The same logs, read from a temporary directory to which their objects were copied.

    Raises what reading them raises: `DamagedState` for one that is gone.
    """
    directory = await scratch.directory()
    numbers = itertools.count()
    paths: dict[tuple[str, int | None], str] = {}
    turns = iter([(log, ref) for log in logs.values() for ref in log.refs])

    async def copy_in_turn() -> None:
        for log, ref in turns:
            path = os.path.join(directory, f"copied-{next(numbers)}.arrow")
            await anyio.to_thread.run_sync(_write, path, await log.get(ref))
            paths[ref.key, ref.start] = path

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(copy_in_turn())
    except BaseExceptionGroup as exc:
        raise exc.exceptions[0] from None

    async def get(ref: ObjectRef) -> bytes:
        return await anyio.to_thread.run_sync(_read, paths[ref.key, ref.start])

    return {source: replace(log, get=get) for source, log in logs.items()}


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
