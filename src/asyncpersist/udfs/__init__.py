"""Functions of users: executors say where they run, retry strategies what follows a failure, caches what is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from asyncpersist import errors
from asyncpersist.udfs.caches import CacheStrategy, DefaultCache, DiskCache, InMemoryCache
from asyncpersist.udfs.definition import UDF, udf
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
    "UDF",
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
    "udf",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> NoReturn:
        if name in _NOT_BUILT:
            raise errors.NotBuilt(f"asyncpersist.udfs.{name} is not built: say it with executor= and cache_strategy=")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


_NOT_BUILT = frozenset(
    {
        "async_options",
        "coerce_async",
        "with_cache_strategy",
        "with_capacity",
        "with_retry_strategy",
        "with_timeout",
    }
)
