"""One run of the job of a schedule: what it writes, commits and deletes, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from asyncpersist.checkpoint.answers import AnswerPiece, Answers, added, is_named
from asyncpersist.checkpoint.caches import cache_stream, cached
from asyncpersist.checkpoint.manifest import Manifest, ObjectRef
from asyncpersist.checkpoint.root import ClaimContended, Piece, Root
from asyncpersist.errors import DamagedState, Fenced, StateInUse, StoreUnavailable
from asyncpersist.objectstore.contract import ObjectStore
from tests.checkpoint.mortal import Killed

if TYPE_CHECKING:
    from tests.checkpoint.schedules import Schedule

__all__ = ["CACHE", "STREAMS", "ScheduledRun", "answers_of", "number_of", "rows_of"]

_T = TypeVar("_T")

STREAMS = ("s", "t")
CACHE = cache_stream("c", "0")


class ScheduledRun:
    """One run of the job, as the runtime goes about it: what is unavailable is asked for again."""

    def __init__(self, schedule: Schedule, name: str, store: ObjectStore) -> None:
        self._schedule = schedule
        self._rng = schedule.rng
        self._name = name
        self._store = store
        self._collecting: asyncio.Task[None] | None = None
        self._ahead: tuple[list[str], asyncio.Task[list[ObjectRef]]] | None = None
        self._waiting: list[Answers] = []
        """Answers that are written, by this run or one before, and were not named when this was looked at."""
        self._answered = 0
        self.steps = 0

    async def claim(self, *, takeover: bool) -> None:
        self.root = await Root.open(
            self._store, clock=self._schedule.clock, retain_snapshots=self._rng.choice([1, 2, 3])
        )
        self.claimed = await self.root.claim(mode="PERSISTING", access="FULL", takeover=takeover)

    async def live(self) -> None:
        """Claims the root if it can, commits some snapshots, and ends one way or another."""
        if not await self._claimed():
            return
        try:
            await self._go_on()
        except Fenced:
            await self._schedule.check_fenced(self.claimed)
        except DamagedState:
            # Nothing that a run needs is deleted while the root is its own.
            if not self._schedule.corrupting:
                raise
            self._schedule.seen["damage found by a writer"] += 1
            await self._give_up()
        finally:
            await self.end()

    async def _go_on(self) -> None:
        if self._rng.random() < 0.7:
            self._collect(self.root.sweep)
            await self.collected()
        await self.adopt()
        for _ in range(self._rng.randint(1, 6)):
            for _ in range(self._rng.choice([0, 0, 1, 2])):
                await self._answer()
            if self._rng.random() < 0.2:
                await self.commit_caches()
            else:
                await self.step()
        if self._rng.random() < 0.7:
            await self._nothing_under_way()
            await self._insist(lambda: self.root.release(clean=self._rng.random() < 0.5))
            self._schedule.seen["released"] += 1

    async def end(self) -> None:
        """What was begun goes on to its end even if the run has lost the root, unless it was killed."""
        try:
            with contextlib.suppress(Killed, Fenced):
                await self._nothing_under_way()
        finally:
            self.root.abandon()

    async def _nothing_under_way(self) -> None:
        try:
            await self.collected()
        finally:
            if self._ahead is not None:
                (_, writing), self._ahead = self._ahead, None
                await writing

    async def adopt(self) -> None:
        """Finds what runs before wrote and did not come to name."""
        self._waiting = await self._insist(self.root.adopt)
        self._schedule.seen["adopted"] += len(self._waiting)

    async def _answer(self) -> None:
        """Writes an answer, and reports it."""
        self._answered += 1
        text = f"{self._name}.{self._answered}"
        data, answers = self.root.answers([AnswerPiece(CACHE, (), text.encode(), 1)])
        await self._insist(lambda: self.root.put_answers(data, answers))
        self._waiting.append(answers)
        self._schedule.report_answer(text)

    async def commit_caches(self) -> None:
        """Names what answers wait for it, by a commit that is no snapshot."""
        await self.collected()
        await self._insist(self.root.settle)
        streams, answered, merged = await self._cached()
        if self._waiting:
            await self._insist(lambda: self.root.commit_caches(streams, caches={}, answered=answered))
            self.root.discard(merged)
            self._schedule.seen["commits of caches"] += 1

    async def _cached(self) -> tuple[dict[str, list[ObjectRef]], int, list[ObjectRef]]:
        """What the next manifest says of the cache, up to which of this run's answers, and what was merged for that."""
        head = self.root.head
        assert head is not None
        self._waiting = [answers for answers in self._waiting if not is_named(answers, head)]
        streams, _ = added(cached(head.streams), self._waiting)
        own = head.answers.get(head.generation)
        serials = [answers.name.serial for answers in self._waiting if answers.name.number == head.generation]
        answered = max([0 if own is None else own.named, *serials])
        refs = streams.get(CACHE, [])
        if len(refs) < 3 or self._rng.random() < 0.5:
            return streams, answered, []
        try:
            texts = [(await self._insist(lambda ref=ref: self.root.get(ref))).decode() for ref in refs]
        except DamagedState:
            await self._insist(self.root.confirm)
            raise
        piece = Piece(data=" ".join(texts).encode(), rows=1, first_epoch=1, last_epoch=1)
        return {CACHE: await self._insist(lambda: self.root.put(piece))}, answered, refs

    async def step(self) -> None:
        """Commits the next rows."""
        head = self.root.head
        assert head is not None
        begun, epoch = head.progress.get("rows", 0), head.epoch + self._rng.randint(1, 2)
        rows, added = await self._next_rows(begun, epoch)
        count = begun + len(rows)
        streams = {
            stream: await self._merged(stream, [*head.streams.get(stream, []), ref], epoch)
            for stream, ref in zip(STREAMS, added, strict=True)
        }
        if self._rng.random() < 0.2:
            never_named = await self._put(["never:named"], epoch)
            if self._rng.random() < 0.5:
                self.root.discard(never_named)
        await self.collected()
        if self._rng.random() < 0.3:
            coming = self._rows(count)
            self._ahead = coming, asyncio.ensure_future(self._put(coming, epoch + 1))
        cache, answered, merged = await self._cached()
        if await self._committed(epoch, count, {**streams, **cache}, answered):
            self.root.discard(merged)
            self.steps += 1
            self._schedule.report(rows)
        self._collect(self.root.collect)

    def _rows(self, begun: int) -> list[str]:
        return [f"{number}:{self._name}" for number in range(begun, begun + self._rng.randint(1, 3))]

    async def _next_rows(self, begun: int, epoch: int) -> tuple[list[str], list[ObjectRef]]:
        """The rows from `begun` on and where they were written, perhaps ahead, during the commit before."""
        if self._ahead is not None:
            (rows, writing), self._ahead = self._ahead, None
            refs = await writing
            if number_of(rows[0]) == begun:
                self._schedule.seen["written ahead"] += 1
                return rows, refs
            self.root.discard(refs)
        rows = self._rows(begun)
        return rows, await self._put(rows, epoch)

    async def _claimed(self) -> bool:
        for _ in range(10):
            try:
                await self.claim(takeover=self._rng.random() < 0.8)
            except (ClaimContended, StateInUse, StoreUnavailable) as exc:
                self._schedule.seen[f"claim: {type(exc).__name__}"] += 1
                await self._schedule.clock.sleep(0.1)
            except DamagedState:
                if not self._schedule.corrupting:
                    raise
                self._schedule.seen["damage found by a claim"] += 1
            else:
                self._schedule.seen["claimed"] += 1
                return True
        return False

    async def _put(self, rows: Sequence[str], epoch: int, streams: Sequence[str] = STREAMS) -> list[ObjectRef]:
        """Writes rows into one object, a piece for each stream."""
        pieces = [
            Piece(data=_encoded(stream, rows), rows=len(rows), first_epoch=epoch, last_epoch=epoch)
            for stream in streams
        ]
        return await self._insist(lambda: self.root.put(*pieces))

    async def _merged(self, stream: str, refs: list[ObjectRef], epoch: int) -> list[ObjectRef]:
        if len(refs) < 3 or self._rng.random() < 0.5:
            return refs
        self._schedule.seen["merged"] += 1
        try:
            parts = [await self._insist(lambda ref=ref: rows_of(self.root, stream, ref)) for ref in refs[:-1]]
        except DamagedState:
            # Whoever took the root over may have deleted it.
            await self._insist(self.root.confirm)
            raise
        merged = await self._put([row for part in parts for row in part], epoch, [stream])
        self.root.discard(refs[:-1])
        return [*merged, refs[-1]]

    async def _committed(self, epoch: int, count: int, streams: dict[str, list[ObjectRef]], answered: int) -> bool:
        """Whether the snapshot came about; if not, the next one is put together anew."""

        name = self._rng.choice(["x", "y"]) if self._rng.random() < 0.1 else None

        def commit() -> Awaitable[Manifest]:
            return self.root.commit(
                epoch=epoch,
                streams=streams,
                sinks={},
                graph={},
                progress={"rows": count},
                keep=name,
                answered=answered,
            )

        way = self._rng.random()
        if way < 0.6:
            await self._insist(commit)
            if name is not None:
                self._schedule.report_name(name, self.root)
            return True
        if way < 0.8:
            with contextlib.suppress(StoreUnavailable):
                await commit()
        else:
            cut = asyncio.ensure_future(commit())
            for _ in range(self._rng.choice([0, 2, 5, 10, 30, 60])):
                await asyncio.sleep(0)
            self._schedule.seen["cut"] += cut.cancel()
            with contextlib.suppress(asyncio.CancelledError, StoreUnavailable):
                await cut
        self._schedule.seen["in doubt"] += self.root.in_doubt
        await self._insist(self.root.settle)
        assert self.root.head is not None
        return self.root.head.epoch == epoch

    async def _give_up(self) -> None:
        with contextlib.suppress(Fenced):
            await self._nothing_under_way()
        for _ in range(5):
            with contextlib.suppress(StoreUnavailable, Fenced, DamagedState):
                await self.root.release(clean=False)
                return

    def _collect(self, collect: Callable[[], Awaitable[int]]) -> None:
        async def best_effort() -> None:
            with contextlib.suppress(StoreUnavailable):
                self._schedule.seen["deleted"] += await collect()

        self._collecting = asyncio.ensure_future(best_effort())

    async def collected(self) -> None:
        """Waits for the collector; puts and reads go on beside it, manifests do not."""
        if self._collecting is not None:
            collecting, self._collecting = self._collecting, None
            await collecting

    async def _insist(self, call: Callable[[], Awaitable[_T]]) -> _T:
        while True:
            try:
                return await call()
            except StoreUnavailable:
                await self._schedule.clock.sleep(0.05)


async def rows_of(root: Root, stream: str, ref: ObjectRef) -> list[str]:
    """The rows of a piece, which has to be of that stream."""
    rows = (await root.get(ref)).decode().split()
    assert all(row.startswith(stream) for row in rows), f"{ref} of {stream} holds {rows}"
    return [row.removeprefix(stream) for row in rows]


async def answers_of(root: Root) -> list[str]:
    """The answers that a run would find."""
    refs = [] if root.head is None else root.head.streams.get(CACHE, [])
    refs = [*refs, *(addition.ref for some in await root.unnamed_answers() for addition in some.additions)]
    return [text for ref in refs for text in (await root.get(ref)).decode().split()]


def number_of(row: str) -> int:
    return int(row.partition(":")[0])


def _encoded(stream: str, rows: Sequence[str]) -> bytes:
    return " ".join(stream + row for row in rows).encode()
