"""One epoch after the other: what arrived goes through the dataflow, in several passes where it is large.

Between the passes of one epoch the dataflow stands in the middle of a change; nothing may be captured there, and
nothing of it leaves before the epoch is whole.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from functools import partial

import anyio.to_thread
import numpy as np
import polars as pl

from asyncpersist.columnar.arrangement import NotThere
from asyncpersist.columnar.consolidate import consolidate
from asyncpersist.columnar.delta import ORDER, Delta, concat
from asyncpersist.errors import InputError
from asyncpersist.graph.plan import Plan
from asyncpersist.io.source import Batch
from asyncpersist.runtime.dataflow import Dataflow
from asyncpersist.runtime.offsets import OffsetTable
from asyncpersist.runtime.overflow import Overflow
from asyncpersist.runtime.scratch import Scratch
from asyncpersist.runtime.source_log import SourceLog

__all__ = ["Stepping"]

logger = logging.getLogger("asyncpersist")

_PASS_BYTES = 96 << 20
"""Bytes of rows at which a pass is made although more of the epoch is to come."""
_OUTPUT_ROWS = 1 << 20
"""Rows of output over several passes at which what cancels out is dropped."""
_MOST_ROWS = 1 << 22
"""Rows of output of one epoch to one sink beyond which they are kept on disk until the epoch is whole."""
_ORDER_BITS = 22
"""An `ORDER` is an epoch, shifted by so many bits, plus a position: 8 million rows before the next epoch's begin."""


