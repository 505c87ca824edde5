"""`asyncpersist demo`: the main job on made-up data, with a kill and a restart in the middle."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table

from asyncpersist.cli.demo_data import WORDS, judge, make_lines
from asyncpersist.cli.demo_job import Report
from asyncpersist.cli.demo_process import JobFailed, run_job

__all__ = ["Summary", "as_table", "demo", "perform"]

KILL_AT = 0.4
INTERVAL_MS = 100
ATTEMPTS = 4


@dataclass(frozen=True, slots=True)
class Summary:
    """What happened. Rows are input lines; `rows_kept` had been counted by the snapshot that the restart found."""

    rows: int
    killed_at_row: int
    rows_kept: int
    rows_read_after_restart: int
    epochs: int
    snapshots: int
    restart_seconds: float
    changes: int
    state_bytes: int
    faults: tuple[str, ...]

    @property
    def exact(self) -> bool:
        return not self.faults


@contextmanager
def _bar(console: Console, title: str, rows: int, offset: int = 0) -> Iterator[Callable[[Report], None]]:
    """Gives a function that shows how far the job is: a moving bar on a terminal, elsewhere how it stood at the end."""
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[state]}"),
    )
    progress = Progress(*columns, console=console)
    task = progress.add_task(title, total=rows, completed=offset, state="")

    def watch(report: Report) -> None:
        state = f"{report.epochs} epochs, {report.snapshots} snapshots"
        progress.update(task, completed=min(rows, offset + report.rows_read), state=state)

    with progress if console.is_terminal else nullcontext():
        yield watch
    if not console.is_terminal:
        console.print(progress.get_renderable())


def _killed(console: Console, directory: Path, rows: int, seed: int) -> tuple[int, Report]:
    """Makes data, starts the job and kills it in the middle; returns how many rows there are and the last report.

    A machine that is done before the kill gets twice the rows. Raises `JobFailed`.
    """
    for _ in range(ATTEMPTS):
        (directory / "input").mkdir()
        make_lines(directory / "input", rows, seed)
        console.print(f"[bold]1[/] made {rows:,} JSON lines of {WORDS:,} words")
        console.print(f"[bold]2[/] counting them in a process of its own, a snapshot every {INTERVAL_MS} ms")
        enough = rows * KILL_AT

        def in_the_middle(report: Report, enough: float = enough, rows: int = rows) -> bool:
            # The first snapshot may hold no more than the header of the output.
            return report.snapshots > 1 and enough <= report.rows_read < rows

        with _bar(console, "first process ", rows) as watch:
            first = run_job(directory, INTERVAL_MS, watch=watch, kill_when=in_the_middle)
        if first.killed:
            return rows, first.last
        console.print("  it was done before it could be killed; once more with twice the lines")
        rows *= 2
        for path in sorted(directory.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    raise JobFailed(f"the job ended before it could be killed; try --rows {rows}")


def perform(console: Console, directory: Path, rows: int, seed: int) -> Summary:
    """Runs the whole demo in an empty directory, telling the console. Raises `JobFailed`."""
    rows, first = _killed(console, directory, rows, seed)
    console.print(
        f"  [red]SIGKILL[/] after {first.rows_read:,} lines ({first.rows_read / rows:.0%}), "
        f"{first.epochs} epochs, {first.snapshots} snapshots"
    )
    console.print("[bold]3[/] starting it again on the same directory")
    with _bar(console, "second process", rows, first.rows_read) as watch:
        second = run_job(directory, INTERVAL_MS, watch=watch).last
    kept = rows - second.rows_read
    console.print(f"  state loaded in {second.started_in * 1e3:.0f} ms; went on after line {kept:,}, replayed nothing")
    console.print("[bold]4[/] comparing counts.csv, change by change, with a count in one go")
    verdict = judge(directory / "input", directory / "counts.csv")
    faults = list(verdict.faults)
    if not 0 < kept <= rows:
        faults.append("the restart began anew")
    return Summary(
        rows=rows,
        killed_at_row=first.rows_read,
        rows_kept=kept,
        rows_read_after_restart=second.rows_read,
        epochs=first.epochs + second.epochs,
        snapshots=first.snapshots + second.snapshots,
        restart_seconds=second.started_in,
        changes=verdict.changes,
        state_bytes=sum(path.stat().st_size for path in (directory / "state").rglob("*") if path.is_file()),
        faults=tuple(faults),
    )


def as_table(summary: Summary) -> Table:
    """What happened, to be looked at."""
    table = Table(show_header=False, title="What happened", title_justify="left")
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_row("lines counted", f"{summary.rows:,}")
    table.add_row("killed at line", f"{summary.killed_at_row:,}")
    table.add_row("went on after line", f"{summary.rows_kept:,}")
    table.add_row("epochs", f"{summary.epochs:,}")
    table.add_row("snapshots", f"{summary.snapshots:,}")
    table.add_row("restart until state was loaded", f"{summary.restart_seconds * 1e3:,.0f} ms")
    table.add_row("changes in counts.csv", f"{summary.changes:,}")
    table.add_row("state on disk", f"{summary.state_bytes / 1e6:,.1f} MB")
    result = "[bold green]exact[/]" if summary.exact else f"[bold red]wrong: {'; '.join(summary.faults)}[/]"
    table.add_row("result", result)
    return table


def _empty_directory(path: Path) -> Path:
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise typer.BadParameter(f"{path} exists and is no empty directory", param_hint="--keep")
    path.mkdir(parents=True, exist_ok=True)
    return path


def demo(
    rows: Annotated[int, typer.Option(min=10_000, help="How many lines to make and count.")] = 10_000_000,
    keep: Annotated[Path | None, typer.Option(help="Work in this empty directory and leave everything there.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON and nothing else.")] = False,
    seed: Annotated[int, typer.Option(help="Equal seeds make equal lines.")] = 7,
) -> None:
    """Count made-up lines, be killed in the middle, go on, and compare with the right answer."""
    console = Console(quiet=as_json)
    with ExitStack() as stack:
        if keep is not None:
            directory = _empty_directory(keep)
        else:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="asyncpersist-demo-")))
        try:
            summary = perform(console, directory, rows, seed)
        except JobFailed as exc:
            print(f"asyncpersist: the demo's job failed: {exc}", file=sys.stderr)
            raise typer.Exit(1) from None
    console.print(as_table(summary))
    if keep is not None:
        console.print(f"Kept in {keep}: input/, counts.csv, state/")
    if as_json:
        typer.echo(json.dumps({**asdict(summary), "exact": summary.exact}))
    if not summary.exact:
        raise typer.Exit(1)
