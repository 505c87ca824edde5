"""What makes a scenario of a few runs short: a place with input, output and state, and sources to turn by hand."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpersist as ap
from asyncpersist.checkpoint.manifest import Manifest
from asyncpersist.checkpoint.reading import survey
from asyncpersist.disk import Disk
from asyncpersist.io.python import ConnectorSubject
from asyncpersist.objectstore.contract import ObjectStore
from asyncpersist.persistence import Backend, Config, PersistenceMode, SnapshotAccess
from asyncpersist.runtime.statistics import Statistics
from tests.amounts import PATIENCE

M, A = PersistenceMode, SnapshotAccess

REPLAYING = (M.BATCH, M.SPEEDRUN_REPLAY, M.REALTIME_REPLAY)

Change = tuple[tuple[str, ...], int, int]
"""(row, epoch, diff)"""


class Word(ap.Schema):
    word: str


class Price(ap.Schema):
    item: str = ap.column_definition(primary_key=True)
    amount: int


class Feed(ConnectorSubject):
    """Gives rows, words as such; its offset is how many it gave. `held`: goes on until it is closed."""

    def __init__(self, *rows: str | dict[str, Any], held: bool = False) -> None:
        self.rows = list(rows)
        self.held = held
        self.given = self.runs = 0
        self.sought: list[Any] = []
        self.more = asyncio.Event()

    async def run(self) -> None:
        self.runs += 1
        while True:
            while self.given < len(self.rows):
                row = self.rows[self.given]
                self.given += 1
                await self.next(**({"word": row} if isinstance(row, str) else row))
            if not self.held:
                return
            self.more.clear()
            await self.more.wait()

    def offset(self) -> Any:
        return self.given

    def seek(self, offset: Any) -> None:
        self.sought.append(offset)
        self.given = offset

    def push(self, *rows: str | dict[str, Any]) -> None:
        self.rows.extend(rows)
        self.more.set()

    def finish(self) -> None:
        self.held = False
        self.more.set()


class Lost(ConnectorSubject):
    """Gives words, and cannot say where it stands."""

    def __init__(self, *words: str) -> None:
        self.words = words
        self.runs = 0

    async def run(self) -> None:
        self.runs += 1
        for word in self.words:
            await self.next(word=word)


class Place:
    """A directory for input and output, and a backend for the state."""

    def __init__(self, folder: Path, backend: Backend) -> None:
        self.folder = folder
        self.backend = backend

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def config(self, mode: M = M.PERSISTING, access: A = A.FULL, **settings: Any) -> Config:
        settings.setdefault("snapshot_interval_ms", 3_600_000)
        return Config(self.backend, persistence_mode=mode, snapshot_access=access, **settings)

    def write(self, name: str, *words: str) -> Path:
        """A file of words, or more of them at its end."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps({"word": word}) + "\n" for word in words)
        return path

    @property
    def store(self) -> ObjectStore:
        """The store of the state; of a backend that owns none, so that nobody has to close it."""
        return self.backend.open_store(Disk())

    async def chain(self) -> tuple[Manifest, ...]:
        store = self.store
        try:
            return (await survey(store)).chain
        finally:
            if self.backend.owns_store:
                await store.aclose()

    async def head(self) -> Manifest:
        return (await self.chain())[0]

    async def contents(self) -> dict[str, str]:
        """A digest of every object of the state."""
        store = self.store
        try:
            keys = [entry.key for entry in await store.list()]
            return {key: hashlib.sha256(await store.get(key)).hexdigest() for key in keys}
        finally:
            if self.backend.owns_store:
                await store.aclose()


def file_words(path: Path, *, name: str | None = None, mode: str = "static") -> ap.Table:
    return ap.io.jsonlines.read(path, schema=Word, mode=mode, name=name)  # type: ignore[arg-type]


def counted(words: ap.Table, name: str | None = None) -> ap.Table:
    return words.groupby(ap.this.word, name=name).reduce(ap.this.word, count=ap.reducers.count())


