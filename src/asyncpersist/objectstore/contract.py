"""What an object store promises: bytes under keys, listed, created at most once.

A key is a relative path of `/`-separated names out of letters, digits, `.`, `_` and `-`; no name starts with a dot.
What is no key is refused with `ValueError`: `check_key` does that. A store knows nothing of what it keeps. Fencing and
commit rest on `create` alone.

How to add a store: subclass `ObjectStore` in a module of its own, translate the vendor's errors into those below,
and run `asyncpersist.testing.contract` against it.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import NamedTuple

from asyncpersist.errors import AsyncPersistError, StoreUnavailable

__all__ = ["Entry", "KeyExists", "KeyMissing", "ObjectStore", "OutcomeUnknown", "Throttled", "check_key"]

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


class KeyMissing(AsyncPersistError):
    """There is nothing under the key. Certain: a store that cannot be read raises `StoreUnavailable`."""


class KeyExists(AsyncPersistError):
    """There is already something durable under the key. It may be the caller's own: an answer can get lost."""


class OutcomeUnknown(StoreUnavailable):
    """A write was begun and its answer lost: it may be done, may still be done later, or may never be done."""


class Throttled(StoreUnavailable):
    """Asked too often (503 SlowDown, 429): what was asked is certainly not done, and is to be asked more slowly.

    `retry_after`: the seconds the store asked to wait; None if it named none.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Entry(NamedTuple):
    """One line of a listing: a key and the bytes under it."""

    key: str
    size: int


class ObjectStore(ABC):
    """Bytes under keys. Any number of calls may run at once, from one event loop.

    Every method raises `StoreUnavailable` where the store did not do what was asked and the same call may succeed
    later: `Throttled`, which is one, where it asks for patience, `OutcomeUnknown`, which is another, where a write may
    have happened. `StateUnwritable` where it never will.
    No other error is known to a run: it ends with it. After `aclose` writes raise `StoreUnavailable`.
    A cancelled write has an unknown outcome. What a returned write wrote is durable.
    """

    @abstractmethod
    def describe(self) -> str:
        """How messages name the store, in a form the command line takes; without secrets."""

    async def check_writable(self) -> None:  # noqa: B027
        """By reading alone: raises `StateUnwritable` if writing is already known to be impossible."""

    @abstractmethod
    async def get(self, key: str) -> bytes:
        """All bytes under the key. Raises `KeyMissing`."""

    async def get_range(self, key: str, start: int, stop: int) -> bytes:
        """The bytes from `start` up to but not including `stop`; fewer where the object ends. Raises `KeyMissing`."""
        return (await self.get(key))[start:stop]

    @abstractmethod
    async def create(self, key: str, data: bytes) -> None:
        """Puts `data` under a key that has nothing; of several at once exactly one succeeds. Raises `KeyExists`.

        No reader ever sees a part of the data.
        """

    @abstractmethod
    async def put(self, key: str, data: bytes) -> None:
        """Puts `data` under the key, in place of what was there. No reader ever sees a part of the data."""

    @abstractmethod
    async def list(self, prefix: str = "", *, limit: int | None = None) -> list[Entry]:
        """What there is under keys that start with `prefix`, sorted by key; with `limit`, any that many of them.

        Sees every write that returned before the call. Remains of writes that never ended may be listed under names
        that end in `.partial`; they can be deleted like anything else.
        """

    @abstractmethod
    async def delete(self, keys: Iterable[str]) -> None:
        """Removes what is under the keys; a missing one is no error. May be repeated."""

    async def aclose(self) -> None:  # noqa: B027
        """Waits for what is under way and frees what is open. Idempotent."""


def check_key(key: str) -> str:
    """Returns `key`; raises `ValueError` if it is none."""
    if not key or not all(_NAME.fullmatch(name) for name in key.split("/")):
        raise ValueError(f"{key!r} is no object key: names of A-Z a-z 0-9 . _ - (not first a dot), separated by '/'")
    return key
