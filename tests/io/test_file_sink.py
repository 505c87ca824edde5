"""The file sink on real files: what a restart finds, what is refused, what zombies and full disks cannot do."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from asyncpersist.clock import SystemClock
from asyncpersist.columnar.delta import Delta
from asyncpersist.disk import Disk
from asyncpersist.dtypes import DType
from asyncpersist.errors import Fenced, OutputChanged, OutputError, OutputNotEmpty, SchemaError
from asyncpersist.io.file_sink import FileSink, FileWriter
from asyncpersist.io.render import OnRestart
from asyncpersist.io.sink import Position
from tests.amounts import PATIENCE

COLUMNS = {"word": DType("str"), "count": DType("int")}
HEADER = "word,count,time,diff\n"


def change(*rows: tuple[str, int, int]) -> Delta:
    frame = pl.DataFrame([row[:2] for row in rows], schema=["word", "count"], orient="row")
    return Delta(frame, np.array([row[2] for row in rows]), consolidated=True)


def sink(path: Path, on_restart: OnRestart = "continue") -> FileSink:
    return FileSink(path, "csv", COLUMNS, on_restart=on_restart)


@asynccontextmanager
async def opened(
    path: Path,
    position: Position | None = None,
    *,
    persistent: bool = True,
    exclusive: bool = True,
    disk: Disk | None = None,
    on_restart: OnRestart = "continue",
) -> AsyncIterator[FileWriter]:
    writer = await sink(path, on_restart).open(
        position, persistent=persistent, exclusive=exclusive, disk=disk or Disk(), clock=SystemClock()
    )
    try:
        yield writer
    finally:
        await writer.aclose()


async def written(path: Path, epochs: Iterable[int] = (2, 4)) -> Position:
    """A file that a run has written and closed: one insertion of `w<epoch>` per epoch."""
    async with opened(path) as writer:
        for epoch in epochs:
            await writer.write(epoch, change((f"w{epoch}", 1, 1)))
        return await writer.flush()


class LoggedDisk(Disk):
    """Counts the calls that change something, and refuses those that are asked for."""

    def __init__(self, refused: str = "", room: int = 1 << 40) -> None:
        self.calls: list[str] = []
        self.refused = refused
        self.room = room

    def _note(self, name: str) -> None:
        self.calls.append(name)
        if name == self.refused:
            raise OSError(errno.EIO, "refused", name)

    def create(self, path: Path) -> int:
        self._note("create")
        return super().create(path)

    def write(self, fd: int, data: bytes | memoryview) -> None:
        self._note("write")
        if len(data) > self.room:
            os.write(fd, memoryview(data)[: self.room])
            self.room = 0
            raise OSError(errno.ENOSPC, "no space left on device")
        self.room -= len(data)
        super().write(fd, data)

    def link(self, source: Path, target: Path) -> None:
        self._note("link")
        super().link(source, target)

    def truncate(self, fd: int, length: int) -> None:
        self._note("truncate")
        super().truncate(fd, length)

    def fsync(self, fd: int) -> None:
        self._note("fsync")
        super().fsync(fd)

    def rename(self, source: Path, target: Path) -> None:
        self._note("rename")
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        self._note("unlink")
        super().unlink(path)

    def fsync_directory(self, path: Path) -> None:
        self._note("fsync_directory")
        super().fsync_directory(path)


def names(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.iterdir())


# --- what is written


async def test_retractions_come_first_and_a_weight_of_n_is_n_lines(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    async with opened(path) as writer:
        await writer.write(10, change(("a", 2, 1), ("a", 1, -1), ("b", 1, 2), ("c", 7, -2)))
        await writer.flush()
    lines = path.read_text().splitlines(keepends=True)
    assert lines[0] == HEADER
    assert sorted(lines[1:4]) == ["a,1,10,-1\n", "c,7,10,-1\n", "c,7,10,-1\n"]
    assert sorted(lines[4:]) == ["a,2,10,1\n", "b,1,10,1\n", "b,1,10,1\n"]


async def test_a_delta_without_weights_is_inserted(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    async with opened(path) as writer:
        await writer.write(2, Delta(pl.DataFrame({"count": [1], "other": [5], "word": ["a"]})))
        await writer.flush()
    assert path.read_text() == HEADER + "a,1,2,1\n"


async def test_a_run_without_changes_leaves_a_header(tmp_path: Path) -> None:
    async with opened(tmp_path / "out.csv") as writer:
        position = await writer.flush()
        assert await writer.flush() == position
    assert (tmp_path / "out.csv").read_text() == HEADER
    assert position["length"] == len(HEADER)


async def test_json_lines_have_no_header(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    json_sink = FileSink(path, "jsonlines", COLUMNS)
    writer = await json_sink.open(None, persistent=True, exclusive=True, disk=Disk(), clock=SystemClock())
    assert await writer.flush() == json_sink.initial()
    await writer.write(2, change(("a", 1, 1)))
    await writer.flush()
    await writer.aclose()
    assert path.read_text() == '{"word":"a","count":1,"time":2,"diff":1}\n'


async def test_much_is_written_before_it_is_flushed(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    rows = pl.DataFrame({"word": ["x" * 100], "count": [1]}).select(pl.all().repeat_by(20_000).explode())
    async with opened(path) as writer:
        await writer.write(2, Delta(rows))
        assert path.stat().st_size > 2_000_000
        await writer.write(4, change(("a", 1, 1)))
        assert "a,1,4,1" not in path.read_text()
        await writer.flush()
    assert path.read_text().endswith("\na,1,4,1\n")


# --- going on


async def test_a_run_goes_on_at_the_committed_position(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    position = await written(path)
    committed = path.read_text()
    async with opened(path, position) as writer:
        await writer.write(6, change(("w6", 1, 1)))
        later = await writer.flush()
        await writer.write(8, change(("w8", 1, 1)))
        await writer.flush()
    inode = path.stat().st_ino
    async with opened(path, later) as writer:
        assert path.read_text() == committed + "w6,1,6,1\n"
        await writer.write(10, change(("w10", 1, 1)))
        await writer.flush()
    assert path.read_text() == committed + "w6,1,6,1\n" + "w10,1,10,1\n"
    assert path.stat().st_ino == inode


async def test_what_was_not_flushed_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    async with opened(path) as writer:
        await writer.write(2, change(("a", 1, 1)))
    assert path.read_text() == ""


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("there", [None, "", "torn hea"])
async def test_a_run_killed_before_its_first_snapshot_starts_at_the_beginning(
    tmp_path: Path, exclusive: bool, there: str | None
) -> None:
    path = tmp_path / "out.csv"
    if there is not None:
        path.write_text(there)
    position = sink(path).initial()
    await sink(path).check(position, persistent=True)
    async with opened(path, position, exclusive=exclusive) as writer:
        await writer.write(2, change(("a", 1, 1)))
        await writer.flush()
    assert path.read_text() == HEADER + "a,1,2,1\n"


async def test_positions_are_plain_and_tell_the_content_apart(tmp_path: Path) -> None:
    one = await written(tmp_path / "one.csv", range(0, 1000, 2))
    same = await written(tmp_path / "same.csv", range(0, 1000, 2))
    other = await written(tmp_path / "other.csv", [*range(0, 998, 2), 999])
    assert one == same
    assert one["length"] == other["length"] == (tmp_path / "one.csv").stat().st_size
    assert one["tail"] != other["tail"]


async def test_without_persistence_a_run_starts_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    position = await written(path)
    path.chmod(0o640)
    await sink(path).check(position, persistent=False)
    async with opened(path, persistent=False) as writer:
        await writer.write(2, change(("new", 1, 1)))
        await writer.flush()
    assert path.read_text() == HEADER + "new,1,2,1\n"
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("known", [True, False])
async def test_overwrite_starts_a_new_file_whatever_is_there(tmp_path: Path, known: bool) -> None:
    path = tmp_path / "out.csv"
    position = await written(path) if known else None
    path.write_text("something else")
    await sink(path, "overwrite").check(position, persistent=True)
    async with opened(path, position, on_restart="overwrite") as writer:
        await writer.write(6, change(("w6", 1, 1)))
        await writer.flush()
    assert path.read_text() == HEADER + "w6,1,6,1\n"


async def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "real" / "out.csv")
    assert sink(tmp_path / "link.csv").identity == str(tmp_path / "real" / "out.csv")
    await written(tmp_path / "link.csv")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real" / "out.csv").read_text().startswith(HEADER)


async def test_a_relative_path_is_that_of_its_definition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert sink(Path("out.csv")).identity == str(tmp_path / "out.csv")


# --- what is refused


def everything(directory: Path) -> dict[str, tuple[bytes, int, int]]:
    return {
        file.name: (file.read_bytes(), file.stat().st_ino, file.stat().st_mtime_ns)
        for file in directory.iterdir()
        if file.is_file()
    }


def edited(data: bytes) -> bytes:
    return data.replace(b"w4,1", b"w4,9")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), r"no such file.*committed.*on_restart"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), r"38 bytes, but 39 were committed.*on_restart"),
        (lambda path: path.write_bytes(b""), r"0 bytes, but 39 were committed"),
        (lambda path: path.write_bytes(edited(path.read_bytes())), r"before byte 39.*edited.*on_restart"),
        (lambda path: path.write_bytes(b"x" * 1000), r"before byte 39.*edited"),
    ],
)
async def test_an_output_that_is_not_what_was_committed_is_an_error(tmp_path: Path, spoil: Any, message: str) -> None:
    path = tmp_path / "out.csv"
    position = await written(path)
    spoil(path)
    before = everything(tmp_path)
    for exclusive in (True, False):
        with pytest.raises(OutputChanged, match=message) as raised:
            await sink(path).check(position, persistent=True)
        assert str(path) in str(raised.value)
        with pytest.raises(OutputChanged, match=message):
            await sink(path).open(position, persistent=True, exclusive=exclusive, disk=Disk(), clock=SystemClock())
    assert everything(tmp_path) == before


@pytest.mark.parametrize("epochs", [(), (2, 4)])
async def test_what_somebody_appended_after_a_clean_end_is_not_cut(tmp_path: Path, epochs: tuple[int, ...]) -> None:
    path = tmp_path / "out.csv"
    position = await written(path, epochs)
    await sink(path).check(position, persistent=True, clean=True)
    with path.open("a") as file:
        file.write("precious")
    before = everything(tmp_path)
    with pytest.raises(OutputChanged, match=r"bytes, but \d+ were committed when the last run ended.*on_restart"):
        await sink(path).check(position, persistent=True, clean=True)
    assert everything(tmp_path) == before
    await sink(path).check(position, persistent=True, clean=False)
    await sink(path, "overwrite").check(position, persistent=True, clean=True)
    await sink(path).check(position, persistent=False, clean=True)


async def test_edits_far_before_the_position_are_not_looked_for(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    position = await written(path, range(0, 1000, 2))
    path.write_bytes(path.read_bytes().replace(b"w0,", b"W0,"))
    await sink(path).check(position, persistent=True)


async def test_a_first_claim_of_a_file_with_content_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("precious")
    before = everything(tmp_path)
    with pytest.raises(OutputNotEmpty, match=r"out\.csv holds 8 bytes.*Move it away.*overwrite"):
        await sink(path).check(None, persistent=True)
    with pytest.raises(OutputNotEmpty):
        async with opened(path):
            pass
    assert everything(tmp_path) == before


async def test_a_first_claim_of_nothing_or_an_empty_file_is_fine(tmp_path: Path) -> None:
    await sink(tmp_path / "absent.csv").check(None, persistent=True)
    assert names(tmp_path) == []
    (tmp_path / "empty.csv").touch()
    await sink(tmp_path / "empty.csv").check(None, persistent=True)
    await written(tmp_path / "empty.csv")
    assert (tmp_path / "empty.csv").read_text().startswith(HEADER)


@pytest.mark.parametrize("persistent", [True, False])
async def test_a_path_that_can_be_no_output_is_an_error(tmp_path: Path, persistent: bool) -> None:
    with pytest.raises(OutputError, match=r"no directory .*missing. Make it first"):
        await sink(tmp_path / "missing" / "out.csv").check(None, persistent=persistent)
    with pytest.raises(OutputError, match="is a directory"):
        await sink(tmp_path).check(None, persistent=persistent)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="no regular file"):
        await sink(tmp_path / "pipe").check(None, persistent=persistent)


@pytest.mark.parametrize("persistent", [True, False])
@pytest.mark.parametrize("name", ["o" * 300 + ".csv", "d" * 300 + "/out.csv", "loop", "loop/out.csv"])
async def test_a_path_that_no_file_can_have_is_an_error(tmp_path: Path, name: str, persistent: bool) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OutputError) as raised:
        await sink(tmp_path / name).check(None, persistent=persistent)
    assert str(tmp_path / name) in str(raised.value)


@pytest.mark.parametrize("name", ["\ud800.csv", "a\0b"])
def test_a_path_that_is_no_text_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the path of an output"):
        sink(tmp_path / name)


async def test_what_cannot_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.csv"
    path.touch()
    monkeypatch.setattr(os, "access", lambda checked, mode: checked != tmp_path)
    with pytest.raises(OutputError, match="cannot be made in"):
        await sink(path).check(None, persistent=True)
    monkeypatch.setattr(os, "access", lambda checked, mode: checked != path)
    with pytest.raises(OutputError, match="cannot be read and written"):
        await sink(path).check(None, persistent=True)


def test_a_table_with_the_columns_of_the_change_is_refused(tmp_path: Path) -> None:
    for name in ("time", "diff"):
        with pytest.raises(SchemaError, match=name):
            FileSink(tmp_path / "out.csv", "csv", {name: DType("int")})
    with pytest.raises(ValueError, match="parquet"):
        FileSink(tmp_path / "out.csv", "parquet", COLUMNS)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="replace"):
        FileSink(tmp_path / "out.csv", "csv", COLUMNS, on_restart="replace")  # type: ignore[arg-type]


# --- zombies


@pytest.mark.parametrize("locked_by_another", [True, False])
async def test_what_a_deposed_writer_writes_appears_nowhere(tmp_path: Path, locked_by_another: bool) -> None:
    path = tmp_path / "out.csv"
    position = await written(path)
    committed = path.read_text()
    zombie = os.open(path, os.O_RDWR)
    if locked_by_another:
        fcntl.flock(zombie, fcntl.LOCK_EX)
    async with opened(path, position, exclusive=locked_by_another) as writer:
        os.pwrite(zombie, b"zombie", 0)
        os.ftruncate(zombie, 3)
        await writer.write(6, change(("w6", 1, 1)))
        later = await writer.flush()
        os.pwrite(zombie, b"zombie" * 100, 0)
        os.close(zombie)
    assert path.read_text() == committed + "w6,1,6,1\n"
    await sink(path).check(later, persistent=True)
    assert names(tmp_path) == ["out.csv"]


async def test_an_open_writer_holds_its_lock(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    for exclusive in (True, False):
        async with opened(path, sink(path).initial(), exclusive=exclusive):
            other = os.open(path, os.O_RDWR)
            with pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.close(other)


@pytest.mark.parametrize("persistent", [True, False])
async def test_an_output_that_another_run_writes_is_refused(tmp_path: Path, persistent: bool) -> None:
    path = tmp_path / "out.csv"
    async with opened(path, persistent=persistent) as writer:
        for on_restart in ("continue", "overwrite"):
            with pytest.raises(OutputError, match="another run is writing there"):
                await sink(path, on_restart).check(None, persistent=persistent)
        with pytest.raises(OutputError, match="another run is writing there"):
            async with opened(path, sink(path).initial(), persistent=persistent):
                pass
        await writer.write(2, change(("w2", 1, 1)))
        await writer.flush()
    assert path.read_text() == HEADER + "w2,1,2,1\n"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("persistent", [True, False])
async def test_of_two_runs_that_start_on_one_output_one_is_refused(tmp_path: Path, persistent: bool) -> None:
    path = tmp_path / "out.csv"
    together = threading.Barrier(2, timeout=PATIENCE)

    class MeetingDisk(Disk):
        def create(self, path: Path) -> int:
            if persistent:
                together.wait()
            return super().create(path)

    async def start() -> FileWriter:
        return await sink(path).open(
            sink(path).initial(), persistent=persistent, exclusive=True, disk=MeetingDisk(), clock=SystemClock()
        )

    outcomes = await asyncio.gather(start(), start(), return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, OutputError)]
    assert len(refused) == 1
    assert "another run is writing there" in str(refused[0])
    for outcome in outcomes:
        if isinstance(outcome, FileWriter):
            await outcome.aclose()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("removed", [True, False])
async def test_a_file_that_was_replaced_is_put_back(tmp_path: Path, removed: bool) -> None:
    path = tmp_path / "out.csv"
    async with opened(path) as writer:
        await writer.write(2, change(("w2", 1, 1)))
        await writer.flush()
        if removed:
            path.unlink()
        else:
            (tmp_path / "other").write_text("zombie")
            (tmp_path / "other").rename(path)
        await writer.write(4, change(("w4", 1, 1)))
        position = await writer.flush()
        assert path.read_text() == HEADER + "w2,1,2,1\nw4,1,4,1\n"
        await writer.write(6, change(("w6", 1, 1)))
        await writer.flush()
    await sink(path).check(position, persistent=True)
    assert path.read_text() == HEADER + "w2,1,2,1\nw4,1,4,1\nw6,1,6,1\n"


async def test_a_deposed_writer_puts_nothing_back(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    async with opened(path) as zombie:
        position = await zombie.flush()

        async def deposed() -> None:
            raise Fenced("another run took over")

        zombie.guard = deposed
        async with opened(path, position, exclusive=False) as writer:
            await writer.write(2, change(("w2", 1, 1)))
            await writer.flush()
        await zombie.write(2, change(("zombie", 1, 1)))
        with pytest.raises(Fenced):
            await zombie.flush()
    assert path.read_text() == HEADER + "w2,1,2,1\n"


async def test_a_file_that_is_replaced_all_the_time_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"

    class Spiteful(Disk):
        def fsync_directory(self, directory: Path) -> None:
            super().fsync_directory(directory)
            path.unlink()

    async with opened(path, disk=Spiteful()) as writer:
        with pytest.raises(OutputError, match="keeps putting"):
            await writer.flush()


async def test_a_file_changed_during_the_run_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    async with opened(path) as writer:
        await writer.flush()
        with path.open("a") as other:
            other.write("by hand\n")
        with pytest.raises(OutputChanged, match="changed meanwhile"):
            await writer.flush()


async def test_copies_of_killed_writers_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    leftover = tmp_path / f".out.csv.{'0a' * 16}.tmp"
    others = [tmp_path / ".out.csv.mine.tmp", tmp_path / f".other.csv.{'0a' * 16}.tmp"]
    for file in (leftover, *others):
        file.touch()
    await written(path)
    assert names(tmp_path) == sorted(file.name for file in [path, *others])


async def test_a_long_name_can_be_copied(tmp_path: Path) -> None:
    path = tmp_path / ("ü" * 125 + ".csv")
    position = await written(path)
    async with opened(path, position, exclusive=False) as writer:
        await writer.flush()
    assert names(tmp_path) == [path.name]


async def test_a_large_output_is_copied_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    async with opened(path) as writer:
        await writer.write(2, Delta(pl.DataFrame({"word": [f"{i:01000}" for i in range(5000)], "count": range(5000)})))
        position = await writer.flush()
    committed = path.read_bytes()
    async with opened(path, position, exclusive=False) as writer:
        await writer.write(4, change(("w4", 1, 1)))
        await writer.flush()
    assert path.read_bytes() == committed + b"w4,1,4,1\n"


# --- a disk that fails


async def test_a_full_disk_loses_and_repeats_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    disk = LoggedDisk(room=30)
    async with opened(path, disk=disk) as writer:
        await writer.write(2, change(("w2", 1, 1)))
        await writer.flush()
        await writer.write(4, change(("w4", 1, 1)))
        for _ in range(2):
            with pytest.raises(OSError, match="no space"):
                await writer.flush()
        await writer.write(6, change(("w6", 1, 1)))
        disk.room = 1 << 40
        position = await writer.flush()
    assert path.read_text() == HEADER + "w2,1,2,1\nw4,1,4,1\nw6,1,6,1\n"
    await sink(path).check(position, persistent=True)


async def test_an_epoch_that_met_a_full_disk_was_taken(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    disk = LoggedDisk(room=1000)
    rows = pl.DataFrame({"word": [f"w{i:0100}" for i in range(20_000)], "count": range(20_000)})
    async with opened(path, disk=disk) as writer:
        with pytest.raises(OSError, match="no space"):
            await writer.write(2, Delta(rows))
        disk.room = 1 << 40
        await writer.flush()
    assert pl.read_csv(path).select("word", "count").equals(rows)


@pytest.mark.parametrize("refused", ["create", "write", "fsync", "rename", "fsync_directory"])
@pytest.mark.parametrize("exclusive", [True, False])
async def test_a_copy_that_fails_leaves_the_output_as_it_was(tmp_path: Path, refused: str, exclusive: bool) -> None:
    path = tmp_path / "out.csv"
    position = await written(path)
    committed = path.read_text()
    holder = os.open(path, os.O_RDWR)
    fcntl.flock(holder, fcntl.LOCK_EX)
    with pytest.raises(OSError, match="refused"):
        async with opened(path, position, exclusive=exclusive, disk=LoggedDisk(refused)):
            pass
    os.close(holder)
    assert path.read_text() == committed
    assert names(tmp_path) == ["out.csv"]


@pytest.mark.parametrize("refused", ["create", "write", "fsync", "rename", "fsync_directory"])
async def test_putting_back_can_be_repeated(tmp_path: Path, refused: str) -> None:
    path = tmp_path / "out.csv"
    disk = LoggedDisk()
    async with opened(path, disk=disk) as writer:
        await writer.write(2, change(("w2", 1, 1)))
        await writer.flush()
        path.unlink()
        disk.refused = refused
        with pytest.raises(OSError, match="refused"):
            await writer.flush()
        disk.refused = ""
        await writer.flush()
    assert path.read_text() == HEADER + "w2,1,2,1\n"
    assert names(tmp_path) == ["out.csv"]


async def test_after_a_failed_fsync_only_a_new_file_is_trusted(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    disk = LoggedDisk()
    async with opened(path, disk=disk) as writer:
        await writer.flush()
        inode = path.stat().st_ino
        await writer.write(2, change(("w2", 1, 1)))
        disk.refused = "fsync"
        with pytest.raises(OSError, match="refused"):
            await writer.flush()
        disk.refused = ""
        position = await writer.flush()
        assert path.stat().st_ino != inode
    assert path.read_text() == HEADER + "w2,1,2,1\n"
    await sink(path).check(position, persistent=True)


async def test_durable_first_in_the_file_then_in_the_directory(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    disk = LoggedDisk()
    async with opened(path, disk=disk) as writer:
        assert disk.calls == ["create", "fsync", "link", "unlink", "fsync_directory"]
        disk.calls.clear()
        await writer.write(2, change(("w2", 1, 1)))
        position = await writer.flush()
        assert disk.calls == ["write", "fsync"]
    disk.calls.clear()
    async with opened(path, position, disk=disk):
        assert disk.calls == ["truncate"]
    disk.calls.clear()
    async with opened(path, position, exclusive=False, disk=disk):
        assert disk.calls == ["create", "write", "fsync", "rename", "fsync_directory"]


# --- cancellation and closing


async def test_a_cancelled_write_is_finished_before_what_follows(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    entered, released = threading.Event(), threading.Event()

    class Slow(LoggedDisk):
        def write(self, fd: int, data: bytes | memoryview) -> None:
            entered.set()
            released.wait()
            super().write(fd, data)

    async with opened(path, disk=Slow()) as writer:
        await writer.write(2, change(("w2", 1, 1)))
        first = asyncio.create_task(writer.flush())
        await asyncio.to_thread(entered.wait)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        second = asyncio.create_task(writer.flush())
        closed = asyncio.create_task(writer.aclose())
        released.set()
        results = await asyncio.gather(second, closed, return_exceptions=True)
        assert results[1] is None
    assert path.read_text() == HEADER + "w2,1,2,1\n"


async def test_closing_twice_is_fine_and_writing_afterwards_is_not(tmp_path: Path) -> None:
    async with opened(tmp_path / "out.csv") as writer:
        await writer.aclose()
        await writer.aclose()
        await writer.write(2, change(("w2", 1, 1)))
        with pytest.raises(ValueError, match="closed"):
            await writer.flush()


async def test_any_number_of_restarts_reads_as_one_run(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    position: Position = sink(path).initial()
    epochs = count(2, 2)
    expected = HEADER
    for restart in range(12):
        async with opened(path, position, exclusive=restart % 3 > 0) as writer:
            epoch = next(epochs)
            await writer.write(epoch, change((f"é{epoch}\n", restart, 1)))
            position = await writer.flush()
            expected += f'"é{epoch}\n",{restart},{epoch},1\n'
            await writer.write(next(epochs), change(("lost", 1, 1)))
            if restart % 2:
                await writer.flush()
    async with opened(path, position):
        assert path.read_text() == expected
