"""What stands between the runtime and a store on the network."""

from __future__ import annotations

from asyncpersist.clock import Clock
from asyncpersist.objectstore.contract import ObjectStore
from asyncpersist.objectstore.limited import LimitedStore
from asyncpersist.objectstore.retrying import RetryingStore
from asyncpersist.objectstore.threaded import ThreadedStore

__all__ = ["remote"]


def remote(inner: ObjectStore, clock: Clock) -> ObjectStore:
    """`inner`, a vendor's client, in a thread of its own, asked for a bounded amount at once, and again if need be.

    Who waits for another attempt holds no place among the requests at once.
    """
    return ThreadedStore(RetryingStore(LimitedStore(inner), clock=clock))
