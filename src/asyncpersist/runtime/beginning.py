"""What a run does before it reads anything: what has no state is given what is there, and logs are replayed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import anyio.to_thread

from asyncpersist.columnar.delta import Delta
from asyncpersist.graph.plan import Plan
from asyncpersist.persistence.keeping import Replaying
from asyncpersist.runtime.dataflow import Dataflow
from asyncpersist.runtime.log_reading import LogReader, identified
from asyncpersist.runtime.replay import Replay
from asyncpersist.runtime.resuming.resumption import Resumption
from asyncpersist.runtime.scratch import Scratch
from asyncpersist.runtime.source_log import SourceLog

__all__ = ["Beginning"]


class Beginning:
    """`found` are the logs there are, by source; `logs` those that are kept on."""

    def __init__(
        self,
        resumption: Resumption | None,
        found: Mapping[str, LogReader],
        *,
        plan: Plan,
        dataflow: Dataflow,
        logs: Mapping[str, SourceLog],
        scratch: Scratch,
    ) -> None:
        self._resumption = resumption
        self._found = found
        self._plan = plan
        self._dataflow = dataflow
        self._logs = logs
        self._scratch = scratch

    @property
    def fills(self) -> bool:
        """Whether there is something to be filled, or a log to be written anew."""
        made = self._resumption
        if made is None:
            return False
        return bool(made.filled) or any(start.identified for start in made.sources.values())

    @property
    def only(self) -> frozenset[int]:
        """The positions of what is filled."""
        assert self._resumption is not None
        return self._resumption.filled

    async def contents(self, epoch: int) -> AsyncGenerator[tuple[str, Delta], None]:
        """What is given to what is filled, by the identity of who gives it.

        A log whose rows have no ids yet is written anew on the way, as of `epoch`.
        """
        made = self._resumption
        assert made is not None
        for position in sorted(made.given):
            pieces = self._dataflow.present(position)
            while (piece := await anyio.to_thread.run_sync(next, pieces, None)) is not None:
                yield self._plan.vertices[position].identity, piece
        for number, (identity, log) in enumerate(self._found.items()):
            start = made.sources[identity]
            if not (identity in made.read or start.identified):
                continue
            if start.identified:
                self._logs[identity].supersede()
            in_order = log.rule.kept == "whole" and not start.identified
            rows = log.deltas() if in_order else log.net(self._scratch, f"log-of-{number}")
            async with aclosing(rows):
                async for row in rows:
                    delta = row
                    if start.identified:
                        delta = await anyio.to_thread.run_sync(identified, row, identity)
                        self._logs[identity].append(epoch, delta)
                    if identity in made.read:
                        yield identity, delta

    def replay(self, how: Replaying) -> Replay:
        """The logs, to be given again."""
        return Replay(self._found, together=how == "batch")
