"""The job that follows a moving world, as a child process runs it: three formats in, three outputs, a ticker beside."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from pathlib import Path
from typing import Any, Literal

import asyncpersist as ap
from asyncpersist.cli.state_location import backend_of
from asyncpersist.graph.node import SourceNode
from asyncpersist.io.file_source import FileSource

_TICK = 0.001


class Record(ap.Schema):
    word: str
    n: int


def define(folder: Path, outputs: Path, mode: Literal["static", "streaming"], *, chunk: int) -> ap.Graph:
    """`chunk`: bytes of input in a batch, so that a rewritten file is many of them."""
    with ap.Graph() as graph:
        objects = ap.io.jsonlines.read(folder / "json", schema=Record, mode=mode, name="objects")
        records = ap.io.csv.read(folder / "csv", schema=Record, mode=mode, name="records")
        lines = ap.io.plaintext.read(folder / "text", mode=mode, name="lines")
        both = objects.concat(records)
        counts = both.groupby(ap.this.word).reduce(
            ap.this.word,
            count=ap.reducers.count(),
            sum=ap.reducers.sum(ap.this.n),
            max=ap.reducers.max(ap.this.n),
        )
        ap.io.csv.write(counts, outputs / "counts.csv")
        ap.io.csv.write(both.select(ap.this.word, double=ap.this.n * 2), outputs / "doubled.csv")
        ap.io.csv.write(
            lines.groupby(ap.this.data).reduce(ap.this.data, count=ap.reducers.count()), outputs / "lines.csv"
        )
    for table in (objects, records, lines):
        assert isinstance(table.node, SourceNode)
        assert isinstance(table.node.source, FileSource)
        table.node.source._chunk_bytes = chunk
    return graph


async def follow(order: dict[str, Any]) -> None:
    """Runs the job to its end, or until SIGTERM."""
    graph = define(Path(order["folder"]), Path(order["outputs"]), order["mode"], chunk=order.get("chunk", 300))
    config = ap.persistence.Config(
        backend_of(order["state"]),
        snapshot_interval_ms=order.get("interval", 50),
        persistence_mode=ap.PersistenceMode[order["persistence"]],
        retain_snapshots=3,
    )
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    ticker = asyncio.create_task(_tick(Path(order["lags"]))) if "lags" in order else None
    async with ap.Runtime(graph, persistence_config=config) as runtime:
        ends = [asyncio.create_task(runtime.wait()), asyncio.create_task(asked.wait())]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    for end in (*ends, *([ticker] if ticker else [])):
        end.cancel()


async def _tick(path: Path) -> None:
    """Notes every quarter of a second how late a ticker in this loop was: milliseconds, as a JSON list a line."""
    lags: list[float] = []
    noted = time.monotonic()
    with path.open("a") as file:
        while True:
            due = time.monotonic() + _TICK
            await asyncio.sleep(_TICK)
            now = time.monotonic()
            lags.append(round((now - due) * 1e3, 3))
            if now - noted > 0.25:
                file.write(json.dumps(lags) + "\n")
                file.flush()
                lags, noted = [], now
