"""Seeded schedules of competing writers, faults, kills and collectors.

What was committed is there, once, in order; what was not is gone in the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterable

import pytest

from asyncpersist.checkpoint.root import ClaimContended, Root
from asyncpersist.errors import Fenced, StoreUnavailable
from asyncpersist.objectstore.contract import Entry
from asyncpersist.objectstore.memory import MemoryStore
from asyncpersist.testing.clocks import ManualClock
from asyncpersist.testing.stores import FaultyStore, Outcome
from tests.checkpoint.runs import Run, items

FAULTS = [Outcome.DONE] * 12 + [Outcome.REFUSED, Outcome.LOST_ANSWER, Outcome.LOST_REQUEST]


class Killed(BaseException):
    """The process is gone: nothing of it runs any more."""


class Dawdling(FaultyStore):
    """Lets others run for a seeded while before each call, and kills the caller now and then, before it or after."""

    def __init__(self, inner: MemoryStore, rng: random.Random) -> None:
        super().__init__(inner, lambda method, key: rng.choice(FAULTS))
        self._rng = rng

    async def _pause(self) -> None:
        for _ in range(self._rng.choice([0, 0, 1, 3, 20])):
            await asyncio.sleep(0)
        self._kill()

    def _kill(self) -> None:
        if self._rng.random() < 0.01:
            raise Killed

    async def list(self, prefix: str = "", *, limit: int | None = None) -> list[Entry]:
        await self._pause()
        return await super().list(prefix, limit=limit)

    async def delete(self, keys: Iterable[str]) -> None:
        await self._pause()
        for key in sorted(keys):
            await super().delete([key])
            self._kill()

    async def get(self, key: str) -> bytes:
        await self._pause()
        return await super().get(key)

    async def create(self, key: str, data: bytes) -> None:
        await self._pause()
        await super().create(key, data)
        self._kill()

    async def put(self, key: str, data: bytes) -> None:
        await self._pause()
        await super().put(key, data)
        self._kill()


async def write(name: str, inner: MemoryStore, rng: random.Random, clock: ManualClock, committed: list[str]) -> None:
    """A program that runs four times, is thrown out, killed or ends, and merges what it has now and then."""
    count = 0
    for _ in range(4):
        try:
            run = await Run.start(Dawdling(inner, rng), clock, takeover=True, retain=rng.choice([1, 2, 4]))
        except (ClaimContended, StoreUnavailable, Killed):
            continue
        try:
            if rng.random() < 0.7:
                with contextlib.suppress(StoreUnavailable):
                    await run.root.sweep()
            for _ in range(rng.randint(1, 6)):
                item = f"{name}{count}"
                count += 1
                await step(run, item, rng)
                committed.append(item)
            if rng.random() < 0.7:
                await run.put("never named")
                await run.root.release(clean=rng.random() < 0.5)
        except (Fenced, StoreUnavailable, Killed):
            pass
        finally:
            run.root.abandon()


async def step(run: Run, item: str, rng: random.Random) -> None:
    """Commits one more item, whatever the store answers; raises only when fenced."""
    while True:
        try:
            await run.root.settle()
            refs = list(run.head.streams.get("s", []))
            present = [text for ref in refs for text in (await run.root.get(ref)).decode().split()]
            if item in present:
                break
            if len(refs) > 3:
                refs = [await run.put(" ".join(present))]
            await run.commit([*refs, await run.put(item)])
        except StoreUnavailable:
            continue
        break
    with contextlib.suppress(StoreUnavailable):
        await run.root.collect()


@pytest.mark.parametrize("seed", range(150))
async def test_every_committed_item_is_there_once(seed: int) -> None:
    rng = random.Random(seed)
    inner, clock, committed = MemoryStore(), ManualClock(seed=seed), list[str]()
    await asyncio.gather(*(write(name, inner, rng, clock, committed) for name in "ab"))

    run = await Run.start(inner, clock, retain=2)
    found = " ".join(await items(run.root)).split()
    assert len(found) == len(set(found))
    assert set(committed) <= set(found)
    # What was committed without its writer learning of it may be there too, but in order.
    for name in "ab":
        own = [int(item[1:]) for item in found if item[0] == name]
        assert own == sorted(own)
    ends = seed % 3
    if ends == 0:
        for n in range(3):
            await run.append(f"z{n}")
            await run.root.collect()
        found += ["z0", "z1", "z2"]
    elif ends == 1:
        await run.root.sweep()
    await run.root.release()
    if ends == 2:  # What was only passed over is gone; the objects nobody names are left to the next sweep.
        run = await Run.start(inner, clock)
        await run.root.sweep()
        await run.root.release()
    kept = {m.key for m in run.root.chain}.union(*(m.names() for m in run.root.chain))
    stored = {entry.key for entry in await inner.list()} - {"asyncpersist.json"}
    assert stored == kept
    assert await run.root.verify() == []
    assert " ".join(await items(await Root.open(inner, clock=clock))).split() == found
