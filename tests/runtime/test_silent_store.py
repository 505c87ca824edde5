"""A run ends within its `shutdown_timeout`, whatever its store does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

import asyncpersist as ap
from asyncpersist.errors import StoreUnavailable
from asyncpersist.objectstore.memory import MemoryStore
from tests.runtime.pieces import Collected, Feed, counting

MOMENT = 0.05


class Silent(MemoryStore):
    """Once `silent` holds the name of a method, its calls are never answered."""

    silent = ""

    async def create(self, key: str, data: bytes) -> None:
        await self._perhaps("create")
        await super().create(key, data)

    async def put(self, key: str, data: bytes) -> None:
        await self._perhaps("put")
        await super().put(key, data)

    async def delete(self, keys: Iterable[str]) -> None:
        await self._perhaps("delete")
        await super().delete(keys)

    async def _perhaps(self, method: str) -> None:
        if method == self.silent:
            await asyncio.Event().wait()


@pytest.mark.parametrize("method", ["create", "put"])
async def test_a_store_that_never_answers_does_not_keep_a_run_from_stopping(method: str) -> None:
    store = Silent()
    feed, collected = Feed(["a"], ["a", "b"], hold=True), Collected()
    config = ap.persistence.Config(ap.persistence.Backend(store), snapshot_interval_ms=3_600_000)
    with pytest.raises(StoreUnavailable, match="gave no answer before the run had to end"):
        async with ap.Runtime(counting(feed, collected), persistence_config=config, shutdown_timeout=MOMENT) as runtime:
            while runtime.statistics().rows_read < 3:
                await asyncio.sleep(0)
            store.silent = method
    store.silent = ""
    again = Feed(["a"], ["a", "b"])
    async with ap.Runtime(counting(again, Collected()), persistence_config=config) as runtime:
        await runtime.wait()
        assert runtime.statistics().rows_read == 3


async def test_what_cannot_be_deleted_does_not_keep_a_run_from_stopping() -> None:
    store = Silent()
    feed = Feed(["a"], ["a", "b"], hold=True)
    config = ap.persistence.Config(ap.persistence.Backend(store), snapshot_interval_ms=3_600_000, retain_snapshots=1)
    async with ap.Runtime(counting(feed, Collected()), persistence_config=config, shutdown_timeout=MOMENT) as runtime:
        await feed.given.wait()
        await runtime.snapshot()
        store.silent = "delete"
