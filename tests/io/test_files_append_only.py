"""Files that changed in runs that take nothing back: what is followed, and what is refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asyncpersist.errors import InputChanged, InputError
from asyncpersist.io.compression import InputFile
from asyncpersist.io.file_source import FileSource
from asyncpersist.io.formats.format import Format
from asyncpersist.io.formats.plaintext import PlainTextByFile
from asyncpersist.io.source import Needs
from tests.io.reading import TEXT, batches, csv_format, json_format, offsets_after, rows

LINES = b"".join(b"line %d\n" % i for i in range(2000))


async def offsets_of(path: Path, format: Format = TEXT) -> dict[str, Any]:
    return offsets_after(await batches(FileSource(str(path), format)))


async def rest(path: Path, offsets: dict[str, Any], format: Format = TEXT, **settings: Any) -> list[Any]:
    return [row[0] for row in rows(await batches(FileSource(str(path), format, **settings), offsets))]


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


async def test_added_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"1\n")
    offsets = await offsets_of(tmp_path)
    (tmp_path / "a").write_bytes(b"2\n")
    (tmp_path / "c").write_bytes(b"3\n")
    assert await rest(tmp_path, offsets) == ["2", "3"]


@pytest.mark.parametrize("content", [b"", b"a\n", LINES])
async def test_appended_lines_are_read(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    first = await batches(FileSource(str(path), TEXT))
    append(path, b"x\n\ny")
    more = await batches(FileSource(str(path), TEXT), offsets_after(first))
    assert rows(first) + rows(more) == rows(await batches(FileSource(str(path), TEXT)))
    assert [row[0] for row in rows(more)] == ["x", "", "y"]
    assert await rest(path, offsets_after(more)) == []


async def test_a_file_in_progress_that_grew_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(LINES)
    first = (await batches(FileSource(str(path), TEXT, chunk_bytes=5000)))[:2]
    append(path, b"x\n")
    more = await batches(FileSource(str(path), TEXT), offsets_after(first))
    assert rows(first) + rows(more) == rows(await batches(FileSource(str(path), TEXT)))


async def test_lines_appended_to_csv(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    format = csv_format(n=int)
    for content in (b"", b"x,", b"x,n", b"x,n\n", b"x,n\n,1\n"):
        path.write_bytes(content)
        offsets = await offsets_of(path, format) if content != b"x," else {}
        path.write_bytes(b"x,n\n,1\n,2\n") if not offsets else append(path, b"x,n\n,1\n,2\n"[len(content) :])
        assert await rest(path, offsets, format) == ([2] if content.endswith(b"1\n") else [1, 2])


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
async def test_a_last_line_that_is_only_ended_stays(tmp_path: Path, newline: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(LINES + b"last")
    first = await batches(FileSource(str(path), TEXT))
    assert rows(first)[-1][0] == "last"
    assert offsets_after(first)["a"]["offset"] == len(LINES)
    append(path, newline)
    ended = await batches(FileSource(str(path), TEXT), offsets_after(first))
    assert rows(ended) == []
    append(path, b"next\n")
    for offsets in (offsets_after(first), offsets_after(ended, offsets_after(first))):
        more = await batches(FileSource(str(path), TEXT), offsets)
        assert rows(first) + rows(more) == rows(await batches(FileSource(str(path), TEXT)))


async def test_a_last_line_that_goes_on_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1\nlast")
    offsets = await offsets_of(path)
    append(path, b" and more\n")
    with pytest.raises(InputChanged, match="its last line, which had been read without a newline at its end"):
        await rest(path, offsets)


async def test_a_last_line_that_is_another_now_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1\nlast")
    offsets = await offsets_of(path)
    path.write_bytes(b"1\nLAST\n")
    with pytest.raises(InputChanged, match="its last line"):
        await rest(path, offsets)


async def test_a_header_that_went_on_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"x,n")
    offsets = await offsets_of(path, csv_format(n=int))
    append(path, b",m\n1,2,3\n")
    assert await rest(path, offsets, csv_format(n=int)) == [2]


async def test_what_is_appended_between_opening_and_reading_comes_too(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(LINES)
    source = FileSource(str(path), TEXT, chunk_bytes=5000)
    offsets = offsets_after((await batches(source))[:1])
    reader = await source.open(offsets, identity="source", needs=Needs(ids=True))
    append(path, b"more\n")
    while (batch := await reader.read()) is not None:
        offsets.update(batch.offsets)
    await reader.aclose()
    assert offsets["a"]["rows"] == 2001
    assert await rest(path, offsets) == []


async def test_a_last_line_that_gave_no_row_may_go_on(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for content, more in ((b'{"n":1}\n  ', b'{"n":2}\n'), (b'{"n":1}\n{"n"', b":2}\n")):
        path.write_bytes(content)
        source = FileSource(str(path), json_format(n=int), on_error="skip")
        first = await batches(source)
        append(path, more)
        assert [row[0] for row in rows(await batches(source, offsets_after(first)))] == [2]


def rewrite(path: Path) -> None:
    path.write_bytes(b"X" + LINES[1:])


def same_content(path: Path) -> None:
    path.write_bytes(LINES)


def truncate(path: Path) -> None:
    os.truncate(path, len(LINES) - 7)


def replace_by_copy(path: Path) -> None:
    shutil.copy2(path, path.with_name("new"))
    os.replace(path.with_name("new"), path)


def grow_and_rewrite_the_end(path: Path) -> None:
    path.write_bytes(LINES[:-3] + b"?\nmore\n")


def set_mtime(path: Path) -> None:
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns - 1))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (rewrite, "was modified"),
        (same_content, "was modified"),
        (set_mtime, "its mtime differs"),
        (lambda path: path.chmod(0o600), "its ctime differs"),
        (truncate, r"truncated from \d+ to \d+ bytes"),
        (replace_by_copy, "another file is in its place"),
        (lambda path: path.unlink(), "was deleted"),
        (grow_and_rewrite_the_end, "the bytes before the new ones differ"),
    ],
)
@pytest.mark.parametrize("taken", [1, None])
async def test_other_changes_are_refused(
    tmp_path: Path, change: Callable[[Path], None], why: str, taken: int | None
) -> None:
    path = tmp_path / "a"
    path.write_bytes(LINES)
    os.utime(path, ns=(10**18, 10**18))
    source = FileSource(str(tmp_path), TEXT, chunk_bytes=len(LINES) - 100)
    offsets = offsets_after((await batches(source))[:taken])
    change(path)
    with pytest.raises(InputChanged, match=why) as caught:
        await batches(source, offsets)
    assert "'" + str(path) + "'" in str(caught.value) or "'a'" in str(caught.value)


async def test_a_whole_file_that_grew_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"a")
    offsets = await offsets_of(path, PlainTextByFile())
    append(path, b"\n")
    with pytest.raises(InputChanged, match="which changes what was read of it"):
        await rest(path, offsets, PlainTextByFile())


class Meddling:
    """Does something to a file just before its n-th read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, before: int, change: Callable[[], None]) -> None:
        self._before = before
        self._change = change
        read = InputFile.read

        def meddled(file: InputFile, size: int) -> bytes:
            self._before -= 1
            if self._before == 0:
                self._change()
            return read(file, size)

        monkeypatch.setattr(InputFile, "read", meddled)


