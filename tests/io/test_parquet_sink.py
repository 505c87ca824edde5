"""The directory of Parquet files: what a restart finds, what is refused, what zombies and full disks cannot do."""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import os
import shutil
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pytest

from asyncpersist.clock import Clock, SystemClock
from asyncpersist.columnar.delta import Delta
from asyncpersist.disk import Disk
from asyncpersist.dtypes import DType
from asyncpersist.errors import Fenced, OutputChanged, OutputError, OutputNotEmpty, SchemaError
from asyncpersist.io.parquet_sink import ParquetSink, ParquetWriter
from asyncpersist.io.sink import Position
from asyncpersist.testing.disks import CountingDisk, FailingDisk, FullDisk
from tests.amounts import PATIENCE, PLACES
from tests.killed import kill, kills

COLUMNS = {"word": DType("str"), "count": DType("int")}


def change(*rows: tuple[str, int, int]) -> Delta:
    frame = pl.DataFrame([row[:2] for row in rows], schema=["word", "count"], orient="row")
    return Delta(frame, np.array([row[2] for row in rows]), consolidated=True)


@asynccontextmanager
async def opened(
    path: Path,
    position: Position | None = None,
    *,
    persistent: bool = True,
    exclusive: bool = True,
    disk: Disk | None = None,
    on_restart: Literal["continue", "overwrite"] = "continue",
    file_rows: int = 1 << 20,
    clock: Clock | None = None,
    begins: bool = True,
) -> AsyncIterator[ParquetWriter]:
    sink = ParquetSink(path, COLUMNS, on_restart=on_restart, file_rows=file_rows)
    writer = await sink.open(
        position, persistent=persistent, exclusive=exclusive, disk=disk or Disk(), clock=clock or SystemClock()
    )
    try:
        if begins:
            await writer.begin(None)
        yield writer
    finally:
        await writer.aclose()


async def written(path: Path, *epochs: int) -> Position:
    """A file for each epoch, with one insertion of `w<epoch>`."""
    async with opened(path) as writer:
        position: Position = {}
        for epoch in epochs:
            await writer.write(epoch, change((f"w{epoch}", 1, 1)))
            position = await writer.flush()
        return position


async def check(path: Path, position: Position | None, *, persistent: bool = True, **options: Any) -> None:
    await ParquetSink(path, COLUMNS, **options).check(position, persistent=persistent)


def names(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.iterdir())


def words(path: Path) -> list[str]:
    """The words of all files, in order."""
    return pl.read_parquet(path)["word"].to_list() if names(path) else []


