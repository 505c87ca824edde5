"""What a run refuses of a graph before anything else: places that would be two things at once."""

from __future__ import annotations

import os

import anyio.to_thread

from asyncpersist.errors import GraphError, StateError
from asyncpersist.graph.plan import Plan
from asyncpersist.persistence import Config

__all__ = ["refuse_shared_places"]

_STATE_FILES = ("asyncpersist.json", "manifests/1.json", "objects/1.arrow")
"""What lies in a state directory, by example."""


async def refuse_shared_places(plan: Plan, config: Config | None) -> None:
    """Raises `GraphError` or `StateError` where an output, dead letters or the state would be something else, too."""
    await _refuse_shared_outputs(plan)
    await _refuse_letters_as_input(plan)
    await _refuse_state_as_input(plan, config)


async def _refuse_shared_outputs(plan: Plan) -> None:
    seen: set[str] = set()
    for _, node in plan.sinks:
        if node.sink.identity in seen:
            raise GraphError(f"two outputs of this graph write to {node.sink.identity}; give each its own")
        seen.add(node.sink.identity)
        for vertex, source in plan.sources:
            if await source.source.reads(node.sink.written_file):
                raise GraphError(
                    f"the output {node.sink.identity} lies where {vertex.description} would take it for input; "
                    "write it somewhere else"
                )


async def _refuse_letters_as_input(plan: Plan) -> None:
    for writing, node in plan.sources:
        letters = node.source.dead_letters
        if letters is None:
            continue
        path = await anyio.to_thread.run_sync(os.path.realpath, letters)
        for reading, other in plan.sources:
            if other is not node and await other.source.reads(path):
                raise GraphError(
                    f"{writing.description} keeps its dead letters in {letters!r}, which {reading.description} "
                    "would take for input; name a file somewhere else"
                )


async def _refuse_state_as_input(plan: Plan, config: Config | None) -> None:
    directory = None if config is None else config.backend.fs_path
    if directory is None:
        return
    root = await anyio.to_thread.run_sync(os.path.realpath, directory)
    for vertex, source in plan.sources:
        for name in _STATE_FILES:
            if await source.source.reads(os.path.join(root, name)):
                raise StateError(
                    f"the state directory {root} lies within what {vertex.description} reads, so that state would "
                    "be taken for input; name another directory for the state"
                )
