"""Bytewax on a workload of words, one worker. Task: input, output, state or null, interval_ms.

It has no table and no retraction: the nearest thing is the running count of every line, keyed by its word.
"""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import bytewax.operators as op
from bytewax.connectors.files import DirSource, FileSink
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import run_main
from measured import report, task, timed


def words(lines: list[str]) -> list[tuple[str, None]]:
    return [(json.loads(line)["word"], None) for line in lines]


def count(state: int | None, _: None) -> tuple[int, int]:
    new = (state or 0) + 1
    return new, new


def line(pair: tuple[str, int]) -> tuple[str, str]:
    return pair[0], f"{pair[0]},{pair[1]}"


job, figures = task(), {}
with timed(figures):
    flow = Dataflow("words")
    lines = op.input("lines", flow, DirSource(Path(job["input"]), batch_size=10_000))
    counts = op.stateful_map("count", op.flat_map_batch("parse", lines, words), count)
    op.output("out", op.map("line", counts, line), FileSink(Path(job["output"])))
    if job["state"]:
        state = Path(job["state"])
        if not state.exists():
            state.mkdir()
            init_db_dir(state, 1)
        run_main(
            flow,
            epoch_interval=datetime.timedelta(milliseconds=job["interval_ms"]),
            recovery_config=RecoveryConfig(str(state)),
        )
    else:
        run_main(flow)
report(figures)
