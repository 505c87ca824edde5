"""What a run does to its outputs beside writing to them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import asyncpersist as ap
from asyncpersist.errors import OutputError


class Line(ap.Schema):
    word: str


def counting(folder: Path, output: Path, on_restart: ap.io.fs.OnRestart = "continue") -> ap.Graph:
    with ap.Graph() as graph:
        lines = ap.io.jsonlines.read(folder, schema=Line, mode="static", name="lines")
        counts = lines.groupby(ap.this.word).reduce(ap.this.word, count=ap.reducers.count())
        ap.io.csv.write(counts, output, on_restart=on_restart)
    return graph


def config(state: Path) -> ap.persistence.Config:
    return ap.persistence.Config(ap.persistence.Backend.filesystem(state))


async def test_an_overwritten_output_can_be_continued(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text('{"word": "x"}\n')
    output, state = tmp_path / "out.csv", config(tmp_path / "state")
    await ap.run(counting(tmp_path / "in", output), persistence_config=state)
    await ap.run(counting(tmp_path / "in", output, "overwrite"), persistence_config=state)
    assert output.read_text() == "word,count,time,diff\n"
    (tmp_path / "in" / "b.jsonl").write_text('{"word": "y"}\n')
    await ap.run(counting(tmp_path / "in", output), persistence_config=state)
    assert [line.split(",")[0] for line in output.read_text().splitlines()] == ["word", "y"]


@pytest.mark.parametrize("persistent", [True, False])
async def test_of_two_runs_on_one_output_one_is_refused(tmp_path: Path, persistent: bool) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text('{"word": "x"}\n' * 1000)
    runs = [
        ap.run(
            counting(tmp_path / "in", tmp_path / "out.csv"),
            persistence_config=config(tmp_path / name) if persistent else None,
        )
        for name in ("first", "second")
    ]
    outcomes = await asyncio.gather(*runs, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes if outcome is not None] == [OutputError]
    assert (tmp_path / "out.csv").read_text().splitlines()[1].startswith("x,1000,")
