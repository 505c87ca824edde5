"""`asyncpersist run --record` and `asyncpersist replay`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import asyncpersist as ap
from tests.cli.conftest import Command, Outcome
from tests.main_job.stream import final_rows

JOB = """
import asyncpersist as ap

class Line(ap.Schema):
    word: str

def count(output):
    with ap.Graph() as made:
        lines = ap.io.jsonlines.read("input", schema=Line, mode="static")
        counts = lines.groupby(ap.this.word).reduce(ap.this.word, count=ap.reducers.count())
        ap.io.csv.write(counts, output)
    return made

first = count("counts.csv")
again = count("again.csv")
"""


@pytest.fixture
def here(tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Outcome]]:
    """`asyncpersist` in this process, in a directory of its own."""
    (tmp_path / "input").mkdir()
    (tmp_path / "job.py").write_text(JOB)
    put(tmp_path, "a", "a", "b", "a")
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)

    def run(*arguments: str) -> Outcome:
        sys.modules.pop("job", None)
        return command(*arguments)

    yield run
    sys.path[:] = path
    sys.modules.pop("job", None)


def put(place: Path, name: str, *words: str) -> None:
    (place / "input" / f"{name}.jsonl").write_text("".join(json.dumps({"word": word}) + "\n" for word in words))


def tree(place: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("mode", ["batch", "speedrun", "realtime"])
def test_a_recording_is_given_again(tmp_path: Path, here: Callable[..., Outcome], mode: str) -> None:
    done = here("run", "job:first", "--record", "recording")
    assert done.code == 0, done.err
    assert "records into" in done.err
    assert final_rows(tmp_path / "counts.csv", keys=1) == {("a", "2"), ("b", "1")}
    (tmp_path / "input" / "a.jsonl").unlink()
    before = tree(tmp_path / "recording")
    done = here("replay", "job:again", "recording", "--mode", mode)
    assert done.code == 0, done.err
    assert "which is only read" in done.err
    assert "end of the replay: 3 rows read" in done.err
    assert tree(tmp_path / "recording") == before
    if mode == "batch":
        assert final_rows(tmp_path / "again.csv", keys=1) == {("a", "2"), ("b", "1")}
    else:
        assert sorted(text_lines(tmp_path / "again.csv")) == sorted(text_lines(tmp_path / "counts.csv"))


def test_it_goes_on_with_what_is_there_now(tmp_path: Path, here: Callable[..., Outcome]) -> None:
    assert here("run", "job:first", "--record", "recording").code == 0
    put(tmp_path, "later", "c", "a")
    done = here("replay", "job:again", "recording", "--continue", "--json")
    assert done.code == 0, done.err
    started, *_, ended = map(json.loads, done.out.splitlines())
    assert (started["access"], started["mode"]) == ("replay", "speedrun_replay")
    assert (ended["reason"], ended["rows_read"], ended["committed"]) == ("end of input", 5, None)
    assert final_rows(tmp_path / "again.csv", keys=1) == {("a", "3"), ("b", "1"), ("c", "1")}


def test_the_state_of_a_run_that_goes_on_is_only_read(tmp_path: Path, here: Callable[..., Outcome]) -> None:
    assert here("run", "job:first", "--state", "state").code == 0
    before = tree(tmp_path)
    assert here("replay", "job:again", "state").code == 0
    assert {name: data for name, data in tree(tmp_path).items() if name in before} == before
    assert final_rows(tmp_path / "again.csv", keys=1) == {("a", "2"), ("b", "1")}
    done = here("replay", "job:first", "state")
    assert done.code == 1
    assert "counts.csv belongs to the runs whose state is in" in done.err
    assert tree(tmp_path / "state") == {n: d for n, d in before.items() if f"{tmp_path}/state/" in n}


def test_what_is_refused(here: Callable[..., Outcome]) -> None:
    done = here("replay", "job:first", "nowhere")
    assert done.code == 1
    assert "holds nothing to replay" in done.err
    assert here("run", "job:first", "--record", "recording").code == 0
    done = here("run", "job:first", "--record", "recording")
    assert done.code == 1
    assert "RECORD only writes to an empty place" in done.err
    done = here("run", "job:first", "--record", "other", "--state", "state")
    assert done.code == 2
    assert "a recording keeps no state" in done.err
    assert here("run", "job:first", "--record", "other", "--takeover").code == 2
    assert here("replay", "job:first", "recording", "--mode", "slowly").code == 2


def test_a_recording_is_what_the_configuration_makes(tmp_path: Path, here: Callable[..., Outcome]) -> None:
    assert here("run", "job:first", "--record", "recording").code == 0
    with ap.Graph() as graph:
        lines = ap.io.jsonlines.read("input", schema=ap.schema_from_types(word=str), mode="static")
        ap.io.jsonlines.write(lines, "words.jsonl")
    config = ap.persistence.Config(
        ap.persistence.Backend.filesystem("recording"),
        persistence_mode=ap.PersistenceMode.BATCH,
        snapshot_access=ap.SnapshotAccess.REPLAY,
        continue_after_replay=False,
    )
    asyncio.run(ap.run(graph, persistence_config=config))
    assert sorted(json.loads(line)["word"] for line in text_lines(tmp_path / "words.jsonl")) == ["a", "a", "b"]


def text_lines(path: Path) -> list[str]:
    return path.read_text().splitlines()
