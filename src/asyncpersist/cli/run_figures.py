"""What `asyncpersist run` shows of a run: a live table on a terminal, lines elsewhere, JSON lines for programs."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from asyncpersist.cli.printing import epoch_utc, say_json
from asyncpersist.runtime.statistics import Statistics

__all__ = ["Figures", "JsonFigures", "LineFigures", "LiveFigures", "Subject", "figures"]

_LIVE_SECONDS = 0.25
_WINDOW_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Subject:
    """What is run: the graph as the user named it, where its state is kept, what goes in and what comes out."""

    target: str
    state: str | None
    mode: str | None
    access: str | None
    sources: tuple[str, ...]
    sinks: tuple[str, ...]


class Figures(ABC):
    """Shows one run. `figures` is called every `period` seconds; calls never overlap."""

    def __init__(self, period: float) -> None:
        self.period = period
        self._rows: deque[tuple[float, int]] = deque()

    @abstractmethod
    def start(self, subject: Subject, statistics: Statistics) -> None:
        """The state is loaded, rows begin to flow."""

    @abstractmethod
    def figures(self, statistics: Statistics) -> None:
        """How it goes."""

    @abstractmethod
    def say(self, event: str, text: str, **facts: Any) -> None:
        """Something that happens once: `text` for people, `event` and `facts` for programs."""

    def close(self) -> None:  # noqa: B027
        """Leaves the terminal as it was; the others may still be called. Idempotent."""

    def _rate(self, statistics: Statistics) -> float:
        """Rows a second over the last samples that fill the window."""
        now = time.monotonic()
        self._rows.append((now, statistics.rows_read))
        while len(self._rows) > 2 and now - self._rows[1][0] >= _WINDOW_SECONDS:
            self._rows.popleft()
        since, rows = self._rows[0]
        return (statistics.rows_read - rows) / (now - since) if now > since else 0.0


def figures(*, as_json: bool, every: float) -> Figures:
    """The right ones for where standard error goes; JSON goes to standard output."""
    if as_json:
        return JsonFigures(every)
    console = Console(stderr=True, markup=False, highlight=False, emoji=False)
    return LiveFigures(console) if console.is_terminal else LineFigures(every)


class JsonFigures(Figures):
    """A JSON object a line on standard output; each has `event`."""

    def start(self, subject: Subject, statistics: Statistics) -> None:
        self._rate(statistics)
        say_json(
            {
                "event": "started",
                "target": subject.target,
                "state": subject.state,
                "mode": subject.mode,
                "access": subject.access,
                "sources": subject.sources,
                "sinks": subject.sinks,
                "recovered_epoch": statistics.recovered_epoch,
                "started_in": statistics.started_in,
            }
        )

    def figures(self, statistics: Statistics) -> None:
        rate = round(self._rate(statistics), 1)
        say_json({"event": "figures", **statistics._asdict(), "rows_per_second": rate})

    def say(self, event: str, text: str, **facts: Any) -> None:
        say_json({"event": event, **facts})


class LineFigures(Figures):
    """A line on standard error whenever something has changed since the last one."""

    def __init__(self, period: float) -> None:
        super().__init__(period)
        self._told: Statistics | None = None

    def start(self, subject: Subject, statistics: Statistics) -> None:
        self._rate(statistics)
        self._told = statistics
        _line(f"{subject.target}: {', '.join(subject.sources)} -> {', '.join(subject.sinks)}")
        _line(_begun(subject, statistics))

    def figures(self, statistics: Statistics) -> None:
        rate = self._rate(statistics)
        if statistics == self._told:
            return
        self._told = statistics
        parts = [f"{statistics.rows_read:,} rows", f"{rate:,.0f} rows/s", f"epoch {statistics.epoch}"]
        if statistics.rows_skipped:
            parts.append(f"{statistics.rows_skipped:,} rows skipped")
        if statistics.snapshots or statistics.uncommitted_bytes:
            parts.append(f"{statistics.snapshots:,} snapshots")
            parts.append(f"{_size(statistics.uncommitted_bytes)} not committed, {statistics.snapshot_age:.1f} s behind")
        _line(", ".join(parts))

    def say(self, event: str, text: str, **facts: Any) -> None:
        _line(text)


class LiveFigures(Figures):
    """A table that is drawn anew in its place, on a terminal; a line for what happens once."""

    def __init__(self, console: Console) -> None:
        super().__init__(_LIVE_SECONDS)
        self._console = console
        self._live: Live | None = None
        self._subject: Subject | None = None
        self._began = 0.0

    def start(self, subject: Subject, statistics: Statistics) -> None:
        self._subject, self._began = subject, time.monotonic()
        self._console.print(_begun(subject, statistics), soft_wrap=True)
        # What the program prints goes above the table where both go to the terminal, else where it was sent.
        self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=sys.stdout.isatty())
        self._live.start()
        self.figures(statistics)

    def figures(self, statistics: Statistics) -> None:
        rate = self._rate(statistics)
        if self._live is not None:
            self._live.update(self._draw(statistics, rate), refresh=True)

    def say(self, event: str, text: str, **facts: Any) -> None:
        self._console.print(text, soft_wrap=True)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _draw(self, statistics: Statistics, rate: float) -> Table:
        assert self._subject is not None
        seconds = int(time.monotonic() - self._began)
        drawn = Table(show_header=False, title_justify="left", title=f"{self._subject.target}, {_span(seconds)}")
        drawn.add_column(style="dim", no_wrap=True)
        drawn.add_column()
        for label, names in (("from", self._subject.sources), ("to", self._subject.sinks)):
            drawn.add_row(label, Text("\n".join(names)))
        drawn.add_row("rows", f"{statistics.rows_read:,}")
        drawn.add_row("rows/s", f"{rate:,.0f}")
        if statistics.rows_skipped:
            drawn.add_row("rows skipped", f"{statistics.rows_skipped:,}")
        drawn.add_row("epoch", f"{statistics.epoch} ({epoch_utc(statistics.epoch) or 'none yet'})")
        drawn.add_row("epochs", f"{statistics.epochs:,}")
        if self._subject.state is not None and self._subject.access != "replay":
            drawn.add_row("snapshots", f"{statistics.snapshots:,}")
            behind = f"{_size(statistics.uncommitted_bytes)}, {statistics.snapshot_age:.1f} s behind"
            drawn.add_row("not committed", behind)
        return drawn


def _begun(subject: Subject, statistics: Statistics) -> str:
    if subject.state is None:
        return "no --state: nothing is kept; a restart starts from the beginning"
    if subject.access == "replay":
        return f"replays {subject.state}, which is only read"
    if subject.access == "record":
        return f"records into {subject.state}"
    if statistics.recovered_epoch is None:
        return f"begins with an empty state in {subject.state}"
    when = f"epoch {statistics.recovered_epoch} ({epoch_utc(statistics.recovered_epoch)})"
    return f"goes on after {when}; state loaded from {subject.state} in {statistics.started_in * 1e3:,.0f} ms"


def _line(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _size(size: int) -> str:
    return f"{size:,} bytes" if size < 10_000 else f"{size / 1e6:,.2f} MB"


def _span(seconds: int) -> str:
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
