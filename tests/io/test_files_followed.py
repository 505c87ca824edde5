"""Following files that change: what is one epoch, what waits, what is tried again."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from asyncpersist.columnar.delta import ID, PART
from asyncpersist.dtypes import DType
from asyncpersist.errors import InputChanged, InputError, InputNotFound, MalformedInput
from asyncpersist.io.compression import InputFile
from asyncpersist.io.file_source import FileSource
from asyncpersist.io.formats.format import Broken, Format, RowFile
from asyncpersist.io.formats.plaintext import PlainTextByFile
from asyncpersist.io.scan import FileStatus
from asyncpersist.io.source import Batch, Needs
from tests.io.following import Followed, Following, HandClock, static_run, without_ids
from tests.io.reading import TEXT, csv_format, json_format

LINES = [f"line {i}" for i in range(200)]


def text(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def append(path: Path, more: str) -> None:
    with path.open("a") as file:
        file.write(more)


@pytest.fixture
def followed() -> Followed:
    return Followed()


# -- epochs


async def test_a_rewritten_file_is_one_epoch_of_bounded_batches(tmp_path: Path, followed: Followed) -> None:
    (tmp_path / "a").write_text(text(LINES))
    (tmp_path / "b").write_text("b\n")
    async with Following(str(tmp_path), TEXT, followed, chunk_bytes=300) as following:
        before = len(followed.epochs)
        (tmp_path / "a").write_text(text([*LINES[::-1], "new"]))
        found = await following.scan()
        assert len(found) > 3
        assert [batch.open for batch in found] == [True] * (len(found) - 1) + [False]
        assert [dict(batch.retracts) for batch in found] == [{"a": 1}] + [{}] * (len(found) - 1)
        assert len(followed.epochs) == before + 1
        assert followed.values == Counter([*LINES, "new", "b"])


async def test_a_renamed_file_is_one_epoch(tmp_path: Path, followed: Followed) -> None:
    (tmp_path / "m").write_text(text(LINES))
    async with Following(str(tmp_path), TEXT, followed, chunk_bytes=300) as following:
        (tmp_path / "a").write_text(text(LINES[:100]))
        (tmp_path / "m").rename(tmp_path / "z")
        found = await following.scan()
        first = next(i for i, batch in enumerate(found) if batch.retracts)
        assert found[first].retracts == {"m": 1}
        assert [batch.open for batch in found[first:-1]] == [True] * len(found[first:-1])
        assert not found[-1].open
        assert followed.values == Counter(LINES + LINES[:100])
        assert set(followed.offsets) == {"a", "z", ""}


async def test_all_that_a_scan_finds_is_one_batch_if_it_fits(tmp_path: Path, followed: Followed) -> None:
    for name in "abcd":
        (tmp_path / name).write_text(f"{name}\n")
    async with Following(str(tmp_path), TEXT, followed) as following:
        (tmp_path / "a").unlink()
        append(tmp_path / "b", "more\n")
        (tmp_path / "c").write_text("x\ny\n")
        (tmp_path / "d").rename(tmp_path / "e")
        (tmp_path / "f").write_text("f\n")
        [batch] = await following.scan()
        assert batch.retracts == {"a": 1, "c": 3, "d": 4}
        assert batch.offsets["a"] is None
        assert not batch.open
        assert followed.values == Counter(["b", "more", "x", "y", "d", "f"])
        assert await following.scan() == []


# -- lines that wait


async def test_a_last_line_waits_for_its_end(tmp_path: Path, followed: Followed) -> None:
    path = tmp_path / "a"
    path.write_text("one\ntw")
    async with Following(str(tmp_path), TEXT, followed) as following:
        assert followed.values == Counter(["one"])
        append(path, "o")
        await following.scan()
        assert followed.values == Counter(["one"])
        append(path, "\nth")
        await following.scan()
        assert followed.values == Counter(["one", "two"])
    await static_run(str(tmp_path), TEXT, followed)
    assert followed.values == Counter(["one", "two", "th"])
    async with Following(str(tmp_path), TEXT, followed) as following:
        assert followed.values == Counter(["one", "two", "th"])
        append(path, "ree")
        await following.scan()
        assert followed.values == Counter(["one", "two"])
        append(path, "\n")
        await following.scan()
        assert followed.values == Counter(["one", "two", "three"])


async def test_a_header_waits_for_its_end(tmp_path: Path, followed: Followed) -> None:
    path = tmp_path / "a.csv"
    path.write_text("")
    clock = HandClock(path.stat().st_mtime + 60)  # a header that is wrong is not waited for
    async with Following(str(tmp_path), csv_format(n=int, m=int), followed, clock=clock) as following:
        for more in ("n", ",", '"m', '"', "\n", "1,", "2"):
            append(path, more)
            await following.scan()
            assert not followed.rows
        append(path, "\n3,4")
        await following.scan()
        assert followed.rows == Counter([(1, 2)])


@pytest.mark.parametrize("needs", [Needs(parts=True), Needs(ids=True, parts=True), Needs(parts=True, order=True)])
@pytest.mark.parametrize("more", ["\n", "\r\n", "\r", " and more", " and\nmore", "\nmore"])
async def test_a_last_line_that_a_static_run_took_and_that_grew(
    tmp_path: Path, followed: Followed, needs: Needs, more: str
) -> None:
    path = tmp_path / "a"
    for content in ("1\nlast", f"1\nlast{more}"):
        with path.open("w" if content == "1\nlast" else "a", newline="") as file:
            file.write(content if content == "1\nlast" else more)
        await static_run(str(tmp_path), TEXT, followed, needs=needs)
    afresh = Followed()
    await static_run(str(tmp_path), TEXT, afresh, needs=needs)
    assert followed.rows == afresh.rows


@pytest.mark.parametrize("ids", [True, False])
async def test_a_grown_last_line_beside_one_that_is_left_out(tmp_path: Path, followed: Followed, ids: bool) -> None:
    path = tmp_path / "a"
    needs = Needs(ids=ids, parts=True)
    for more in ('{"n":1}\n{"n":2}', "  \n", '{"n":3}', ' \n{"n":"x"}\n{"n":4', "}\n"):
        append(path, more)
        await static_run(str(tmp_path), json_format(n=int), followed, needs=needs, on_error="skip")
    afresh = Followed()
    await static_run(str(tmp_path), json_format(n=int), afresh, needs=needs, on_error="skip")
    assert followed.rows == afresh.rows
    assert followed.values == Counter([1, 2, 3, 4])


# -- numbers of parts


async def test_no_number_is_given_twice(tmp_path: Path, followed: Followed) -> None:
    path = tmp_path / "a"
    for i in range(3):
        path.write_text(f"{i}\n")
        await static_run(str(tmp_path), TEXT, followed)
        assert followed.offsets[""] == {"parts": i + 1}
        path.unlink()
        await static_run(str(tmp_path), TEXT, followed)
        assert followed.offsets == {"": {"parts": i + 1}}
        assert not followed.rows


# -- what is not opened, what cannot be


async def test_unchanged_files_are_not_opened(
    tmp_path: Path, followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = HandClock(9e9)
    for i in range(50):
        (tmp_path / str(i)).write_text("x\n")
    opened: list[str] = []
    init = InputFile.__init__

    def noted(self: InputFile, path: str) -> None:
        opened.append(os.path.basename(path))
        init(self, path)

    monkeypatch.setattr(InputFile, "__init__", noted)
    async with Following(str(tmp_path), TEXT, followed, clock=clock) as following:
        assert len(opened) == 50
        opened.clear()
        assert await following.scan() == []
        append(tmp_path / "7", "y\n")
        await following.scan()
    await static_run(str(tmp_path), TEXT, followed, clock=clock)
    assert opened == ["7"]


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")])
async def test_what_cannot_be_opened_for_a_moment_stays(
    tmp_path: Path,
    followed: Followed,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: OSError,
) -> None:
    (tmp_path / "a").write_text("a\n")
    (tmp_path / "b").write_text("b\n")
    init = InputFile.__init__

    def failing(self: InputFile, path: str) -> None:
        if path.endswith("/a"):
            raise error
        init(self, path)

    async with Following(str(tmp_path), TEXT, followed) as following:
        with monkeypatch.context() as patched:
            patched.setattr(InputFile, "__init__", failing)
            (tmp_path / "a").write_text("another\n")
            append(tmp_path / "b", "c\n")
            for _ in range(3):
                await following.scan()
                assert followed.values == Counter(["a", "b", "c"])
            assert [record.message.count("/a ") for record in caplog.records] == [1]
            with pytest.raises(InputError, match="cannot read the input file"):
                await static_run(str(tmp_path), TEXT, Followed())
        await following.scan()
        assert followed.values == Counter(["another", "b", "c"])


async def test_a_directory_that_cannot_be_listed_for_a_moment_hides_nothing(
    tmp_path: Path, followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a").write_text("a\n")
    (tmp_path / "b").write_text("b\n")
    scandir = os.scandir

    def failing(path: str) -> Any:
        if path.endswith("sub"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    for pattern in ("", "*/*", "**/a"):
        kept = Followed()
        async with Following(f"{tmp_path}/{pattern}", TEXT, kept) as following:
            there = kept.values
            assert there["a"] == 1
            with monkeypatch.context() as patched:
                patched.setattr(os, "scandir", failing)
                await following.scan()
                with pytest.raises(InputError, match="Permission denied"):
                    await static_run(f"{tmp_path}/{pattern}", TEXT, Followed())
            assert kept.values == there


async def test_a_directory_that_goes_and_comes(tmp_path: Path, followed: Followed) -> None:
    root = tmp_path / "in"
    root.mkdir()
    (root / "a").write_text("a\n")
    async with Following(str(root), TEXT, followed) as following:
        shutil.rmtree(root)
        await following.scan()
        assert not followed.rows
        assert await following.scan() == []
        root.mkdir()
        (root / "a").write_text("b\n")
        await following.scan()
        assert followed.values == Counter("b")


async def test_a_file_by_its_name_that_is_replaced(tmp_path: Path, followed: Followed) -> None:
    path = tmp_path / "a.tmp"
    path.write_text("a\n")
    async with Following(str(path), TEXT, followed) as following:
        (tmp_path / "new").write_text("b\n")
        (tmp_path / "new").replace(path)
        await following.scan()
        assert followed.values == Counter("b")
        path.unlink()
        await following.scan()
        assert not followed.rows


async def test_what_has_to_be_there_at_the_start(tmp_path: Path, followed: Followed) -> None:
    for source in (FileSource(f"{tmp_path}/no", TEXT, mode="streaming"), FileSource(f"{tmp_path}/*.x", TEXT)):
        with pytest.raises(InputNotFound):
            await source.check(None, persistent=True)
        with pytest.raises(InputNotFound):
            await source.open(None, identity="source", needs=Needs(parts=True))
    async with Following(f"{tmp_path}/*.x", TEXT, followed) as following:
        (tmp_path / "a.x").write_text("a\n")
        await following.scan()
        assert followed.values == Counter("a")
    (tmp_path / "a.x").unlink()
    await static_run(f"{tmp_path}/*.x", TEXT, followed)
    assert not followed.rows


# -- changes during the reading


def meddle(monkeypatch: pytest.MonkeyPatch, change: Callable[[], None], times: int, every: int) -> None:
    """Does something to a file just before every n-th read."""
    count = 0
    read = InputFile.read

    def meddled(file: InputFile, size: int) -> bytes:
        nonlocal count
        count += 1
        if count % every == 0 and count // every <= times:
            change()
        return read(file, size)

    monkeypatch.setattr(InputFile, "read", meddled)


def changes_of(path: Path) -> dict[str, Callable[[], object]]:
    return {
        "modified": lambda: path.write_text(text([line.upper() for line in LINES])),
        "truncated": lambda: os.truncate(path, 100),
        "deleted": path.unlink,
        "replaced": lambda: (path.with_name(".n").write_text("n\n"), path.with_name(".n").replace(path)),
    }


# Soon after a change a file is read more often than later.
READS = [*((1 << 20, before, late) for before in (1, 2) for late in (False, True))]
READS += [(100, before, False) for before in range(4, 12)]


@pytest.mark.parametrize("how", ["modified", "truncated", "deleted", "replaced"])
@pytest.mark.parametrize(("size", "before", "late"), READS)
@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("known", [True, False])
async def test_a_file_that_changes_while_it_is_read_is_read_again(
    tmp_path: Path,
    followed: Followed,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
    size: int,
    before: int,
    late: bool,
    streaming: bool,
    known: bool,
) -> None:
    path = tmp_path / "a"
    clock = HandClock(time.time() + 3600 * late)
    if known:
        path.write_text("before\n")
        await static_run(str(tmp_path), TEXT, followed)
    path.write_text(text(LINES))
    os.utime(path, ns=(10**18, 10**18))
    with monkeypatch.context() as patched:
        meddle(patched, lambda: changes_of(path)[how]() and None, 1, before)
        if streaming:
            async with Following(str(tmp_path), TEXT, followed, clock=clock, chunk_bytes=size) as following:
                await following.scan()
        else:
            await static_run(str(tmp_path), TEXT, followed, clock=clock, chunk_bytes=size)
    # What the last change cut within a line is a last line without its end.
    content = path.read_text() if path.exists() else ""
    lines = content.split("\n")
    assert followed.values == Counter(lines[:-1] + ([lines[-1]] if lines[-1] and not streaming else []))
    assert how == "deleted" or followed.values["line 150"] == 0


async def test_a_file_that_never_rests_is_named(
    tmp_path: Path, followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_text(text(LINES))
    times = iter(range(10**18, 10**18 + 1000))

    def touch() -> None:
        time = next(times)
        os.utime(path, ns=(time, time))

    meddle(monkeypatch, touch, 1000, 1)
    with pytest.raises(InputChanged, match=r"/a' was changed again and again"):
        await static_run(str(tmp_path), TEXT, followed, chunk_bytes=300)


# -- changes without a trace


async def test_a_change_that_leaves_no_other_time_is_found(
    tmp_path: Path, followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = HandClock(1e9)
    coarse = int(1e9) * 10**9
    of = FileStatus.of
    monkeypatch.setattr(
        FileStatus, "of", staticmethod(lambda s: of(s)._replace(mtime_ns=coarse, ctime_ns=coarse, inode=7))
    )
    path = tmp_path / "a"
    path.write_text("old\n")
    async with Following(str(tmp_path), TEXT, followed, clock=clock) as following:
        clock.now += 0.005
        path.write_text("new\n")
        assert await following.scan() == []
        clock.now += 1
        await following.scan()
        assert followed.values == Counter(["new"])
        assert await following.scan() == []
        assert not followed.offsets["a"]["doubt"]
    for before, after in (("one\n", "two\n"), ("three\n", "trees\nmore\n"), ("four", "f our\n")):
        clock.now = 1e9
        path.write_text(before)
        kept = Followed()
        await static_run(str(tmp_path), TEXT, kept, clock=clock)
        path.write_text(after)
        clock.now += 1
        await static_run(str(tmp_path), TEXT, kept, clock=clock)
        assert kept.values == Counter(after.splitlines())


async def test_a_doubt_that_proves_wrong_gives_nothing(tmp_path: Path, followed: Followed) -> None:
    clock = HandClock(0)
    path = tmp_path / "a"
    path.write_text("a\n")
    clock.now = path.stat().st_mtime_ns / 1e9
    async with Following(str(tmp_path), TEXT, followed, clock=clock) as following:
        assert followed.offsets["a"]["doubt"]
        clock.now += 1
        assert await following.scan() == []
        (tmp_path / "b").write_text("b\n")
        await following.scan()
        assert not followed.offsets["a"]["doubt"]


# -- what rows carry


async def test_rows_carry_the_part_of_their_file(tmp_path: Path, followed: Followed) -> None:
    for i in range(20):
        (tmp_path / f"{i:02}").write_text(text(["same"] * 3 + [f"{i}"]))
    [batch] = await static_run(str(tmp_path), TEXT, followed)
    counted: Counter[tuple[str, int]] = Counter()
    for word, part, weight in batch.delta.weighted().rows():
        counted[word, part] += weight
    assert counted == Counter({(word, i + 1): n for i in range(20) for word, n in (("same", 3), (str(i), 1))})
    large = Followed()
    (tmp_path / "big").write_text(text(["x", "y"] * 50_000))
    (tmp_path / "big2").write_text(text(["x", "z"] * 50_000))
    [batch] = await static_run(f"{tmp_path}/big*", TEXT, large)
    assert sorted(batch.delta.weighted().rows()) == [
        ("x", 1, 50_000),
        ("x", 2, 50_000),
        ("y", 1, 50_000),
        ("z", 2, 50_000),
    ]
    assert batch.delta.consolidated


async def test_in_the_order_of_reading_nothing_is_merged(tmp_path: Path, followed: Followed) -> None:
    lines = ["x", "y", "x"] * 3000
    (tmp_path / "a").write_text(text(lines))
    (tmp_path / "b").write_text(text(lines))
    found = await static_run(
        str(tmp_path), TEXT, followed, needs=Needs(ids=True, parts=True, order=True), chunk_bytes=5000
    )
    assert [row[0] for batch in found for row in without_ids(batch)] == lines * 2
    assert all(batch.delta.weights is None for batch in found)
    assert found[0].delta.rows.columns == ["data", ID, PART]


@pytest.mark.parametrize("lines", [["a"], ["a"] * 5000])
async def test_metadata_is_of_when_rows_were_read(tmp_path: Path, followed: Followed, lines: list[str]) -> None:
    path = tmp_path / "a"
    path.write_text(text(lines) + "tail")
    os.utime(path, ns=(10**18 + 7, 10**18 + 7))
    (tmp_path / "b").write_text("b\n")

    def of_a() -> dict[str, set[tuple[int, int]]]:
        found: dict[str, set[tuple[int, int]]] = {}
        for value, metadata in followed.rows:
            plain = json.loads(metadata)
            if plain["path"] == str(path):
                assert list(plain) == ["path", "size", "modified_at"]
                found.setdefault(value, set()).add((plain["size"], plain["modified_at"]))
        return found

    first = path.stat().st_size
    [batch] = await static_run(str(tmp_path), TEXT, followed, with_metadata=True)
    assert batch.delta.rows.columns == ["data", "_metadata", PART]
    assert of_a() == {"a": {(first, 10**9)}, "tail": {(first, 10**9)}}
    append(path, "\nmore\n")
    os.utime(path, ns=(2 * 10**18, 2 * 10**18))
    await static_run(str(tmp_path), TEXT, followed, with_metadata=True)
    assert of_a()["a"] == {(first, 10**9)}
    assert of_a()["more"] == {(path.stat().st_size, 2 * 10**9)}
    path.write_text(text(["a", "other"]) + "tail")
    await static_run(str(tmp_path), TEXT, followed, with_metadata=True)
    append(path, "s\n")
    await static_run(str(tmp_path), TEXT, followed, with_metadata=True)
    assert set(of_a()) == {"a", "other", "tails"}


# -- broken bytes


async def test_whole_files_and_compressed_ones_are_followed(tmp_path: Path, followed: Followed) -> None:
    for name, format in (("a", PlainTextByFile()), ("a.gz", TEXT)):
        kept = Followed()
        path = tmp_path / name
        async with Following(str(path.parent / "a*"), format, kept) as following:
            for content in ("1\n", "1\n2\n", "3\n", ""):
                data = content.encode()
                path.write_bytes(gzip.compress(data) if name == "a.gz" else data)
                await following.scan()
                assert kept.values == Counter([content] if name == "a" else content.split())
        path.unlink()


async def test_a_broken_file_that_is_being_written_is_left_for_a_while(tmp_path: Path, followed: Followed) -> None:
    path = tmp_path / "a.gz"
    whole = gzip.compress(text(LINES).encode())
    path.write_bytes(whole[:-6])
    clock = HandClock(path.stat().st_mtime + 1)
    async with Following(str(tmp_path), TEXT, followed, clock=clock) as following:
        assert not followed.rows or followed.values <= Counter(LINES)
        path.write_bytes(whole)
        await following.scan()
        assert followed.values == Counter(LINES)
        path.write_bytes(whole[:-6])
        clock.now = path.stat().st_mtime + 1
        await following.scan()
        clock.now += 60
        with pytest.raises(MalformedInput, match=r"a.gz' holds broken compressed data"):
            await following.scan()


@pytest.mark.parametrize("magic", [b"\x1f\x8b\x08", b"x\x9cabc", b"x\x01abc", b"\x28\xb5\x2f\xfd"])
@pytest.mark.parametrize("format", [json_format(n=int), csv_format(n=int)])
async def test_bytes_that_look_compressed_are_malformed(
    tmp_path: Path, followed: Followed, magic: bytes, format: Format
) -> None:
    good = b'{"n":1}\n' if "json" in str(format.definition()["format"]) else b"1\n"
    head = b"" if good.startswith(b"{") else b"n\n"
    (tmp_path / "a").write_bytes(head + magic + b"\n" + good)
    with pytest.raises(MalformedInput, match=r"/a', line"):
        await static_run(str(tmp_path), format, followed)
    [batch] = await static_run(str(tmp_path), format, followed, on_error="skip")
    assert batch.skipped == 1
    assert followed.values == Counter([1])


# -- files that are read by rows


class Numbers(Format):
    """Files of numbers with commas between them, read by rows; "x" is broken, "!" at the beginning all of it."""

    by_rows = True

    def __init__(self) -> None:
        self.columns = {"n": DType.of(int)}

    def definition(self) -> dict[str, Any]:
        return {"format": "numbers"}

    def open_rows(self, path: str) -> RowFile:
        content = Path(path).read_text()
        if content.startswith("!"):
            raise Broken("no numbers")
        return _Numbers(content.split(",") if content else [])

    def parse(self, data: bytes, layout: Any) -> pl.DataFrame:
        raise AssertionError

    def record(self, text: bytes, layout: Any) -> Sequence[Any]:
        raise AssertionError


class _Numbers(RowFile):
    row_bytes = 10

    def __init__(self, texts: list[str]) -> None:
        self._texts = texts
        self.height = len(texts)

    def rows(self, start: int, count: int) -> pl.DataFrame:
        texts = self._texts[start : start + count]
        if "x" in texts:
            raise Broken("x is no number")
        return pl.DataFrame({"n": [int(t) for t in texts]}, schema={"n": pl.Int64})

    def close(self) -> None:
        pass


def commas(numbers: Sequence[object]) -> str:
    return ",".join(map(str, numbers))


async def test_files_by_rows_are_sliced_and_go_on(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(commas(range(100)))
    (tmp_path / "b").write_text("")
    (tmp_path / "c").write_text("5")
    needs = Needs(ids=True, parts=True)
    whole = Followed()
    found = await static_run(str(tmp_path), Numbers(), whole, needs=needs, chunk_bytes=70)
    assert max(batch.delta.height for batch in found) == 7
    assert sum(batch.size for batch in found) == 1010
    assert {row[0] for row in whole.rows} == set(range(100))
    for taken in range(0, len(found), 4):
        part = Followed()
        for batch in found[:taken]:
            part.take(batch)
        await static_run(str(tmp_path), Numbers(), part, needs=needs)
        assert part.rows == whole.rows
    (tmp_path / "a").write_text(commas(range(50, 101)))
    found = await static_run(str(tmp_path), Numbers(), whole, needs=needs, chunk_bytes=70)
    assert [batch.open for batch in found][-2:] == [True, False]
    assert whole.values == Counter([*range(50, 101), 5])
    (tmp_path / "c").unlink()
    await static_run(str(tmp_path), Numbers(), whole, needs=needs)
    assert whole.values == Counter(range(50, 101))


@pytest.mark.parametrize("content", ["!", commas([*range(55), "x"])])
@pytest.mark.parametrize("size", [70, 75, 1 << 20])
async def test_a_broken_file_by_rows(tmp_path: Path, followed: Followed, content: str, size: int) -> None:
    path = tmp_path / "a"
    (tmp_path / "b").write_text("7")
    settings: dict[str, Any] = {"chunk_bytes": size, "on_error": "skip", "dead_letters": str(tmp_path / ".dead")}
    for before in (None, "1,2"):
        if before is not None:
            path.write_text(before)
            await static_run(str(tmp_path), Numbers(), followed, chunk_bytes=size)
        path.write_text(content)
        with pytest.raises(MalformedInput, match="/a'"):
            await static_run(str(tmp_path), Numbers(), Followed(), chunk_bytes=size)
        found: list[Batch] = await static_run(str(tmp_path), Numbers(), followed, **settings)
        assert sum(batch.skipped for batch in found) == 1
        assert followed.values == Counter([7])
        assert await static_run(str(tmp_path), Numbers(), followed, **settings) == []
    assert [json.loads(line)["file"] for line in (tmp_path / ".dead").read_text().splitlines()] == [str(path)] * 2
    clock = HandClock(path.stat().st_mtime + 1)
    path.write_text(content)
    async with Following(str(tmp_path), Numbers(), followed, clock=clock, **settings) as following:
        path.write_text("8")
        await following.scan()
        assert followed.values == Counter([7, 8])


async def test_a_file_by_rows_that_changes_while_it_is_read(
    tmp_path: Path, followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_text(commas(range(100)))
    rows = _Numbers.rows
    changes = [lambda: path.write_text(commas(range(50, 200))), path.unlink]

    def meddled(file: _Numbers, start: int, count: int) -> pl.DataFrame:
        if start > 20 and changes:
            changes.pop(0)()
        return rows(file, start, count)

    monkeypatch.setattr(_Numbers, "rows", meddled)
    deleted = changes.pop()
    await static_run(str(tmp_path), Numbers(), followed, chunk_bytes=70)
    assert followed.values == Counter(range(50, 200))
    changes.append(deleted)
    path.write_text(commas(range(100)))
    await static_run(str(tmp_path), Numbers(), followed, chunk_bytes=70)
    assert not followed.rows


async def test_a_change_that_breaks_off_is_closed(tmp_path: Path, followed: Followed) -> None:
    path = tmp_path / "a"
    path.write_text("1,2")
    clock = HandClock(path.stat().st_mtime + 1)
    async with Following(str(tmp_path), Numbers(), followed, clock=clock, chunk_bytes=70) as following:
        path.write_text(commas([*range(49), "x"]))
        found = await following.scan()
        assert [batch.open for batch in found] == [True] * 7 + [False]
        assert followed.values == Counter(range(49))
        path.write_text(commas(range(60)))
        await following.scan()
        assert followed.values == Counter(range(60))


def test_what_is_taken_back_depends_on_the_run_alone() -> None:
    static, streaming = FileSource("a", TEXT), FileSource("a", TEXT, mode="streaming")
    assert not static.retracts(persistent=False)
    assert static.retracts(persistent=True)
    assert streaming.retracts(persistent=False)
    assert streaming.by_parts
    assert (static.streaming, streaming.streaming) == (False, True)
    with pytest.raises(ValueError, match="mode"):
        FileSource("a", TEXT, mode="slow")