class Stepping:
    """The epochs of one run; `logs` by source, for those that have one.

    `unseen`: by source, the epoch up to which operators have not seen what it gave, so that it is not taken back.
    """

    def __init__(
        self,
        plan: Plan,
        dataflow: Dataflow,
        *,
        offsets: Mapping[str, OffsetTable],
        logs: Mapping[str, SourceLog],
        scratch: Scratch,
        unseen: Mapping[str, int] | None = None,
    ) -> None:
        self._dataflow = dataflow
        self._unseen = dict(unseen or {})
        self._offsets = offsets
        self._logs = logs
        self._scratch = scratch
        self._ordered = {vertex.identity: node.ordered for vertex, node in plan.sources}
        removers = {vertex.identity: node.source.remover for vertex, node in plan.sources}
        self._removers = {source: remover for source, remover in removers.items() if remover is not None}
        self._last_order = dict.fromkeys(self._ordered, 0)
        self._pending: dict[str, list[Delta]] = {}
        self._pending_bytes = 0
        self._outputs: dict[str, list[Delta]] = {}
        self._output_rows = 0
        self._overflows: dict[str, Overflow] = {}
        self._answers_due = False
        self._only: frozenset[int] | None = None
        self._again: frozenset[int] = frozenset()

    async def fill(
        self, contents: AsyncIterator[tuple[str, Delta]], only: frozenset[int], again: frozenset[int]
    ) -> None:
        """Steps only the nodes at some positions of the plan, with the output of others by their identity.

        `again`: those of them that have seen all that before.
        """
        self._only, self._again = only, again
        async for identity, delta in contents:
            await self._pend(identity, delta)
        await self._pass()
        self._only, self._again = None, frozenset()

    async def step(self) -> None:
        """Steps what was taken in so far, which is a part of the epoch."""
        await self._pass()

    async def replay(self, source: str, delta: Delta) -> None:
        """Takes in what a source gave in an earlier run, which its log has already."""
        await self._pend(source, delta)

    async def take(self, epoch: int, source: str, batches: Sequence[Batch]) -> None:
        """Takes in what a source gave for this epoch; logs it, and steps it if it is much."""
        for batch in batches:
            if batch.retracts:
                await self._retract(epoch, source, batch.retracts)
            self._offsets[source].advance(batch.offsets, epoch)
            delta = self._in_order(epoch, source, batch.delta)
            await self._add(epoch, source, delta)

    def take_answers(self) -> None:
        """The epoch is stepped although nothing came from a source: for what functions have answered."""
        self._answers_due = True

    async def finish(self) -> AsyncGenerator[tuple[str, Delta], None]:
        """Steps the rest: the epoch's whole change by sink, consolidated, where there is one.

        A large one comes in pieces, retractions before insertions.
        """
        await self._pass()
        if self._dataflow.unsettled:
            await anyio.to_thread.run_sync(self._dataflow.end_epoch)
        if not self._overflows:
            if any(len(deltas) > 1 for deltas in self._outputs.values()):
                await self._settle()
            outputs, self._outputs, self._output_rows = self._outputs, {}, 0
            for sink, (delta,) in outputs.items():
                yield sink, delta
            return
        await self._settle()
        outputs, self._outputs, self._output_rows = self._outputs, {}, 0
        overflows, self._overflows = self._overflows, {}
        for sink, deltas in outputs.items():
            if sink not in overflows:
                yield sink, deltas[0]
            else:
                await anyio.to_thread.run_sync(overflows[sink].add, deltas[0])
        for sink, overflow in overflows.items():
            for sign in (-1, 1):
                parts = overflow.parts(sign)
                while (piece := await anyio.to_thread.run_sync(_next, parts)) is not None:
                    yield sink, piece
            await anyio.to_thread.run_sync(overflow.remove)

    async def _retract(self, epoch: int, source: str, retracts: Mapping[str, int]) -> None:
        offsets = self._offsets[source]
        since = min(map(offsets.since, retracts))
        async with aclosing(self._logs[source].retract(epoch, set(retracts.values()), since)) as pieces:
            async for piece in pieces:
                await self._pend(source, piece)
        for partition in retracts:
            if 0 < offsets.since(partition) <= self._unseen.get(source, 0):
                del self._unseen[source]
                logger.warning(
                    "%s: %s was read in an earlier run and is another now, or gone. This run has no state of that "
                    "time, so that what was read of it, and of others like it, is not taken back.",
                    source,
                    partition,
                )
            offsets.retract(partition)

    def _in_order(self, epoch: int, source: str, delta: Delta) -> Delta:
        if not self._ordered[source]:
            return delta
        first = max(epoch << _ORDER_BITS, self._last_order[source] + 1)
        self._last_order[source] = first + delta.height
        order = pl.Series(ORDER, np.arange(first, first + delta.height, dtype=np.int64))
        return delta.with_rows(delta.rows.with_columns(order))

    async def _add(self, epoch: int, source: str, delta: Delta) -> None:
        if delta.is_empty():
            return
        if source in self._logs:
            self._logs[source].append(epoch, delta)
        await self._pend(source, delta)

    async def _pend(self, source: str, delta: Delta) -> None:
        self._pending.setdefault(source, []).append(delta)
        self._pending_bytes += int(delta.rows.estimated_size())
        if self._pending_bytes >= _PASS_BYTES:
            await self._pass()

    async def _pass(self) -> None:
        pending, self._pending, self._pending_bytes = self._pending, {}, 0
        if not (pending or self._answers_due):
            return
        self._answers_due = False
        try:
            step = partial(self._dataflow.step, pending, only=self._only, again=self._again)
            outputs = await anyio.to_thread.run_sync(step)
        except NotThere as exc:
            raise self._explained(exc, pending) from exc
        for sink, delta in outputs.items():
            self._outputs.setdefault(sink, []).append(delta)
            self._output_rows += delta.height
        if self._output_rows > _OUTPUT_ROWS and any(len(deltas) > 1 for deltas in self._outputs.values()):
            await self._settle()
            for sink in [sink for sink, (delta,) in self._outputs.items() if delta.height > _MOST_ROWS]:
                (delta,) = self._outputs.pop(sink)
                self._output_rows -= delta.height
                if sink not in self._overflows:
                    self._overflows[sink] = Overflow(await self._scratch.directory(), f"epoch-{len(self._overflows)}")
                await anyio.to_thread.run_sync(self._overflows[sink].add, delta)

    def _explained(self, exc: NotThere, pending: Mapping[str, Sequence[Delta]]) -> Exception:
        if not self._removers:
            return RuntimeError(f"internal error: {exc}. Please report it.")
        # Some operators find it out only later.
        now = [name for source, name in self._removers.items() if any(map(_takes_back, pending.get(source, ())))]
        names = now or list(self._removers.values())
        who = names[0] if len(names) == 1 else f"one of {', '.join(names)}"
        if self._unseen:
            who = f"{who} removed a row that was given in an earlier run, of which this one has no state; or it"
        return InputError(
            f"{who} removed a row that it had not given, or had removed before: {exc}. remove() takes the values with "
            "which a row was given, once for each time; with a primary key in the schema it may name what is not there."
        )

    async def _settle(self) -> None:
        """One consolidated delta for each sink that is told something."""
        whole = await anyio.to_thread.run_sync(_consolidated, self._outputs)
        self._outputs = {sink: [delta] for sink, delta in whole.items() if delta.height}
        self._output_rows = sum(delta.height for delta in whole.values())


def _takes_back(delta: Delta) -> bool:
    return delta.weights is not None and bool((delta.weights < 0).any())


def _consolidated(outputs: Mapping[str, Sequence[Delta]]) -> dict[str, Delta]:
    return {sink: consolidate(concat(deltas)) for sink, deltas in outputs.items()}


def _next(parts: Iterator[Delta]) -> Delta | None:
    return next(parts, None)
