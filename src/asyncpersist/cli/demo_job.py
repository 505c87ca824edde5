"""The job that the demo starts, kills and starts again: `python -m asyncpersist.cli.demo_job DIRECTORY INTERVAL_MS`.

It counts the words of DIRECTORY/input into DIRECTORY/counts.csv, keeps its state in DIRECTORY/state and reports to
whoever reads its standard output: one JSON object per line, the fields of `Report`.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec

import asyncpersist as ap
from asyncpersist.errors import AsyncPersistError

__all__ = ["Line", "Report", "run"]

POLL_SECONDS = 0.02


class Report(msgspec.Struct, frozen=True):
    """What the job has done so far in this process."""

    rows_read: int
    epochs: int
    epoch: int
    snapshots: int
    started_in: float
    state_bytes_written: int
    log_bytes_written: int
    recovered_epoch: int | None


class Line(ap.Schema):
    """One line of input."""

    word: str


def _report(runtime: ap.Runtime) -> None:
    statistics = runtime.statistics()
    fields = {name: getattr(statistics, name) for name in Report.__struct_fields__}
    sys.stdout.buffer.write(msgspec.json.encode(Report(**fields)) + b"\n")
    sys.stdout.buffer.flush()


async def run(directory: Path, interval_ms: int) -> None:
    """Runs the job to its end, reporting at its start, while it runs and at its end."""
    with ap.Graph() as graph:
        lines = ap.io.jsonlines.read(directory / "input", schema=Line, mode="static", name="lines")
        counts = lines.groupby(ap.this.word).reduce(ap.this.word, count=ap.reducers.count())
        ap.io.csv.write(counts, directory / "counts.csv")
    config = ap.persistence.Config(
        ap.persistence.Backend.filesystem(directory / "state"), snapshot_interval_ms=interval_ms
    )
    async with ap.Runtime(graph, persistence_config=config) as runtime:
        _report(runtime)
        end = asyncio.create_task(runtime.wait())
        while not end.done():
            await asyncio.wait([end], timeout=POLL_SECONDS)
            _report(runtime)
        await end
    _report(runtime)


if __name__ == "__main__":
    try:
        asyncio.run(run(Path(sys.argv[1]), int(sys.argv[2])))
    except AsyncPersistError as exc:
        print(f"{type(exc).__name__}: {exc}", file=sys.stderr)
        raise SystemExit(1) from None
