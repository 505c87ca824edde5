"""What stands between the runtime and a store on the network."""

from __future__ import annotations

from asyncpersist.clock import Clock, SystemClock
from asyncpersist.objectstore.contract import ObjectStore
from asyncpersist.objectstore.limited import LimitedStore
from asyncpersist.objectstore.retrying import RetryingStore
from asyncpersist.objectstore.threaded import ThreadedStore

__all__ = ["remote"]


def remote(inner: ObjectStore, clock: Clock | None = None) -> ObjectStore:
    """`inner`, a vendor's client, in a thread of its own, asked for a bounded amount at once, and again if need be.

    `inner` is called from that thread alone, and not from the one that made it. What it raises as `StoreUnavailable` is
    asked again; who waits for that holds no place among the requests at once.
    """
    clock = SystemClock() if clock is None else clock
    return ThreadedStore(RetryingStore(LimitedStore(inner), clock=clock))
