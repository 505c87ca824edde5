"""Stores of every kind, each on a fresh place."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asyncpersist.clock import SystemClock
from asyncpersist.objectstore.contract import ObjectStore
from asyncpersist.objectstore.filesystem import FilesystemStore
from asyncpersist.objectstore.memory import MemoryStore
from asyncpersist.objectstore.remote import remote
from tests.servers import azurite, moto

__all__ = ["KINDS", "StorePlaces"]

KINDS = ("memory", "filesystem", "s3", "azure", "remote_s3", "remote_azure")
"""Every kind of store; the last four ask for a server. The remote ones are as a run uses them: the vendor's within a
thread of its own, asked for a bounded amount at once, and again if need be."""

PREFIX = "some/where"


class StorePlaces:
    """Makes places and remembers the stores that were opened there, to close them.

    `fixture(name)` gives the server of that name, started when it is first asked for.
    """

    def __init__(self, folder: Path, fixture: Callable[[str], Any]) -> None:
        self._folder = folder
        self._fixture = fixture
        self._numbers = itertools.count(1)
        self._opened: list[ObjectStore] = []

    def new(self, kind: str) -> Callable[[], ObjectStore]:
        """An empty place of a kind: each call of what is returned opens one more store on it."""
        open_one = getattr(self, f"_{kind}")()

        def opened() -> ObjectStore:
            store: ObjectStore = open_one()
            self._opened.append(store)
            return store

        return opened

    async def aclose(self) -> None:
        for store in self._opened:
            await store.aclose()

    def _memory(self) -> Callable[[], ObjectStore]:
        objects: dict[str, bytes] = {}
        return lambda: MemoryStore(objects)

    def _filesystem(self) -> Callable[[], ObjectStore]:
        folder = self._folder / str(next(self._numbers)) / "not" / "yet"
        return lambda: FilesystemStore(folder)

    def _s3(self) -> Callable[[], ObjectStore]:
        from asyncpersist.objectstore.s3.store import S3Store

        server: moto.Moto = self._fixture("moto")
        settings = server.settings(server.new_bucket())
        return lambda: S3Store(settings, PREFIX)

    def _azure(self) -> Callable[[], ObjectStore]:
        from asyncpersist.objectstore.azure.store import AzureStore

        server: azurite.Azurite = self._fixture("azurite")
        container = server.new_container()
        return lambda: AzureStore(azurite.ACCOUNT, container, PREFIX, key=azurite.KEY, endpoint=server.endpoint)

    def _remote_s3(self) -> Callable[[], ObjectStore]:
        open_one = self._s3()
        return lambda: remote(open_one(), SystemClock())

    def _remote_azure(self) -> Callable[[], ObjectStore]:
        open_one = self._azure()
        return lambda: remote(open_one(), SystemClock())
