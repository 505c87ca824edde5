"""A function as a graph holds it: what is called, what it takes and returns, and by what it is known."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from asyncpersist.dtypes import DType
from asyncpersist.udfs.caches import CacheStrategy
from asyncpersist.udfs.executors import Executor

__all__ = ["Columns", "Function"]

Columns = Literal["polars", "numpy"]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Function:
    """One function as it is applied to columns of known types.

    `call` is what the user wrote, `name` its qualified name, `version` what the user says of it. The first of `takes`
    are positional arguments, the last ones go to the parameters `keywords`. `settings`: plain values that an instance
    carries and that decide, with its class, what it returns. `result`: the type of what is returned. `columns`: it
    takes and returns whole columns, as Polars series or NumPy arrays; with `max_batch_size` it takes and returns at
    most so many values at once, as lists if not as columns.
    """

    call: Callable[..., Any]
    name: str
    takes: tuple[DType, ...]
    keywords: tuple[str, ...] = ()
    result: DType
    version: str | None = None
    settings: Mapping[str, Any] | None = None
    deterministic: bool = False
    propagate_none: bool = False
    executor: Executor
    cache: CacheStrategy | None = None
    max_batch_size: int | None = None
    columns: Columns | None = None

    def canonical(self) -> dict[str, Any]:
        """What it computes, as plain JSON values: equal over runs, versions and machines."""
        form: dict[str, Any] = {
            "name": self.name,
            "takes": list(map(str, self.takes)),
            "keywords": list(self.keywords),
            "result": str(self.result),
            "version": self.version,
            "propagate_none": self.propagate_none,
        }
        return form if not self.settings else {**form, "settings": dict(self.settings)}

    @property
    def digest(self) -> str:
        """32 hexadecimal digits by which its results are found again in a cache."""
        return hashlib.sha256(msgspec.json.encode(self.canonical(), order="sorted")).hexdigest()[:32]