@pytest.mark.parametrize("change", [rewrite, same_content, truncate])
async def test_changes_during_the_reading_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    path = tmp_path / "a"
    path.write_bytes(LINES)
    os.utime(path, ns=(10**18, 10**18))
    Meddling(monkeypatch, 3, lambda: change(path))
    with pytest.raises(InputChanged, match="while it was read"):
        await rest(path, {}, chunk_bytes=8000)


async def test_what_is_appended_during_the_reading_comes_with_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(LINES)
    Meddling(monkeypatch, 3, lambda: append(path, b"more\n"))
    found = await batches(FileSource(str(path), TEXT, chunk_bytes=8000))
    assert len(rows(found)) == 2000
    assert await rest(path, offsets_after(found)) == ["more"]


async def test_a_line_that_is_being_written_is_waited_for_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(LINES + b"last")
    Meddling(monkeypatch, 3, lambda: append(path, b" and more\n"))
    found = await batches(FileSource(str(path), TEXT, chunk_bytes=8000))
    assert rows(found)[-1][0] == "last and more"
    assert await rest(path, offsets_after(found)) == []


async def test_a_file_that_goes_away_before_it_is_opened_was_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"1\n")
    (tmp_path / "b").write_bytes(b"2\n")
    Meddling(monkeypatch, 1, (tmp_path / "b").unlink)
    assert await rest(tmp_path, {}) == ["1"]


async def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"1\n")

    def fail() -> None:
        raise OSError(5, "Input/output error")

    Meddling(monkeypatch, 1, fail)
    with pytest.raises(InputError, match=r"cannot read the input file '.*a': Input/output error"):
        await rest(tmp_path, {})
