"""Runs over files that are rewritten: the log follows what is there, not what was."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import asyncpersist as ap
from asyncpersist.checkpoint.manifest import Manifest
from asyncpersist.checkpoint.root import Root
from asyncpersist.columnar import codec
from asyncpersist.columnar.delta import WEIGHT
from asyncpersist.objectstore.memory import MemoryStore
from asyncpersist.testing.clocks import ManualClock


class Line(ap.Schema):
    word: str


def graph(directory: Path, output: Path, mode: str) -> ap.Graph:
    with ap.Graph() as built:
        lines = ap.io.jsonlines.read(directory, schema=Line, mode=mode)
        counts = lines.groupby(ap.this.word).reduce(ap.this.word, count=ap.reducers.count())
        ap.io.jsonlines.write(counts, output)
    return built


def words(version: int, rows: int) -> list[str]:
    return [f"{(version * 7919 + n) * 11400714819323198485 % 2**64:016x}" for n in range(rows)]


def rewrite(path: Path, version: int, rows: int) -> None:
    path.with_suffix(".new").write_text("".join(f'{{"word": "{word}"}}\n' for word in words(version, rows)))
    path.with_suffix(".new").rename(path)


async def log_of(store: MemoryStore) -> tuple[Manifest, int, dict[str, int]]:
    """The head, the bytes of the log, and what it says is there."""
    root = await Root.open(store, clock=ManualClock())
    assert root.head is not None
    (refs,) = [refs for name, refs in root.head.streams.items() if name.startswith("log/")]
    live: dict[str, int] = {}
    for ref in refs:
        for part in codec.parts(await root.get(ref)):
            for word, weight in part.select("word", WEIGHT).iter_rows():
                live[word] = live.get(word, 0) + weight
    return root.head, sum(ref.length for ref in refs), {word: n for word, n in live.items() if n}


ROWS = 20_000
LAST = 11


@pytest.mark.parametrize("runs", ["one", "many"])
async def test_the_log_of_a_file_that_is_rewritten_again_and_again(tmp_path: Path, runs: str) -> None:
    (tmp_path / "in").mkdir()
    file, store = tmp_path / "in" / "words.jsonl", MemoryStore()
    config = ap.persistence.Config(ap.persistence.Backend(store), snapshot_interval_ms=0, retain_snapshots=1)
    sizes: list[int] = []
    if runs == "many":
        for version in range(LAST + 1):
            rewrite(file, version, ROWS)
            await ap.run(graph(tmp_path / "in", tmp_path / "out.jsonl", "static"), persistence_config=config)
            sizes.append((await log_of(store))[1])
    else:
        rewrite(file, 0, ROWS)
        async with ap.Runtime(
            graph(tmp_path / "in", tmp_path / "out.jsonl", "streaming"), persistence_config=config
        ) as runtime:
            for version in range(LAST + 1):
                if version:
                    rewrite(file, version, ROWS)
                while runtime.statistics().rows_read < (version + 1) * ROWS:
                    await asyncio.sleep(0)
                await runtime.snapshot()
                sizes.append((await log_of(store))[1])
            await runtime.stop()
    head, _, live = await log_of(store)
    assert live == dict.fromkeys(words(LAST, ROWS), 1)
    # While a run goes on, it may be rewritten faster than compacted, by a bounded number of times.
    assert max(sizes) < (10 if runs == "one" else 4) * sizes[0]
    (facts,) = head.logs.values()
    assert facts.retracted <= (4 if runs == "one" else 1) * ROWS