async def run(graph: ap.Graph, config: Config | None = None, **settings: Any) -> Statistics:
    """Runs a graph until its sources end."""
    async with ap.Runtime(graph, persistence_config=config, **settings) as runtime:
        await runtime.wait()
    return runtime.statistics()


@asynccontextmanager
async def running(graph: ap.Graph, config: Config, **settings: Any) -> AsyncIterator[ap.Runtime]:
    async with ap.Runtime(graph, persistence_config=config, **settings) as runtime:
        yield runtime


async def until(condition: Callable[[], object]) -> None:
    """Lets the loop turn until something is so."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


async def read(runtime: ap.Runtime, rows: int) -> None:
    """Waits until a run has stepped so many rows."""
    await until(lambda: not runtime.ready or runtime.statistics().rows_read >= rows)
    assert runtime.statistics().rows_read == rows


class Crash(Exception):
    """What a test lets a run die of."""


async def crashed(graph: ap.Graph, config: Config, when: Callable[[ap.Runtime], bool] = lambda _: True) -> None:
    """Lets a run die, with no last snapshot, as soon as something is so. As far as it came, everything is written."""
    runtime = ap.Runtime(graph, persistence_config=config)
    await runtime.__aenter__()
    await until(lambda: when(runtime))
    stopping = asyncio.create_task(runtime.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    await asyncio.gather(stopping, return_exceptions=True)


def changes(path: Path) -> list[Change]:
    """What a CSV or JSON lines output holds, in its order."""
    text = path.read_text(encoding="utf-8")
    assert text == "" or text.endswith("\n"), f"{path} ends in a torn line"
    if path.suffix == ".csv":
        rows = list(csv.reader(text.splitlines()))[1:]
        return [(tuple(row[:-2]), int(row[-2]), int(row[-1])) for row in rows]
    found = [json.loads(line) for line in text.splitlines()]
    return [(tuple(str(v) for k, v in r.items() if k not in ("time", "diff")), r["time"], r["diff"]) for r in found]


def summed(found: Iterable[Change]) -> Counter[tuple[str, ...]]:
    """The rows that are there after some changes: at no point fewer than none, in epochs that only grow."""
    live: Counter[tuple[str, ...]] = Counter()
    last = (0, -1)
    for row, time, diff in found:
        assert (time, diff) >= last, f"{row} of epoch {time} with {diff} after {last}"
        last = (time, diff)
        live[row] += diff
        assert live[row] >= 0, f"{row} was retracted, but it was not there"
    return +live


def rows_in(path: Path) -> Counter[tuple[str, ...]]:
    return summed(changes(path))


def shows(path: Path, rows: Counter[tuple[str, ...]]) -> bool:
    """Whether an output that is being written holds just these rows."""
    try:
        return path.exists() and rows_in(path) == rows
    except AssertionError:
        return False


def by_epoch(found: Iterable[Change]) -> list[Counter[tuple[tuple[str, ...], int]]]:
    """What changed in each epoch, in order."""
    epochs: dict[int, Counter[tuple[tuple[str, ...], int]]] = {}
    for row, time, diff in found:
        epochs.setdefault(time, Counter())[row, diff] += 1
    return list(epochs.values())


def counts(*words: str) -> Counter[tuple[str, ...]]:
    """The rows of a table that counts these words."""
    return Counter({(word, str(count)): 1 for word, count in Counter(words).items()})


def each(*words: str) -> Counter[tuple[str, ...]]:
    """The rows of a table of these words."""
    return Counter((word,) for word in words)


class Told:
    """A subscription: what it was told, as changes."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.recovered: list[int] = []

    def __call__(self, *, key: Any, row: dict[str, Any], time: int, is_addition: bool) -> None:
        self.changes.append((tuple(str(value) for value in row.values()), time, 1 if is_addition else -1))

    def on_recovery(self, time: int) -> None:
        self.recovered.append(time)

    @property
    def rows(self) -> Counter[tuple[str, ...]]:
        return summed(self.changes)
