"""What is in the log of a source, told in its order or as what is left of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import anyio.to_thread
import numpy as np
import polars as pl

from asyncpersist.checkpoint.manifest import ObjectRef
from asyncpersist.columnar import codec
from asyncpersist.columnar.consolidate import consolidate
from asyncpersist.columnar.delta import ID, WEIGHT, Delta, concat
from asyncpersist.columnar.hashing import id_of
from asyncpersist.errors import DamagedState
from asyncpersist.runtime.ahead import in_order
from asyncpersist.runtime.log_rule import LogRule
from asyncpersist.runtime.overflow import Overflow
from asyncpersist.runtime.scratch import Scratch

__all__ = ["LogReader", "as_delta", "identified"]

_T = TypeVar("_T")

_AT_ONCE = 2
"""Objects that are read and decoded while the one before them is used: decoding takes longer than most uses."""
_SMALL_ROWS, _SMALL_BYTES = 4_000_000, 32 << 20
"""Rows and bytes of objects up to which a log is consolidated in memory."""
_ORDINAL = "__ordinal"
_SOURCE = "__source"


@dataclass(frozen=True, slots=True)
class LogReader:
    """The objects of one log as they are named by a manifest; `get` reads one."""

    refs: Sequence[ObjectRef]
    rule: LogRule
    get: Callable[[ObjectRef], Awaitable[bytes]]

    async def read(
        self, made: Callable[[pl.DataFrame], _T], *, after: int = -1, until: int | None = None
    ) -> AsyncGenerator[_T, None]:
        """What is `made`, in a thread, of the rows of the epochs after one and up to another, in their order.

        They come in frames of the rule's columns, `EPOCH` and `WEIGHT`; `ID` is missing where it was not kept. Raises
        `DamagedState`, and what the store raises.
        """

        def make(ref: ObjectRef, file: memoryview) -> _T | None:
            frame = self._decoded(ref, file, after, until)
            return made(frame) if frame.height else None

        async def fetch(ref: ObjectRef) -> list[Callable[[], _T | None]]:
            """What makes the rows of each file in an object; where it is only one, it is made at once."""
            files = _files(ref, await self.get(ref))
            if len(files) > 1:
                return [partial(make, ref, file) for file in files]
            only = await anyio.to_thread.run_sync(make, ref, files[0])
            return [lambda: only]

        wanted = [ref for ref in self.refs if ref.last_epoch > after and (until is None or ref.first_epoch <= until)]
        async with aclosing(in_order((partial(fetch, ref) for ref in wanted), at_once=_AT_ONCE)) as objects:
            async for files in objects:
                for file in files:
                    result = await anyio.to_thread.run_sync(file) if len(files) > 1 else file()
                    if result is not None:
                        yield result

    def deltas(self) -> AsyncGenerator[Delta, None]:
        """All rows in their order."""
        return self.read(as_delta)

    async def net(self, scratch: Scratch, name: str) -> AsyncGenerator[Delta, None]:
        """What is left when all that cancels out is dropped, no row twice; in bounded memory, in no particular order.

        `name` is one that nobody else uses in `scratch`.
        """
        height, size = sum(ref.rows for ref in self.refs), sum(ref.length for ref in self.refs)
        if height <= _SMALL_ROWS and size <= _SMALL_BYTES:
            deltas = [delta async for delta in self.deltas()]
            if deltas:
                yield await anyio.to_thread.run_sync(lambda: consolidate(concat(deltas)))
            return
        buckets = Overflow(await scratch.directory(), name)
        async with aclosing(self.deltas()) as rows:
            async for delta in rows:
                await anyio.to_thread.run_sync(buckets.add, delta)
        for sign in (-1, 1):
            parts = buckets.parts(sign)
            while (piece := await anyio.to_thread.run_sync(next, parts, None)) is not None:
                yield piece
        await anyio.to_thread.run_sync(buckets.remove)

    def _decoded(self, ref: ObjectRef, data: memoryview, after: int, until: int | None) -> pl.DataFrame:
        try:
            frame = codec.decode(data)
        except ValueError as exc:
            raise DamagedState(f"{ref.key} cannot be read as a log: {exc}") from exc
        columns = [name for name in self.rule.columns if name in frame.columns or name != ID]
        frame = frame.select(*columns, codec.EPOCH, WEIGHT)
        if ref.first_epoch <= after or (until is not None and ref.last_epoch > until):
            epoch = pl.col(codec.EPOCH)
            frame = frame.filter(epoch > after if until is None else (epoch > after) & (epoch <= until))
        return frame


def _files(ref: ObjectRef, data: bytes) -> list[memoryview]:
    try:
        return codec.files(data)
    except ValueError as exc:
        raise DamagedState(f"{ref.key} cannot be read as a log: {exc}") from exc


def as_delta(frame: pl.DataFrame) -> Delta:
    """The rows of a log without their epochs."""
    delta = Delta.from_weighted(frame.drop(codec.EPOCH))
    assert delta.weights is not None
    return Delta(delta.rows) if (delta.weights == 1).all() else delta


def identified(delta: Delta, identity: str, rule: LogRule) -> Delta:
    """What is left of a log of the source `identity`, with ids for rows that had none: equal rows are told apart.

    Ids follow from the rows and their part. `delta` has no row twice. The columns are those of the rule, which has ids.
    """
    rows, weights = delta.rows, delta.weights
    times = np.ones(rows.height, np.int64) if weights is None else np.abs(weights)
    places = np.repeat(np.arange(rows.height), times)
    ordinals = np.arange(len(places)) - np.repeat(np.cumsum(times) - times, times)
    many = rows[places].with_columns(pl.Series(_ORDINAL, ordinals), pl.lit(identity).alias(_SOURCE))
    ids = id_of(many, [_SOURCE, *rows.columns, _ORDINAL])
    signs = None if weights is None else np.sign(weights)[places]
    return Delta(many.with_columns(ids).select(rule.columns), signs)
