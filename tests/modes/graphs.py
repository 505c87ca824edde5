"""Graphs that change, and roots that are changed behind them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import asyncpersist as ap
from asyncpersist.checkpoint.manifest import Manifest
from asyncpersist.checkpoint.root import Root
from asyncpersist.clock import SystemClock
from asyncpersist.errors import GraphChanged
from tests.modes.pieces import (
    M,
    Place,
    run,
)

WORDS = ("a", "b", "a", "c")

KEEPING = (M.PERSISTING, M.SELECTIVE_PERSISTING, M.OPERATOR_PERSISTING)

Define = Callable[[], Any]


def graph_of(define: Define) -> ap.Graph:
    with ap.Graph() as graph:
        define()
    return graph


async def refused(place: Place, define: Define, says: str, mode: M = M.PERSISTING, **settings: Any) -> None:
    """A run is refused, and nothing of state and outputs is changed."""
    state = await place.contents()
    files = {path: path.read_bytes() for path in place.folder.glob("*.*") if path.is_file()}
    with pytest.raises(GraphChanged, match=says):
        await run(graph_of(define), place.config(mode, **settings))
    assert await place.contents() == state
    assert {path: path.read_bytes() for path in place.folder.glob("*.*") if path.is_file()} == files


async def without_objects(place: Place) -> None:
    """Loses every object of every log."""
    head = await place.head()
    logs = [refs for stream, refs in head.streams.items() if stream.startswith("log/")]
    await place.store.delete([ref.key for refs in logs for ref in refs])


async def rewrite_head(place: Place, change: Callable[[Manifest], Manifest]) -> None:
    """Commits the newest snapshot again, with something changed."""
    root = await Root.open(place.store, clock=SystemClock())
    assert root.head is not None
    await root.claim(mode=root.head.mode, access=root.head.access)
    changed = change(root.head)
    await root.commit(
        epoch=changed.epoch,
        streams=changed.streams,
        sinks=changed.sinks,
        graph=changed.graph,
        progress=changed.progress,
        logs=changed.logs,
        mode=changed.mode,
        access=changed.access,
    )
    await root.release()