def snapshot(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


# --- what is written


async def test_retractions_come_first_and_a_weight_of_n_is_n_rows(tmp_path: Path) -> None:
    path = tmp_path / "out"
    async with opened(path) as writer:
        await writer.write(10, change(("a", 2, 1), ("a", 1, -1), ("b", 1, 2)))
        await writer.write(12, change(("c", 5, 1)))
        await writer.flush()
    assert names(path) == ["part-000000001.parquet"]
    found = pl.read_parquet(path)
    assert found.schema == {"word": pl.String, "count": pl.Int64, "time": pl.Int64, "diff": pl.Int64}
    assert found.rows() == [("a", 1, 10, -1), ("a", 2, 10, 1), ("b", 1, 10, 1), ("b", 1, 10, 1), ("c", 5, 12, 1)]
    assert names(tmp_path) == ["out"]


async def test_a_barrier_ends_a_file_and_so_do_many_rows(tmp_path: Path) -> None:
    path = tmp_path / "out"
    async with opened(path, file_rows=10) as writer:
        empty = await writer.flush()
        assert await writer.flush() == empty == ParquetSink(path, COLUMNS).initial()
        await writer.write(2, change(*((f"w{i:02}", i, 1) for i in range(25))))
        assert len(names(path)) == 2
        await writer.flush()
        assert await writer.flush() == await writer.flush()
    assert [pl.read_parquet(path / name).height for name in names(path)] == [10, 10, 5]
    assert words(path) == [f"w{i:02}" for i in range(25)]


class TellingDisk(Disk):
    """Tells when a file was to get its name; refuses to give one while it is `full`."""

    def __init__(self) -> None:
        self.linked = threading.Semaphore(0)
        self.full = False

    def link(self, source: Path, target: Path) -> None:
        try:
            if self.full:
                raise OSError(errno.ENOSPC, "no space left")
            super().link(source, target)
        finally:
            self.linked.release()

    async def link_tried(self) -> bool:
        return await asyncio.to_thread(self.linked.acquire, timeout=PATIENCE)


class StoppedClock(SystemClock):
    """Who sleeps on it does so until it is told to `go` on."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.go = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await self.go.wait()
        self.go.clear()


async def test_without_a_state_root_rows_are_shown_while_the_run_goes_on(tmp_path: Path) -> None:
    path, disk, clock = tmp_path / "out", TellingDisk(), StoppedClock()
    async with opened(path, persistent=False, disk=disk, clock=clock) as writer:
        for epoch in (2, 4, 6):
            await writer.write(epoch, change((f"w{epoch}", 1, 1)))
        assert words(path) == []
        clock.go.set()
        assert await disk.link_tried()
        assert words(path) == ["w2", "w4", "w6"]
        await writer.write(8, change(("w8", 1, 1)))
        clock.go.set()
        assert await disk.link_tried()
        assert words(path) == ["w2", "w4", "w6", "w8"]
        await writer.write(10, change(("w10", 1, 1)))
        await writer.flush()
    assert words(path) == ["w2", "w4", "w6", "w8", "w10"]
    assert names(path) == [f"part-{number:09}.parquet" for number in (1, 2, 3)]
    assert set(clock.slept) == {1.0}


async def test_with_a_state_root_only_barriers_make_files(tmp_path: Path) -> None:
    clock = StoppedClock()
    async with opened(tmp_path / "out", clock=clock) as writer:
        await writer.write(2, change(("a", 1, 1)))
        await writer.flush()
    assert clock.slept == []


async def test_what_could_not_be_shown_is_told_and_not_lost(tmp_path: Path) -> None:
    disk, clock = TellingDisk(), StoppedClock()
    async with opened(tmp_path / "out", persistent=False, disk=disk, clock=clock) as writer:
        disk.full = True
        await writer.write(2, change(("a", 1, 1)))
        clock.go.set()
        assert await disk.link_tried()
        with pytest.raises(OSError, match="no space"):
            for epoch in range(4, 1000, 2):
                await writer.write(epoch, change(("b", 1, 1)))
        disk.full = False
        await writer.flush()
    found = words(tmp_path / "out")
    assert found == ["a", *["b"] * (len(found) - 1)]
    assert len(found) > 1


async def test_many_small_epochs_are_kept_as_few_frames(tmp_path: Path) -> None:
    async with opened(tmp_path / "out") as writer:
        before = frames()
        for epoch in range(2, 1402, 2):
            await writer.write(epoch, change((f"w{epoch}", 1, 1)))
        assert frames() - before < 300
        await writer.flush()
    assert words(tmp_path / "out") == [f"w{epoch}" for epoch in range(2, 1402, 2)]


def frames() -> int:
    gc.collect()
    return sum(isinstance(found, pl.DataFrame) for found in gc.get_objects())


async def test_all_types_are_written(tmp_path: Path) -> None:
    columns = {
        "p": DType("pointer", True),
        "t": DType("tuple", args=(DType("int"), DType("str"))),
        "l": DType("list", args=(DType("float"),)),
        "a": DType("array"),
        "d": DType("duration"),
        "u": DType("utc_datetime"),
        "b": DType("bytes"),
        "j": DType("json"),
    }
    row = [{"p": 5, "t": {"f0": 1, "f1": "x"}, "l": [1.5], "a": {"data": [1.0], "shape": [1]}, "b": b"\0", "j": "{}"}]
    rows = pl.DataFrame(row, schema={name: dtype.polars for name, dtype in columns.items()})
    sink = ParquetSink(tmp_path / "out", columns)
    writer = await sink.open(None, persistent=False, exclusive=True, disk=Disk(), clock=SystemClock())
    await writer.write(2, Delta(rows))
    await writer.flush()
    await writer.aclose()
    found = pl.read_parquet(tmp_path / "out")
    assert found["p"].to_list() == [f"^{5:032X}"]
    assert found.drop("p", "time", "diff").equals(rows.drop("p"))


# --- what a restart finds


async def test_it_goes_on_after_the_committed_files(tmp_path: Path) -> None:
    path = tmp_path / "out"
    position = await written(path, 2, 4)
    await check(path, position)
    async with opened(path, position) as writer:
        assert not writer.moved
        await writer.write(6, change(("w6", 1, 1)))
        position = await writer.flush()
    assert words(path) == ["w2", "w4", "w6"]
    await check(path, position)


async def test_what_was_not_committed_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "out"
    position = await written(path, 2)
    async with opened(path, position) as writer:
        for epoch in (4, 6):
            await writer.write(epoch, change((f"w{epoch}", 1, 1)))
            await writer.flush()
    (path / "notes.txt").write_text("kept")
    async with opened(path, position):
        assert names(path) == ["notes.txt", "part-000000001.parquet"]
    async with opened(path, ParquetSink(path, COLUMNS).initial()):
        assert names(path) == ["notes.txt"]


async def go_on_writing(place: Path, disk: Disk, position: str) -> None:
    async with opened(place / "out", json.loads(position), disk=disk, file_rows=1) as writer:
        await writer.write(4, change(("w4", 1, 1), ("w5", 1, 1)))
        await writer.flush()


async def test_a_killed_writer_leaves_nothing_that_counts(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    ready.mkdir()
    position = await written(ready / "out", 2)
    shutil.copytree(ready, tmp_path / "count")
    disk = CountingDisk()
    await go_on_writing(tmp_path / "count", disk, json.dumps(position))
    assert words(tmp_path / "count" / "out") == ["w2", "w4", "w5"]
    deaths = kills(tmp_path, disk.log, PLACES, json.dumps(position))
    assert len(deaths) > 10
    for death in deaths:
        shutil.copytree(ready, death.path)
    await asyncio.to_thread(kill, f"{__name__}:{go_on_writing.__name__}", deaths)
    for death in deaths:
        path = Path(death.path) / "out"
        assert words(path)[:1] == ["w2"]
        await check(path, position)
        async with opened(path, position):
            assert words(path) == ["w2"]
        assert names(path.parent) == ["out"]


@pytest.mark.parametrize("persistent", [True, False])
async def test_starting_anew(tmp_path: Path, persistent: bool) -> None:
    path = tmp_path / "out"
    position = await written(path, 2, 4) if persistent else None
    if not persistent:
        await written(path, 2, 4)
    on_restart: Any = "overwrite" if persistent else "continue"
    await check(path, position, persistent=persistent, on_restart=on_restart)
    async with opened(path, position, persistent=persistent, on_restart=on_restart) as writer:
        assert writer.moved == persistent
        assert names(path) == []
        await writer.write(6, change(("w6", 1, 1)))
        assert (await writer.flush())["files"] == 1
    assert words(path) == ["w6"]
    (path / "notes.txt").write_text("mine")
    with pytest.raises(OutputNotEmpty, match=r"holds 'notes.txt'.* Move it away\.$"):
        await check(path, position, persistent=persistent, on_restart=on_restart)


# --- what is refused, and then nothing is changed


async def refused(path: Path, position: Position | None, error: type[Exception], why: str, **options: Any) -> None:
    before = snapshot(path.parent)
    with pytest.raises(error, match=why):
        await check(path, position, **options)
    with pytest.raises(error, match=why):
        async with opened(path, position, **options):
            pass
    assert snapshot(path.parent) == before


async def test_a_first_claim_needs_an_empty_directory(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.mkdir()
    (path / ".hidden").write_text("x")
    await check(path, None)
    await written(path, 2)
    await refused(path, None, OutputNotEmpty, 'holds .part-000000001.parquet.*on_restart="overwrite"')
    (path / "a.csv").write_text("x")
    await refused(path, None, OutputNotEmpty, "holds 'a.csv' and 1 more, which is not of this output")
    await refused(path, None, OutputNotEmpty, "holds 'a.csv', which", persistent=False)


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_committed_files_must_be_there(tmp_path: Path, number: int) -> None:
    path = tmp_path / "out"
    position = await written(path, 2, 4, 6)
    part = path / f"part-{number:09}.parquet"
    whole = part.read_bytes()
    part.write_bytes(whole + b"x")
    await refused(path, position, OutputChanged, "other sizes")
    part.unlink()
    await refused(path, position, OutputChanged, f"no part-{number:09}.parquet, but 3 files were committed")
    part.write_bytes(bytes([*whole[:-1], 0]))
    if number == 3:
        await refused(path, position, OutputChanged, "it was edited")
    part.write_bytes(whole)
    await check(path, position)


async def test_after_a_clean_end_nothing_may_have_been_added(tmp_path: Path) -> None:
    path = tmp_path / "out"
    position = await written(path, 2, 4)
    sink = ParquetSink(path, COLUMNS)
    await sink.check(position, persistent=True, clean=True)
    (path / "part-000000007.parquet").write_bytes(b"x")
    before = snapshot(tmp_path)
    with pytest.raises(OutputChanged, match=r"there is a part-000000007\.parquet, but 2 files were committed when"):
        await sink.check(position, persistent=True, clean=True)
    assert snapshot(tmp_path) == before
    await sink.check(position, persistent=True, clean=False)
    await ParquetSink(path, COLUMNS, on_restart="overwrite").check(position, persistent=True, clean=True)


async def test_places_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    await refused(tmp_path / "file", None, OutputError, "is no directory")
    await refused(tmp_path / "missing" / "out", None, OutputError, "there is no directory")
    position = await written(tmp_path / "out", 2)
    await refused(tmp_path / "gone", position, OutputChanged, "no such directory, but 1 files were committed")
    for columns in ({"time": DType("int")}, {"diff": DType("int")}):
        with pytest.raises(SchemaError, match="Rename"):
            ParquetSink(tmp_path, columns)
    with pytest.raises(ValueError, match="on_restart"):
        ParquetSink(tmp_path, COLUMNS, on_restart="append")  # type: ignore[arg-type]


@pytest.mark.parametrize("persistent", [True, False])
async def test_of_two_writers_the_second_is_refused(tmp_path: Path, persistent: bool) -> None:
    path = tmp_path / "out"
    async with opened(path, persistent=persistent) as writer:
        await refused(path, None, OutputError, "another run is writing there", persistent=persistent)
        with pytest.raises(OutputError, match="another run is writing there"):
            async with opened(path, ParquetSink(path, COLUMNS).initial()):
                pass
        await writer.write(2, change(("w2", 1, 1)))
        await writer.flush()
    assert words(path) == ["w2"]


# --- zombies


async def fenced() -> None:
    raise Fenced("another run has taken over")


async def test_a_deposed_writer_can_add_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out"
    position = await written(path, 2)
    async with opened(path, position) as zombie:
        await zombie.write(4, change(("zombie", 1, 1)))
        await zombie.flush()
        await zombie.write(6, change(("zombie", 2, 1)))
        async with opened(path, position, exclusive=False) as writer:
            assert words(path) == ["w2"]
            zombie.guard = fenced
            for _ in range(2):
                with pytest.raises(Fenced):
                    await zombie.flush()
            await writer.write(6, change(("w6", 1, 1)))
            with pytest.raises(Fenced):
                await zombie.flush()
            position = await writer.flush()
            await zombie.aclose()
            await writer.write(8, change(("w8", 1, 1)))
            position = await writer.flush()
    assert words(path) == ["w2", "w6", "w8"]
    await check(path, position)
    assert names(tmp_path) == ["out"]


class Pausing(Disk):
    """Does something once, right before the call `at`."""

    def __init__(self, at: str, act: Any) -> None:
        self.at = at
        self.act = act

    def _pause(self, name: str) -> None:
        if name == self.at:
            self.at = ""
            self.act()

    def create(self, path: Path) -> int:
        self._pause("create")
        return super().create(path)

    def fsync(self, fd: int) -> None:
        self._pause("fsync")
        super().fsync(fd)

    def link(self, source: Path, target: Path) -> None:
        self._pause("link")
        super().link(source, target)


@pytest.mark.parametrize("at", ["create", "fsync", "link"])
async def test_a_writer_deposed_in_the_middle_of_a_file_can_add_nothing(tmp_path: Path, at: str) -> None:
    path = tmp_path / "out"
    position = await written(path, 2)

    async def depose() -> None:
        async with opened(path, position, exclusive=False) as writer:
            await writer.write(4, change(("w4", 1, 1)))
            await writer.flush()

    async with opened(path, position, disk=Pausing(at, lambda: asyncio.run(depose()))) as zombie:
        await zombie.write(4, change(("zombie", 1, 1)))
        with pytest.raises(FileNotFoundError):
            await zombie.flush()
    assert words(path) == ["w2", "w4"]


async def test_a_deposed_writer_that_opens_late_destroys_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out"
    position = await written(path, 2)
    async with opened(path, position, begins=False) as zombie:
        zombie.guard = fenced
        async with opened(path, position, exclusive=False) as writer:
            await writer.write(4, change(("w4", 1, 1)))
            await writer.flush()
            with pytest.raises(Fenced):
                await zombie.begin(2)
            await writer.write(6, change(("w6", 1, 1)))
            await writer.flush()
    assert words(path) == ["w2", "w4", "w6"]


async def test_an_owner_whose_workshop_was_cleaned_away_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "out"
    async with opened(path) as writer:
        await writer.write(2, change(("w2", 1, 1)))
        [workshop] = [tmp_path / name for name in names(tmp_path) if name != "out"]
        workshop.rmdir()
        assert (await writer.flush())["files"] == 1
    assert words(path) == ["w2"]
    assert names(tmp_path) == ["out"]


async def test_a_directory_that_was_changed_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "out"
    async with opened(path) as writer:
        path.rename(tmp_path / "elsewhere")
        path.mkdir()
        with pytest.raises(OutputChanged, match="removed or replaced"):
            await writer.flush()
    async with opened(path) as writer:
        await writer.write(2, change(("w2", 1, 1)))
        (path / "part-000000001.parquet").write_text("foreign")
        with pytest.raises(OutputChanged, match="somebody else put it there"):
            await writer.flush()
    assert (path / "part-000000001.parquet").read_text() == "foreign"


# --- disks that fail


@pytest.mark.parametrize("after", [False, True])
async def test_after_any_failed_call_a_later_flush_writes_what_is_missing(tmp_path: Path, after: bool) -> None:
    counting = CountingDisk()
    async with opened(tmp_path / "trial", disk=counting) as writer:
        begun = counting.calls
        await writer.write(2, change(("w2", 1, 1)))
        await writer.flush()
        done = counting.calls
    for failing in range(begun + 1, done + 1):
        path = tmp_path / f"out{failing}"
        disk = FailingDisk(lambda call, failing=failing: call[0] == failing, after=after)  # type: ignore[misc]
        async with opened(path, disk=disk) as writer:
            await writer.write(2, change(("w2", 1, 1)))
            try:
                position = await writer.flush()
            except OSError:
                position = await writer.flush()
            await writer.write(4, change(("w4", 1, 1)))
            position = await writer.flush()
            assert position["files"] == 2
        assert words(path) == ["w2", "w4"]
        await check(path, position)


async def test_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "out"
    disk = FullDisk(300)
    async with opened(path, disk=disk) as writer:
        await writer.write(2, change(("w2", 1, 1)))
        with pytest.raises(OSError, match="No space"):
            await writer.flush()
        assert names(path) == []
        await writer.write(4, change(("w4", 1, 1)))
        disk.room = 1 << 20
        await writer.flush()
    assert words(path) == ["w2", "w4"]


async def test_a_directory_in_which_nothing_can_be_put_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As with a mounted volume: beside it is another file system.
    path = tmp_path / "out"
    path.mkdir()
    (path / ".out.parts-00000000000000000000000000000000.tmp").mkdir()
    real = os.access
    monkeypatch.setattr(os, "access", lambda place, mode: Path(place) != tmp_path and real(place, mode))
    async with opened(path) as writer:
        assert names(tmp_path) == ["out"]
        await writer.write(2, change(("w2", 1, 1)))
        await writer.flush()
        assert words(path) == ["w2"]
    assert names(path) == ["part-000000001.parquet"]
