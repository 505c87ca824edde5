"""Reading files to their end: chunks, offsets, restarts, broken lines."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncpersist.columnar.delta import ID
from asyncpersist.columnar.hashing import row_ids
from asyncpersist.errors import InputError, InputNotFound, MalformedInput
from asyncpersist.io import open_file
from asyncpersist.io.compression import zstd
from asyncpersist.io.file_offset import FileOffset
from asyncpersist.io.file_source import FileSource
from asyncpersist.io.formats.format import Format
from asyncpersist.io.formats.plaintext import PlainTextByFile
from asyncpersist.io.source import Needs
from tests.amounts import PATIENCE
from tests.examples import examples
from tests.io.reading import TEXT, batches, csv_format, json_format, offsets_after, rows, values

CASES: list[tuple[Format, bytes]] = [
    (json_format(s=str | None, n=int), b'{"s":"a","n":1}\n\n{"s":"\xc3\xa9\\n","n":2}\r\n {"n":3}\n{"s":"5","n":4}'),
    (csv_format(s=str, n=int), b'\xef\xbb\xbfn,"s"\r\n1,"a\n""b"",\r\n"\r\n2,\n\n3,"\xc3\xa9"\n4,x"y\n5,z'),
    (csv_format(n=int), b"n\n1\n2\n\n3\n"),
    (TEXT, b"a\n\n\xf0\x9f\x98\x80\r\n\r\nb\r"),
]


@pytest.mark.parametrize(("format", "data"), CASES)
async def test_chunks_may_end_anywhere_and_every_offset_gives_the_rest(
    tmp_path: Path, format: Format, data: bytes
) -> None:
    (tmp_path / "a").write_bytes(data)
    (tmp_path / "b").write_bytes(b"")
    (tmp_path / "c").write_bytes(data + b"\n")
    whole = rows(await batches(FileSource(str(tmp_path), format)))
    assert whole
    assert len({row[-1] for row in whole}) == len(whole)
    for size in range(1, 2 * len(data) + 3):
        source = FileSource(str(tmp_path), format, chunk_bytes=size)
        found = await batches(source)
        assert rows(found) == whole
        if size % 7 == 1:
            for i in range(len(found) + 1):
                offsets = msgspec.json.decode(msgspec.json.encode(offsets_after(found[:i])))
                rest = await batches(FileSource(str(tmp_path), format, chunk_bytes=9), offsets)
                assert rows(found[:i]) + rows(rest) == whole


async def test_ids_are_the_places_of_records(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b'{"n":1}\n\n{"n":2}\n{"n":3}')
    (tmp_path / "b").write_bytes(b'{"n":4}\n{"n":"x"}\n{"n":5}\n')
    [batch] = await batches(FileSource(str(tmp_path), json_format(n=int), on_error="skip"))
    expected = pl.concat([row_ids("source", "a", 0, 3), row_ids("source", "b", 0, 3).gather([0, 2])])
    assert batch.delta.rows[ID].to_list() == expected.to_list()
    assert batch.delta.rows["n"].to_list() == [1, 2, 3, 4, 5]


@examples(30)
@given(
    files=st.lists(st.lists(st.text('ab"\n\r ,é', max_size=6), max_size=8), min_size=1, max_size=4),
    ending=st.sampled_from(["\n", "\r\n"]),
    terminated=st.booleans(),
    size=st.integers(1, 80),
)
async def test_csv_of_any_text(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[str]], ending: str, terminated: bool, size: int
) -> None:
    tmp_path = tmp_path_factory.mktemp("csv")
    expected = []
    for i, texts in enumerate(files):
        lines = ["v,i", *('"' + text.replace('"', '""') + f'",{k}' for k, text in enumerate(texts))]
        content = ending.join(lines) + (ending if terminated else "")
        (tmp_path / f"{i}.csv").write_text(content, newline="")
        expected += [(text, k) for k, text in enumerate(texts)]
    assert await values(tmp_path, csv_format(v=str, i=int), chunk_bytes=size) == expected


async def test_without_ids_a_batch_is_consolidated_where_that_helps(tmp_path: Path) -> None:
    words = [f"w{i % 7}" for i in range(10_000)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"word": w}) + "\n" for w in words))
    source = FileSource(str(tmp_path), json_format(word=str), chunk_bytes=60_000)
    found = await batches(source, ids=False)
    counted: Counter[str] = Counter()
    for batch in found:
        assert batch.delta.consolidated
        assert batch.delta.height <= 7
        for word, weight in batch.delta.weighted().rows():
            counted[word] += weight
    assert len(found) > 1
    assert counted == Counter(words)


async def test_many_small_files_share_a_batch(tmp_path: Path) -> None:
    for i in range(100):
        (tmp_path / f"{i:03}.csv").write_text(f"a,b\n{i},x\n" if i % 3 else f"b,a\n\nx,{i}\n")
    found = await batches(FileSource(str(tmp_path), csv_format(a=int)))
    assert len(found) == 1
    assert [row[0] for row in rows(found)] == list(range(100))
    assert {offset["rows"] for offset in offsets_after(found).values()} == {1}
    assert await batches(FileSource(str(tmp_path), csv_format(a=int)), offsets_after(found)) == []


async def test_sizes_and_bounds(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789\n" * 100)
    found = await batches(FileSource(str(tmp_path), TEXT, chunk_bytes=110))
    assert sum(batch.size for batch in found) == 1100
    assert max(batch.size for batch in found) <= 220


async def test_nothing_to_read(tmp_path: Path) -> None:
    assert await batches(FileSource(str(tmp_path), TEXT)) == []
    (tmp_path / "empty").touch()
    [batch] = await batches(FileSource(str(tmp_path), TEXT))
    assert batch.delta.is_empty()
    assert batch.delta.rows.schema == {"data": pl.String(), ID: pl.UInt128()}
    assert await batches(FileSource(str(tmp_path), TEXT), batch.offsets) == []
    (tmp_path / "empty").write_text("a,b")
    assert await values(tmp_path, csv_format(a=int)) == []
    with pytest.raises(InputNotFound, match="nowhere"):
        await FileSource(str(tmp_path / "nowhere"), TEXT).check(None, persistent=True)


# -- compressed files


def compress(name: str, data: bytes) -> bytes:
    return gzip.compress(data) if name.endswith("gz") else zstd.compress(data)


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv.zst"])
async def test_compressed_files_and_their_restart(tmp_path: Path, name: str) -> None:
    data = b"n\n" + b"".join(b"%d\n" % i for i in range(500)) + b"500"
    (tmp_path / name).write_bytes(compress(name, data[:100]) + compress(name, data[100:]))
    source = FileSource(str(tmp_path), csv_format(n=int), chunk_bytes=200)
    found = await batches(source)
    assert [row[0] for row in rows(found)] == list(range(501))
    for i in range(len(found)):
        rest = await batches(source, offsets_after(found[:i]))
        assert rows(found[:i]) + rows(rest) == rows(found)
    assert await batches(source, offsets_after(found)) == []


@pytest.mark.parametrize("name", ["a.gz", "a.zst"])
async def test_broken_compressed_files(tmp_path: Path, name: str) -> None:
    whole = compress(name, bytes(range(32, 127)) * 100 + b"\n")
    for data in (whole[:-4], whole[:20], b"no such thing at all"):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(MalformedInput, match=rf"{name}' holds broken compressed data"):
            await values(tmp_path, TEXT)


# -- broken lines


def numbered(bad: dict[int, bytes], count: int) -> bytes:
    return b"".join(bad.get(i, b'{"n":%d}' % i) + b"\n" for i in range(count))


@pytest.mark.parametrize("at", [0, 1, 777, 2998, 2999])
async def test_an_error_names_file_line_and_text(tmp_path: Path, at: int) -> None:
    (tmp_path / "a.jsonl").write_bytes(numbered({}, 10))
    (tmp_path / "b.jsonl").write_bytes(b"\n" + numbered({at: b'{"n":"x"}'}, 3000))
    for size in (500, 10_000, 1 << 20):
        with pytest.raises(MalformedInput) as caught:
            await values(tmp_path, json_format(n=int), chunk_bytes=size)
        message = str(caught.value)
        assert f"b.jsonl', line {at + 2}: column 'n': expected int, got \"x\"" in message
        assert '{"n":"x"}' in message
        assert 'on_error="skip"' in message


async def test_what_comes_before_a_broken_batch_is_given_out_and_nothing_after_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(numbered({500: b"oops"}, 1000))
    source = FileSource(str(tmp_path), json_format(n=int), chunk_bytes=1000)
    reader = await source.open(None, identity="source", needs=Needs(ids=True))
    seen: list[Any] = []

    async def take() -> None:
        while (batch := await reader.read()) is not None:
            seen.extend(batch.delta.rows["n"].to_list())

    with pytest.raises(MalformedInput, match="line 501"):
        await take()
    assert seen == list(range(len(seen)))
    assert 300 < len(seen) <= 500
    with pytest.raises(MalformedInput, match="line 501"):
        await reader.read()
    await reader.aclose()


async def test_lines_of_records_that_span_lines(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'v,n\n"a\n\nb",1\n\n"c\nd",x\n')
    for size in (5, 1000):
        with pytest.raises(MalformedInput, match=r"line 6: column 'n': expected int, got \"x\""):
            await values(tmp_path, csv_format(v=str, n=int), chunk_bytes=size)


async def test_long_texts_are_shown_shortened(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b'{"n":"' + b"x" * 10_000 + b'"}\n')
    with pytest.raises(MalformedInput) as caught:
        await values(tmp_path, json_format(n=int))
    assert len(str(caught.value)) < 1000


async def test_a_record_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_file, "LONGEST_RECORD", 1 << 20)
    (tmp_path / "a").write_bytes(b"short\n" + b"x" * (3 << 20))
    with pytest.raises(MalformedInput, match="a', line 2: a record of more than 1 MiB, beginning with b'xxx"):
        await values(tmp_path, TEXT, chunk_bytes=100_000)
    (tmp_path / "a").write_bytes(b'"' + b"x" * (3 << 20))
    with pytest.raises(MalformedInput, match="line 1: a header of more than 1 MiB"):
        await values(tmp_path, csv_format(x=int))


@pytest.mark.parametrize("size", [30, 200, 1 << 20])
@pytest.mark.parametrize("ids", [True, False])
async def test_skipped_lines_are_counted_and_kept(tmp_path: Path, size: int, ids: bool) -> None:
    bad = {3: b"{", 4: b'{"n":null}', 50: b'{"n":\xff}', 99: b"[1]"}
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a").write_bytes(numbered(bad, 100) + b'{"n":1')
    letters = tmp_path / "dead"
    source = FileSource(
        str(tmp_path / "in"), json_format(n=int), on_error="skip", dead_letters=str(letters), chunk_bytes=size
    )
    found = await batches(source, ids=ids)
    numbers = [n for batch in found for n in batch.delta.rows["n"].to_list()]
    assert sorted(numbers) == sorted(set(range(100)) - set(bad))
    assert sum(batch.skipped for batch in found) == 5
    kept = [json.loads(line) for line in letters.read_text().splitlines()]
    assert [letter["line"] for letter in kept] == [4, 5, 51, 100, 101]
    assert [letter["text"] for letter in kept] == ["{", '{"n":null}', '{"n":\\xff}', "[1]", '{"n":1']
    assert {letter["file"] for letter in kept} == {str(tmp_path / "in/a")}
    assert "expected a JSON object" in kept[3]["error"]
    assert await batches(source, offsets_after(found)) == []


async def test_dead_letters_in_the_input_directory_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x\n")
    source = FileSource(str(tmp_path), json_format(n=int), on_error="skip", dead_letters=str(tmp_path / "dead"))
    for _ in range(2):
        assert [batch.skipped for batch in await batches(source)] == [1]
    assert len((tmp_path / "dead").read_text().splitlines()) == 2


async def test_dead_letters_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x\n")
    source = FileSource(
        str(tmp_path / "a"), json_format(n=int), on_error="skip", dead_letters=str(tmp_path / "no/dead")
    )
    with pytest.raises(InputError, match="no directory"):
        await batches(source)


def test_settings_that_are_none() -> None:
    with pytest.raises(ValueError, match="on_error"):
        FileSource("a", TEXT, on_error="ignore")
    with pytest.raises(ValueError, match="dead_letters"):
        FileSource("a", TEXT, dead_letters="b")
    with pytest.raises(ValueError, match="chunk_bytes"):
        FileSource("a", TEXT, chunk_bytes=0)


# -- whole files


async def test_whole_files_are_rows(tmp_path: Path) -> None:
    texts = ["", "a\nb\n", "\n", "é\r\n"]
    for i, text in enumerate(texts):
        (tmp_path / str(i)).write_text(text, newline="")
    for size in (1, 1000):
        source = FileSource(str(tmp_path), PlainTextByFile(), chunk_bytes=size)
        found = await batches(source)
        assert [row[0] for row in rows(found)] == texts
        assert await batches(source, offsets_after(found)) == []
    (tmp_path / "1").write_bytes(b"\xff")
    with pytest.raises(MalformedInput, match="not valid UTF-8"):
        await batches(FileSource(str(tmp_path), PlainTextByFile()))
    [batch] = await batches(FileSource(str(tmp_path), PlainTextByFile(), on_error="skip"))
    assert (batch.skipped, batch.delta.height) == (1, 3)


# -- the reader in a loop


async def test_offsets_are_looked_at_in_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(5):
        (tmp_path / str(i)).write_text("a\n")
    offsets = offsets_after(await batches(FileSource(str(tmp_path), TEXT)))
    threads: list[threading.Thread] = []
    convert = FileOffset.from_json

    def watched(value: Any) -> FileOffset:
        threads.append(threading.current_thread())
        return convert(value)

    monkeypatch.setattr(FileOffset, "from_json", staticmethod(watched))
    assert await batches(FileSource(str(tmp_path), TEXT), offsets) == []
    assert len(threads) == 5
    assert threading.current_thread() not in threads


async def test_the_loop_goes_on_while_files_are_read(tmp_path: Path) -> None:
    names = {"asyncpersist-read_0", "asyncpersist-parse_0"}
    threads: set[str] = set()

    class Watched(type(TEXT)):  # type: ignore[misc]
        def parse(self, data: bytes, layout: Any) -> pl.DataFrame:
            threads.add(threading.current_thread().name)
            return super().parse(data, layout)

        def cut(self, data: bytes) -> int:
            threads.add(threading.current_thread().name)
            return super().cut(data)

    (tmp_path / "a").write_bytes(b"x\n" * 1000)
    await batches(FileSource(str(tmp_path), Watched()))
    assert threads == names


async def test_read_ahead_is_bounded(tmp_path: Path) -> None:
    parsed = 0

    class Counted(type(TEXT)):  # type: ignore[misc]
        def parse(self, data: bytes, layout: Any) -> pl.DataFrame:
            nonlocal parsed
            parsed += 1
            return super().parse(data, layout)

    (tmp_path / "a").write_bytes(b"x\n" * 1000)
    reader = await FileSource(str(tmp_path), Counted(), chunk_bytes=20).open(None, identity="s", needs=Needs(ids=False))
    for taken in range(1, 20):
        await reader.read()
        assert parsed <= taken + 2
    await reader.aclose()
    await reader.aclose()
    assert await reader.read() is None
    assert parsed <= 22


async def test_a_cancelled_read_can_be_closed(tmp_path: Path) -> None:
    release = threading.Event()

    class Slow(type(TEXT)):  # type: ignore[misc]
        def parse(self, data: bytes, layout: Any) -> pl.DataFrame:
            release.wait(PATIENCE)
            return super().parse(data, layout)

    (tmp_path / "a").write_bytes(b"x\n" * 100)
    reader = await FileSource(str(tmp_path), Slow(), chunk_bytes=20).open(None, identity="s", needs=Needs(ids=False))
    reading = asyncio.create_task(reader.read())
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    release.set()
    await reader.aclose()
    assert not [t for t in threading.enumerate() if t.name.startswith(("asyncpersist-read", "asyncpersist-parse"))]
