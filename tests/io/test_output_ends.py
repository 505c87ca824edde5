"""What stands after the end of an output: cut after a crash, somebody else's after a clean end."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import polars as pl
import pytest

import asyncpersist as ap
from asyncpersist.errors import GraphError, OutputChanged, OutputError


class Line(ap.Schema):
    word: str


def copying(directory: Path, *outputs: str) -> ap.Graph:
    with ap.Graph() as graph:
        lines = ap.io.jsonlines.read(directory / "in", schema=Line, mode="static")
        for output in outputs:
            ap.io.jsonlines.write(lines.select(ap.this.word), directory / output)
    return graph


def config(directory: Path) -> ap.persistence.Config:
    return ap.persistence.Config(ap.persistence.Backend.filesystem(directory / "state"))


def add(directory: Path, name: str) -> None:
    (directory / "in").mkdir(exist_ok=True)
    (directory / "in" / f"{name}.jsonl").write_text(f'{{"word": "{name}"}}\n')


def words(output: Path) -> list[str]:
    return [line.split('"')[3] for line in output.read_text().splitlines()]


def everything(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


async def test_what_was_appended_after_a_clean_end_is_an_error_that_changes_nothing(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    add(tmp_path, "a")
    await ap.run(copying(tmp_path, "out.jsonl"), persistence_config=config(tmp_path))
    add(tmp_path, "b")
    await ap.run(copying(tmp_path, "out.jsonl"), persistence_config=config(tmp_path))
    assert words(output) == ["a", "b"]
    committed = output.read_text()
    output.write_text(committed + "precious\n")
    add(tmp_path, "c")
    before = everything(tmp_path)
    with pytest.raises(OutputChanged, match="appended to"):
        await ap.run(copying(tmp_path, "out.jsonl"), persistence_config=config(tmp_path))
    assert everything(tmp_path) == before
    output.write_text(committed)
    await ap.run(copying(tmp_path, "out.jsonl"), persistence_config=config(tmp_path))
    assert words(output) == ["a", "b", "c"]


@pytest.mark.parametrize("on_restart", ["continue", "overwrite"])
async def test_a_csv_output_without_rows_has_its_header(tmp_path: Path, on_restart: Literal["continue"]) -> None:
    (tmp_path / "in").mkdir()

    async def run() -> str:
        with ap.Graph() as graph:
            lines = ap.io.jsonlines.read(tmp_path / "in", schema=Line, mode="static")
            ap.io.csv.write(lines, tmp_path / "out.csv", on_restart=on_restart)
        await ap.run(graph, persistence_config=config(tmp_path))
        return (tmp_path / "out.csv").read_text()

    assert await run() == "word,time,diff\n"
    assert await run() == "word,time,diff\n"
    add(tmp_path, "a")
    first, second = (await run()).splitlines()
    assert first == "word,time,diff"
    assert second.startswith("a,")


async def test_parquet_files_that_were_added_after_a_clean_end_are_an_error(tmp_path: Path) -> None:
    async def run() -> None:
        with ap.Graph() as graph:
            lines = ap.io.jsonlines.read(tmp_path / "in", schema=Line, mode="static")
            ap.io.parquet.write(lines, tmp_path / "out")
        await ap.run(graph, persistence_config=config(tmp_path))

    add(tmp_path, "a")
    await run()
    (part,) = (tmp_path / "out").iterdir()
    other = part.with_name("part-000000002.parquet")
    other.write_bytes(part.read_bytes())
    add(tmp_path, "b")
    before = everything(tmp_path)
    with pytest.raises(OutputChanged, match=r"there is a part-000000002\.parquet, but 1 files were committed"):
        await run()
    assert everything(tmp_path) == before
    other.unlink()
    await run()
    assert pl.read_parquet(tmp_path / "out")["word"].to_list() == ["a", "b"]


async def test_after_a_failure_the_rest_is_cut(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    add(tmp_path, "a")
    await ap.run(copying(tmp_path, "out.jsonl"), persistence_config=config(tmp_path))
    broken = tmp_path / "in" / "b.jsonl"
    broken.write_text("{")
    with pytest.raises(ap.errors.MalformedInput):
        await ap.run(copying(tmp_path, "out.jsonl"), persistence_config=config(tmp_path))
    with output.open("a") as file:
        file.write("torn")
    broken.write_text('{"word": "b"}\n')
    await ap.run(copying(tmp_path, "out.jsonl"), persistence_config=config(tmp_path))
    assert words(output) == ["a", "b"]


async def test_two_names_of_one_output_are_one(tmp_path: Path) -> None:
    add(tmp_path, "a")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for persistence in (None, config(tmp_path)):
        with pytest.raises(GraphError, match="two outputs of this graph write to"):
            await ap.run(copying(tmp_path, "real/out.jsonl", "link/out.jsonl"), persistence_config=persistence)
        # A directory that becomes a link only after the graph was defined.
        graph = copying(tmp_path, "real/out.jsonl", "later/out.jsonl")
        (tmp_path / "later").symlink_to("real")
        with pytest.raises((GraphError, OutputError)):
            await ap.run(graph, persistence_config=persistence)
        (tmp_path / "later").unlink()
        (tmp_path / "real" / "out.jsonl").unlink(missing_ok=True)


@pytest.mark.parametrize("read", [".", "out", "out/*.parquet", "*/part-*", "**", "out/part-000000001.parquet"])
async def test_an_output_of_parquet_is_not_read_by_the_same_run(tmp_path: Path, read: str) -> None:
    add(tmp_path, "a")
    with ap.Graph() as graph:
        lines = ap.io.jsonlines.read(tmp_path / "in", schema=Line, mode="static")
        ap.io.parquet.write(lines, tmp_path / "out")
        ap.io.null.write(ap.io.parquet.read(tmp_path / read, schema=Line))
    before = everything(tmp_path)
    with pytest.raises(GraphError, match=r"out lies where source .* would take it for input"):
        await ap.run(graph)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("persistent", [True, False])
async def test_an_output_with_a_name_that_is_too_long_is_named(tmp_path: Path, persistent: bool) -> None:
    add(tmp_path, "a")
    name = "o" * 300 + ".jsonl"
    before = everything(tmp_path)
    with pytest.raises(OutputError, match=name):
        await ap.run(copying(tmp_path, name), persistence_config=config(tmp_path) if persistent else None)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("name", ["out.jsonl.gz", "out.csv.ZST", "out.zstd"])
def test_compressed_outputs_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ap.errors.Unsupported, match="compressed output is not built"):
        copying(tmp_path, name)


def test_the_name_of_an_output_or_input_is_text(tmp_path: Path) -> None:
    with ap.Graph(), pytest.raises(ValueError, match="is no valid text"):
        ap.io.jsonlines.read(tmp_path, schema=Line, mode="static", name="\ud800")
    with ap.Graph():
        lines = ap.io.jsonlines.read(tmp_path, schema=Line, mode="static")
        with pytest.raises(ValueError, match="is no valid text"):
            ap.io.jsonlines.write(lines, tmp_path / "out.jsonl", name="\ud800")
