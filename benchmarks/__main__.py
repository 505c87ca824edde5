"""scripts/bench: takes measures, prints tables and writes samples to benchmarks/results/."""

from __future__ import annotations

import datetime
import json
import statistics
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from benchmarks.contestants import ProgramFailed
from benchmarks.figures import Line, Samples
from benchmarks.machine import describe
from benchmarks.measures import MEASURES, Plan
from benchmarks.workloads import WrongResult
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
QUICK_SCALE = 0.05
WIDTH = 130
"""Columns of the tables where there is no terminal to ask."""

FIGURES = {
    "rows_per_second": ("rows/s", ",.0f"),
    "latency_p50_ms": ("p50 ms", ".1f"),
    "latency_p99_ms": ("p99 ms", ".1f"),
    "mebibytes_per_second": ("MiB/s", ",.1f"),
    "cpu_seconds": ("CPU s", ".1f"),
    "started_in_ms": ("started ms", ".1f"),
    "epochs": ("epochs", ",.0f"),
}
"""What only some measures have, how it is headed, and its form."""

What = StrEnum("What", list(MEASURES))


def samples_table(what: str, samples: Samples) -> Table:
    table = Table(title=f"{what}: medians of {max(taken['round'] for taken in samples) + 1}", title_justify="left")
    more = {figure: FIGURES[figure] for figure in FIGURES if any(figure in taken for taken in samples)}
    headings = [heading for heading, _ in more.values()]
    for heading in ("workload", "", "seconds", "(least to most)", "restart s", "state MB", "peak MB", *headings):
        table.add_column(heading, justify="left" if heading in ("", "workload") else "right")
    for workload, contestant in dict.fromkeys((taken["workload"], taken["contestant"]) for taken in samples):
        mine = [one for one in samples if (one["workload"], one["contestant"]) == (workload, contestant)]

        def middle(figure: str, unit: float = 1.0, form: str = ".2f", mine: Samples = mine) -> str:
            values = [one[figure] for one in mine if figure in one]
            return f"{statistics.median(values) / unit:{form}}" if values else ""

        seconds = [one.get("extrapolated_seconds", one["seconds"]) for one in mine if "seconds" in one]
        part = "" if mine[0].get("extrapolated_seconds", mine[0]["seconds"]) == mine[0]["seconds"] else "*"
        table.add_row(
            workload,
            contestant + part,
            f"{statistics.median(seconds):.2f}",
            f"{min(seconds):.2f} - {max(seconds):.2f}",
            middle("restart_seconds"),
            middle("state_bytes", 1e6, ".1f"),
            middle("peak_resident_bytes", 1e6, ".0f"),
            *(middle(figure, 1, form) for figure, (_, form) in more.items()),
        )
        if part:
            table.caption = f"* extrapolated from {mine[0]['rows']:,} rows; its other figures are of those rows"
    return table


def lines_table(lines: list[Line]) -> Table:
    table = Table(title="against what is to be reached", title_justify="left")
    table.add_column("")
    table.add_column("measured", justify="right")
    table.add_column("to reach", justify="right")
    table.add_column("")
    for line in lines:
        verdict = bound = ""
        if line.target is not None:
            verdict = "[green]yes[/]" if line.reached else "[red]no[/]"
            bound = f"{'at least' if line.at_least else 'at most'} {line.target:g} {line.unit}"
        table.add_row(line.what, f"{line.value:.2f} {line.unit}", bound, verdict)
    return table


def main(
    what: Annotated[list[What] | None, typer.Argument(help="What to measure; everything by default.")] = None,
    pairs: Annotated[int, typer.Option(min=1, help="Rounds: every program runs once in each, alternating.")] = 5,
    quick: Annotated[bool, typer.Option(help="A twentieth of the rows, one round; the figures mean nothing.")] = False,
    cache: Annotated[Path, typer.Option(help="Where inputs are kept between runs.")] = HERE / ".cache",
) -> None:
    """Measure asyncpersist against its peers, one program at a time."""
    console, progress = Console(), Console(stderr=True, highlight=False)
    if not console.is_terminal:
        console = Console(width=WIDTH)
    cache.mkdir(parents=True, exist_ok=True)
    results = cache / "quick" if quick else HERE / "results"
    results.mkdir(exist_ok=True)
    plan = Plan(cache.resolve(), 1 if quick else pairs, QUICK_SCALE if quick else 1.0, progress.print)
    missed = 0
    for name in dict.fromkeys(what or list(What)):
        try:
            samples, lines = MEASURES[name](plan)
        except (ProgramFailed, WrongResult) as exc:
            print(f"scripts/bench: {name}: {exc}", file=sys.stderr)
            raise typer.Exit(1) from None
        console.print(samples_table(name, samples))
        console.print(lines_table(lines))
        missed += sum(line.reached is False for line in lines)
        record = {
            "what": name,
            "command": f"scripts/bench {name}" + (" --quick" if quick else f" --pairs {plan.pairs}"),
            "machine": describe(),
            "lines": [
                {
                    "what": one.what,
                    "measured": one.value,
                    "target": one.target,
                    "unit": one.unit,
                    "reached": one.reached,
                }
                for one in lines
            ],
            "samples": samples,
        }
        target = results / f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}-{name}.json"
        target.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        progress.print(f"samples written to {target.name}")
    if missed and not quick:
        print(f"scripts/bench: {missed} of what is to be reached is not", file=sys.stderr)


typer.run(main)
