"""Random jobs out of real files, cut anywhere, end in what plain Python computes from the files.

Every job has a seed of its own, which names its test. ASYNCPERSIST_EXAMPLES asks for more of them than the usual few.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

import asyncpersist as ap
from asyncpersist.graph.node import SourceNode
from asyncpersist.io.file_source import FileSource
from tests.main_job import oracle_tables as tables
from tests.main_job.oracle_input import FileKind, Inputs, Line
from tests.main_job.oracle_output import expected_rows, final_rows
from tests.main_job.oracle_tables import Made

EXAMPLES = int(os.environ.get("ASYNCPERSIST_EXAMPLES", "30"))


class Job:
    """One random graph over one folder, defined anew for every run."""

    def __init__(self, folder: Path, kind: FileKind, seed: int, *, broken: bool) -> None:
        self._folder = folder
        self._kind: FileKind = kind
        self._seed = seed
        self._broken = broken

    def define(self, outputs: Path, *, chunk: int) -> tuple[ap.Graph, dict[Path, Made]]:
        rng = random.Random(self._seed)
        outputs.mkdir(exist_ok=True)
        with ap.Graph() as graph:
            lines = ap.io.fs.read(
                self._folder,
                self._kind,
                schema=None if self._kind == "plaintext" else Line,
                mode="static",
                name="lines",
                on_error="skip" if self._broken else "raise",
            )
            source = Made(lines, list)
            shapes = [_groups, _groups, _words] if self._kind == "plaintext" else _SHAPES
            written: dict[Path, Made] = {}
            for number, make in enumerate(rng.sample(shapes, rng.randint(1, 3))):
                made = make(source, rng)
                suffix = rng.choice(["csv", "jsonl"])
                path = outputs / f"{number}-{make.__name__}.{suffix}"
                if rng.random() < 0.5:
                    ap.io.fs.write(made.table, path, format="csv" if suffix == "csv" else "json")
                else:
                    (ap.io.csv if suffix == "csv" else ap.io.jsonlines).write(made.table, path)
                written[path] = made
        assert isinstance(lines.node, SourceNode)
        assert isinstance(lines.node.source, FileSource)
        lines.node.source._chunk_bytes = chunk
        return graph, written


def _plain_rows(source: Made, rng: random.Random) -> Made:
    return rng.choice([tables.selected, tables.everything])(source)


def _filtered(source: Made, rng: random.Random) -> Made:
    return tables.everything(tables.filtered(source, rng))


def _groups(source: Made, rng: random.Random) -> Made:
    return tables.grouped(source, rng)


def _filtered_groups(source: Made, rng: random.Random) -> Made:
    return tables.frequent(tables.grouped(tables.filtered(source, rng), rng), rng)


def _groups_of_groups(source: Made, rng: random.Random) -> Made:
    keys = rng.sample(["os", "i", "oi", "of", "b", "od", "s"], 2)
    below = tables.grouped(source, rng, keys=keys)
    if rng.random() < 0.5:
        below = tables.frequent(below, rng)
    return tables.grouped(below, rng)


def _groups_of_sizes(source: Made, rng: random.Random) -> Made:
    """Grouped by what changes: whole groups come and go."""
    below = tables.grouped(source, rng, keys=[rng.choice(["s", "oi", "of"])])
    return tables.grouped(below, rng, keys=["total"])


def _groups_of_a_concat(source: Made, rng: random.Random) -> Made:
    first = tables.sizes(tables.grouped(source, rng, keys=["os"]))
    second = tables.sizes(tables.grouped(tables.filtered(source, rng), rng, keys=["i", "b"]))
    both = tables.joined(first, second)
    return tables.grouped(both, rng, ids=False) if rng.random() < 0.7 else both


def _words(source: Made, rng: random.Random) -> Made:
    return tables.grouped(tables.grouped(source, rng, keys=["data"]), rng, keys=["total"])


def _expressions(source: Made, rng: random.Random) -> Made:
    return tables.around(source)


_SHAPES: list[Callable[[Made, random.Random], Made]] = [
    _plain_rows,
    _filtered,
    _groups,
    _groups,
    _filtered_groups,
    _groups_of_groups,
    _groups_of_groups,
    _groups_of_sizes,
    _groups_of_a_concat,
    _expressions,
]


async def _run(
    graph: ap.Graph, config: ap.persistence.Config | None, rng: random.Random, *, cut: str
) -> ap.Statistics | None:
    """Runs to the end, or stops it or cancels it after some rows."""
    runtime = ap.Runtime(graph, persistence_config=config)
    rows = rng.randint(0, 60)
    if cut == "cancel":
        task = asyncio.create_task(_entered(runtime))
        for _ in range(rng.choice([1, 2])):  # the second one is for the last snapshot
            for _ in range(rng.choice([0, 1, 5, 20, 100, 1000])):
                await asyncio.sleep(0)
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return None
    async with runtime:
        if cut == "stop":
            while runtime.ready and runtime.statistics().rows_read < rows:
                await asyncio.sleep(0.001)  # with 0 this loop would keep the interpreter from the run's threads
        else:
            await runtime.wait()
    return runtime.statistics()


async def _entered(runtime: ap.Runtime) -> None:
    async with runtime:
        await runtime.wait()


def _compare(written: dict[Path, Made], inputs: Inputs) -> None:
    rows = inputs.rows
    for path, made in written.items():
        found = final_rows(path, made.table.columns)
        wanted = expected_rows(path, made.table.columns, made.rows(rows))
        assert found == wanted, f"{path.name}: {found - wanted} is there, {wanted - found} is not"


def _contents(*folders: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("seed", range(EXAMPLES))
def test_a_job_ends_in_what_its_files_say(seed: int, tmp_path: Path) -> None:
    asyncio.run(_job(seed, tmp_path))


async def _job(seed: int, folder: Path) -> None:
    rng = random.Random(seed)
    kind: FileKind = rng.choice(["csv", "csv", "jsonlines", "jsonlines", "plaintext"])
    broken = rng.random() < 0.3
    inputs = Inputs(folder / "in", kind, rng, broken=broken)
    job = Job(folder / "in", kind, rng.randrange(1 << 32), broken=broken)
    modes = ap.PersistenceMode
    mode = rng.choice([modes.PERSISTING, modes.OPERATOR_PERSISTING])
    outputs, state = folder / "out", folder / "state of ünits"

    def settings() -> ap.persistence.Config:
        backend = ap.persistence.Backend.filesystem(state)
        interval = rng.choice([0, 0, 3, 20, 3_600_000])
        return ap.persistence.Config(
            backend, snapshot_interval_ms=interval, persistence_mode=mode, retain_snapshots=rng.randint(1, 4)
        )

    for _ in range(rng.randint(0, 4)):
        graph, _ = job.define(outputs, chunk=rng.choice([1, 1500, 1500, 6000, 20_000]))
        await _run(graph, settings(), rng, cut=rng.choice(["end", "stop", "stop", "cancel", "cancel"]))
        if rng.random() < 0.6:
            inputs.change()
    graph, written = job.define(outputs, chunk=rng.choice([1500, 6000, 20_000]))
    await _run(graph, settings(), rng, cut="end")
    _compare(written, inputs)

    before = _contents(outputs)
    graph, _ = job.define(outputs, chunk=rng.choice([1, 1000]))
    statistics = await _run(graph, settings(), rng, cut="end")
    assert _contents(outputs) == before, "a restart with nothing new wrote something"
    assert statistics is not None
    assert statistics.rows_read == statistics.epochs == 0

    graph, written = job.define(folder / "once", chunk=rng.choice([2000, 1 << 20]))
    await _run(graph, None, rng, cut="end")
    _compare(written, inputs)
