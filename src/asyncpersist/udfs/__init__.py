"""Functions of users: executors say where they run, retry strategies what follows a failure, caches what is kept."""

from __future__ import annotations

from asyncpersist.udfs.caches import CacheStrategy, DefaultCache, DiskCache, InMemoryCache
from asyncpersist.udfs.executors import (
    Executor,
    async_executor,
    auto_executor,
    fully_async_executor,
    process_executor,
    sync_executor,
)
from asyncpersist.udfs.retries import (
    AsyncRetryStrategy,
    ExponentialBackoffRetryStrategy,
    FixedDelayRetryStrategy,
    NoRetryStrategy,
)

__all__ = [
    "AsyncRetryStrategy",
    "CacheStrategy",
    "DefaultCache",
    "DiskCache",
    "Executor",
    "ExponentialBackoffRetryStrategy",
    "FixedDelayRetryStrategy",
    "InMemoryCache",
    "NoRetryStrategy",
    "async_executor",
    "auto_executor",
    "fully_async_executor",
    "process_executor",
    "sync_executor",
]
