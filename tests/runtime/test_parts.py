"""Partitions that are taken back: the rows are found in the source's log, wherever it lies by then."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import asyncpersist as ap
from asyncpersist.columnar.delta import PART, Delta
from asyncpersist.io.source import Batch, Needs, Offsets, Source, SourceReader
from asyncpersist.runtime import engine, source_log, stepping
from asyncpersist.runtime.epochs import EpochClock
from tests.amounts import TIMES
from tests.runtime.pieces import Collected, counting


class Versions(Source):
    """Gives the first `limit` of a list of batches; `hold` keeps it from ending there."""

    by_parts = True

    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches
        self.limit = len(batches)
        self.hold = False
        self.given = asyncio.Event()

    def retracts(self, *, persistent: bool) -> bool:
        return True

    async def check(self, offsets: Offsets | None, *, persistent: bool) -> None:
        pass

    async def open(self, offsets: Offsets | None, *, identity: str, needs: Needs) -> SourceReader:
        assert needs.parts
        return _VersionsReader(self, (offsets or {}).get("", 0))


class _VersionsReader(SourceReader):
    def __init__(self, source: Versions, start: int) -> None:
        self._source = source
        self._next = start

    async def read(self) -> Batch | None:
        source = self._source
        if self._next >= source.limit:
            source.given.set()
            if source.hold:
                await asyncio.Event().wait()
            return None
        self._next += 1
        return source.batches[self._next - 1]

    async def aclose(self) -> None:
        pass


def batch(
    number: int,
    partition: str,
    part: int,
    words: list[str],
    *,
    weight: int = 1,
    retracts: int | None = None,
    gone: bool = False,
    open: bool = False,
) -> Batch:
    """The batch of that number: rows of one part of one partition."""
    rows = pl.DataFrame({"word": words, PART: [part] * len(words)}, schema={"word": pl.String, PART: pl.Int64})
    delta = Delta(rows, None if weight == 1 else np.full(len(words), weight, np.int64))
    offsets = {"": number, partition: None if gone else {"part": part}}
    return Batch(delta, offsets, size=len(words), retracts={} if retracts is None else {partition: retracts}, open=open)


def history(rng: random.Random, length: int) -> tuple[list[Batch], list[Counter[str]]]:
    """Batches, and what is there after each that is whole (else what was there before the change)."""
    batches: list[Batch] = []
    truths: list[Counter[str]] = []
    live: dict[str, tuple[int, list[str]]] = {}
    parts = 0

    def words() -> list[str]:
        return rng.choices("abcdefgh", k=rng.randrange(6))

    def give(*args: object, **kwargs: object) -> None:
        batches.append(batch(len(batches) + 1, *args, **kwargs))

    def settle() -> None:
        before = truths[-1] if truths else Counter()
        now: Counter[str] = sum((Counter(held) for _, held in live.values()), Counter())
        new = len(batches) - len(truths)
        truths.extend([before] * (new - 1) + [now] if new else [])

    while len(batches) < length:
        partition = rng.choice("uvwxyz")
        there = live.get(partition)
        action = rng.choice(("append", "append", "take back", "rewrite", "delete"))
        if there is None or action == "append":
            part, held = there or ((parts := parts + 1), [])
            new = words()
            live[partition] = part, held + new
            give(partition, part, new)
        elif action == "take back":
            part, held = there
            if held:
                live[partition] = part, held[:-1]
                give(partition, part, held[-1:], weight=-1)
        elif action == "rewrite":
            parts += 1
            pieces = [words() for _ in range(rng.randrange(1, 4))]
            live[partition] = parts, [word for piece in pieces for word in piece]
            for i, piece in enumerate(pieces):
                give(partition, parts, piece, retracts=None if i else there[0], open=i < len(pieces) - 1)
        else:
            del live[partition]
            give(partition, there[0], [], retracts=there[0], gone=True)
        settle()
    return batches, truths


@pytest.mark.parametrize("seed", range(6 * TIMES))
@pytest.mark.parametrize("mode", ["memory only", "PERSISTING", "OPERATOR_PERSISTING"])
async def test_what_is_taken_back_is_what_was_given(seed: int, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    monkeypatch.setattr(source_log, "_SEGMENT_BYTES", rng.choice((1, 60, 1 << 20)))
    monkeypatch.setattr(stepping, "_PASS_BYTES", rng.choice((1, 60, 1 << 20)))
    monkeypatch.setattr(stepping, "_OUTPUT_ROWS", rng.choice((1, 20)))
    monkeypatch.setattr(stepping, "_MOST_ROWS", rng.choice((1, 4, 20)))
    batches, truths = history(rng, 80)
    source, collected = Versions(batches), Collected()
    whole = [i + 1 for i, made in enumerate(batches) if not made.open]
    if mode == "memory only":
        await ap.run(counting(source, collected))
    else:
        config = ap.persistence.Config(
            ap.persistence.Backend.memory(),
            snapshot_interval_ms=rng.choice((0, 3_600_000)),
            persistence_mode=ap.PersistenceMode[mode],
            retain_snapshots=rng.choice((1, 5)),
        )
        for limit in [*sorted(rng.sample(whole, 5)), len(batches)]:
            source.limit = limit
            await ap.run(counting(source, collected), persistence_config=config)
            assert collected.totals() == truths[limit - 1], f"after {limit} batches"
    assert collected.totals() == truths[-1]


async def test_a_change_is_one_epoch_and_a_stop_waits_for_its_end() -> None:
    whole = asyncio.Event()

    class Slow(Versions):
        async def open(self, offsets: Offsets | None, *, identity: str, needs: Needs) -> SourceReader:
            reader = await super().open(offsets, identity=identity, needs=needs)
            read = reader.read

            async def slowly() -> Batch | None:
                if reader._next == 2:  # type: ignore[attr-defined]
                    source.given.set()
                    await whole.wait()
                return await read()

            reader.read = slowly  # type: ignore[method-assign]
            return reader

    source = Slow(
        [
            batch(1, "u", 1, ["a", "b"]),
            batch(2, "u", 2, ["a"], retracts=1, open=True),
            batch(3, "u", 2, ["c"]),
            batch(4, "u", 2, ["d"]),
        ]
    )
    collected = Collected()
    config = ap.persistence.Config(ap.persistence.Backend.memory(), snapshot_interval_ms=0)
    async with ap.Runtime(counting(source, collected), persistence_config=config) as runtime:
        await source.given.wait()
        stopping = asyncio.create_task(runtime.stop())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not stopping.done()
        assert collected.totals() in ({}, {"a": 1, "b": 1})
        whole.set()
        await stopping
    assert collected.totals() in ({"a": 1, "c": 1}, {"a": 1, "c": 1, "d": 1})
    changes = [epoch for epoch, delta in collected.written if "b" in delta.rows["word"]]
    assert len(changes) <= 2
    await ap.run(counting(source, collected), persistence_config=config)
    assert collected.totals() == {"a": 1, "c": 1, "d": 1}


async def test_a_stop_just_before_a_change_is_stepped_leaves_it_out(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Versions(
        [batch(1, "u", 1, ["a"]), batch(2, "u", 2, ["b"], retracts=1, open=True), batch(3, "u", 2, ["c"])]
    )
    collected, runtimes = Collected(), []
    pause = EpochClock.pause

    def stopped(clock: EpochClock) -> float:
        if runtimes and any(made.open for made in runtimes[0]._engine._intake._queues[0]):
            runtimes.pop()._engine.stop()
        return pause(clock)

    monkeypatch.setattr(EpochClock, "pause", stopped)
    monkeypatch.setattr(engine, "_INTAKE_BYTES", 1)
    config = ap.persistence.Config(ap.persistence.Backend.memory(), snapshot_interval_ms=0)
    async with ap.Runtime(counting(source, collected), persistence_config=config) as runtime:
        runtimes.append(runtime)
        await runtime.wait()
    await ap.run(counting(source, collected), persistence_config=config)
    assert collected.totals() == {"b": 1, "c": 1}


async def test_many_small_batches_become_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_INTAKE_BYTES", 1)
    monkeypatch.setattr(source_log, "_MOST_SMALL", 4)
    batches = [batch(n, "u", 1, [str(n)]) for n in range(1, 50)]
    batches += [batch(50, "v", 2, ["v"]), batch(51, "u", 3, ["new"], retracts=1)]
    collected = Collected()
    await ap.run(counting(Versions(batches), collected))
    assert collected.totals() == {"v": 1, "new": 1}


async def test_rewriting_again_and_again_fills_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_INTAKE_BYTES", 1)
    monkeypatch.setattr(source_log, "_SEGMENT_BYTES", 1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    batches = [batch(1, "u", 1, ["a", "b"])]
    batches += [batch(n, "u", n, ["a", str(n)], retracts=n - 1) for n in range(2, 80)]
    source, collected = Versions(batches), Collected()
    files = []
    collected.on_write = lambda: files.append(len(list(tmp_path.rglob("*.arrow"))))
    await ap.run(counting(source, collected))
    assert collected.totals() == {"a": 1, "79": 1}
    assert len(files) > 5
    assert max(files) < 10
    assert not list(tmp_path.iterdir())
