"""Polars over whole files at once, without a stream and without state: the limit. Task: kind, input, output."""

from __future__ import annotations

from pathlib import Path

from benchmarks.workloads import tally
from measured import report, task, timed

job, figures = task(), {}
with timed(figures):
    tally(job["kind"], Path(job["input"])).collect().write_csv(job["output"])
report(figures)
