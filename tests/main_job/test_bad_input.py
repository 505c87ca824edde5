"""What cannot be is refused with an error of its own that names the thing, and changes nothing on disk."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import asyncpersist as ap
from asyncpersist import errors
from asyncpersist.testing.disks import FullDisk
from tests.main_job.job import Line, config, count, define
from tests.main_job.stream import final_rows, word_counts


class Place:
    """A folder with an input, and where the job writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder, self.output, self.state = path / "in", path / "out.csv", path / "state"
        self.folder.mkdir()
        self.write("a.jsonl", "x", "y", "x")

    def write(self, name: str, *words: str) -> None:
        (self.folder / name).write_text("".join(json.dumps({"word": word}) + "\n" for word in words))

    async def count(self, **settings: object) -> None:
        await count(self.folder, self.output, self.state, **settings)

    def objects(self, prefix: str) -> list[Path]:
        return sorted(path for path in (self.state / prefix).iterdir())

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        before = self._contents()
        yield
        assert self._contents() == before

    def _contents(self) -> dict[str, bytes | None]:
        return {
            str(path.relative_to(self.path)): path.read_bytes() if path.is_file() else None
            for path in self.path.rglob("*")
        }


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def refused(place: Place, error: type[Exception], *names: object, **settings: object) -> None:
    with place.unchanged(), pytest.raises(error) as caught:
        await place.count(**settings)
    for name in names:
        assert str(name) in str(caught.value)


async def test_a_malformed_line(place: Place) -> None:
    await place.count()
    (place.folder / "b.jsonl").write_text('{"word": "z"}\n{"word": oops}\n')
    with pytest.raises(errors.MalformedInput) as caught:
        await place.count()
    for part in ("b.jsonl", "2", "oops"):
        assert part in str(caught.value)
    place.write("b.jsonl", "z")
    await place.count()
    assert final_rows(place.output, keys=1) == word_counts(place.folder)


async def test_malformed_lines_are_skipped_and_kept(place: Place, tmp_path: Path) -> None:
    (place.folder / "b.jsonl").write_text('{"word": "z"}\n{"word": oops}\n{"word": 5}\n')
    letters = tmp_path / "dead.jsonl"
    with ap.Graph() as graph:
        lines = ap.io.jsonlines.read(place.folder, schema=Line, mode="static", on_error="skip", dead_letters=letters)
        ap.io.csv.write(lines.reduce(n=ap.reducers.count()), place.output)
    async with ap.Runtime(graph, persistence_config=config(place.state)) as runtime:
        await runtime.wait()
    assert runtime.statistics().rows_skipped == 2
    assert final_rows(place.output, keys=0) == {("4",)}
    assert [json.loads(line)["line"] for line in letters.read_text().splitlines()] == [2, 3]


async def test_a_missing_input(place: Place) -> None:
    missing = place.path / "nowhere"
    with place.unchanged(), pytest.raises(errors.InputNotFound, match="nowhere"):
        await count(missing, place.output, place.state)


async def test_a_state_directory_that_cannot_be_made(place: Place) -> None:
    (place.path / "file").write_text("")
    place.state = place.path / "file" / "state"
    await refused(place, errors.StateUnwritable, place.path / "file")


async def test_the_directory_of_another_program(place: Place) -> None:
    place.state.mkdir()
    (place.state / "letters.txt").write_text("Dear ...")
    await refused(place, errors.ForeignRoot, place.state, "letters.txt")


async def test_a_newer_format(place: Place) -> None:
    await place.count()
    marker = place.state / "asyncpersist.json"
    content = json.loads(marker.read_text())
    newer = json.dumps(content).replace('"format": 1', '"format": 99')
    if "sha256" in content:
        from asyncpersist.checkpoint.manifest import seal

        newer = seal(json.dumps(content["content"] | {"format": 99}).encode()).decode()
    marker.write_text(newer)
    await refused(place, errors.NewerFormat, place.state, "99")


def _truncate(path: Path, part: slice) -> None:
    path.write_bytes(path.read_bytes()[: part.stop - 10])


def _flip(path: Path, part: slice) -> None:
    data = bytearray(path.read_bytes())
    data[(part.start + part.stop) // 2] ^= 1
    path.write_bytes(data)


def _unlink(path: Path, part: slice) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [_truncate, _flip, _unlink], ids=["truncated", "flipped", "missing"])
@pytest.mark.parametrize("prefix", ["objects", "manifests"])
async def test_a_damaged_object(place: Place, prefix: str, damage: Callable[[Path, slice], None]) -> None:
    await place.count()
    place.write("b.jsonl", "z")
    await place.count()
    head = json.loads(place.objects("manifests")[-1].read_text())["content"]
    if prefix == "objects":
        loaded = [ref for name, refs in head["streams"].items() if not name.startswith("log/") for ref in refs]
        starts = [(place.state / ref["key"], ref.get("start", 0), ref["length"]) for ref in loaded]
        targets = [(path, slice(start, start + length)) for path, start, length in starts]
    else:
        manifests = place.objects("manifests")[-2:]
        targets = [(path, slice(0, path.stat().st_size)) for path in manifests if damage is not _unlink]
    for target, part in targets:
        kept = target.read_bytes()
        damage(target, part)
        await refused(place, errors.DamagedState, target.name)
        target.write_bytes(kept)
    await place.count()
    assert final_rows(place.output, keys=1) == word_counts(place.folder)


async def test_a_root_whose_owner_runs(place: Place) -> None:
    program = (
        "import asyncio, sys\n"
        "import asyncpersist as ap\n"
        "from pathlib import Path\n"
        "from tests.main_job.job import config, define\n"
        "async def main():\n"
        "    folder, output, state = map(Path, sys.argv[1:])\n"
        "    async with ap.Runtime(define(folder, output), persistence_config=config(state)) as runtime:\n"
        "        print('ready', flush=True)\n"
        "        sys.stdin.read()\n"
        "asyncio.run(main())\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program, place.folder, place.output, place.state],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert owner.stdin is not None
    assert owner.stdout is not None
    try:
        assert await asyncio.to_thread(owner.stdout.readline) == b"ready\n"
        await refused(place, errors.StateInUse, place.state, owner.pid)
    finally:
        owner.stdin.close()
        owner.wait()
        owner.stdout.close()
    await place.count()
    assert final_rows(place.output, keys=1) == word_counts(place.folder)


@pytest.mark.parametrize("edit", ["changed", "shortened", "deleted"])
async def test_an_output_that_somebody_edited(place: Place, edit: str) -> None:
    await place.count()
    kept = place.output.read_bytes()
    if edit == "changed":
        place.output.write_bytes(kept.replace(b"x,2", b"x,3"))
    elif edit == "shortened":
        place.output.write_bytes(kept[:-4])
    else:
        place.output.unlink()
    place.write("b.jsonl", "z")
    await refused(place, errors.OutputChanged, place.output)
    place.output.write_bytes(kept)
    await place.count()
    assert final_rows(place.output, keys=1) == word_counts(place.folder)


async def test_an_output_that_is_somebody_elses(place: Place) -> None:
    place.output.write_text("precious\n")
    await refused(place, errors.OutputNotEmpty, place.output)


async def test_a_changed_graph_is_refused(place: Place) -> None:
    await place.count()
    with ap.Graph() as graph:
        lines = ap.io.jsonlines.read(place.folder, schema=Line, mode="static", name="lines")
        counts = lines.filter(ap.this.word != "x").groupby(ap.this.word).reduce(ap.this.word, n=ap.reducers.count())
        ap.io.csv.write(counts, place.output)
    with place.unchanged(), pytest.raises(errors.GraphChanged) as caught:
        await ap.run(graph, persistence_config=config(place.state))
    for part in (place.state, "added", "removed", "filter"):
        assert str(part) in str(caught.value)


async def test_reordering_and_renaming_definitions_is_no_change(place: Place) -> None:
    other = place.path / "other.csv"

    def first() -> ap.Graph:
        with ap.Graph() as graph:
            lines = ap.io.jsonlines.read(place.folder, schema=Line, mode="static")
            ap.io.csv.write(lines.groupby(ap.this.word).reduce(ap.this.word, n=ap.reducers.count()), place.output)
            ap.io.csv.write(lines.reduce(n=ap.reducers.count()), other)
        return graph

    def second() -> ap.Graph:
        with ap.Graph() as graph:
            renamed = ap.io.jsonlines.read(place.folder, schema=Line, mode="static")
            ap.io.csv.write(renamed.reduce(n=ap.reducers.count()), other)
            groups = renamed.groupby(ap.this.word)
            ap.io.csv.write(groups.reduce(ap.this.word, n=ap.reducers.count()), place.output)
        return graph

    await ap.run(first(), persistence_config=config(place.state))
    place.write("b.jsonl", "z")
    await ap.run(second(), persistence_config=config(place.state))
    assert final_rows(place.output, keys=1) == word_counts(place.folder)
    assert final_rows(other, keys=0) == {("4",)}


async def test_a_full_disk_says_so_and_is_survived(place: Place) -> None:
    for room in range(0, 6000, 400):
        with pytest.raises((errors.StoreUnavailable, errors.OutputError, OSError), match=r"(?i)full|no space"):
            await asyncio.wait_for(_count_on_full_disk(place, room), 20)
    await place.count()
    assert final_rows(place.output, keys=1) == word_counts(place.folder)


async def _count_on_full_disk(place: Place, room: int) -> None:
    async with ap.Runtime(
        _define(place), persistence_config=config(place.state), disk=FullDisk(room), shutdown_timeout=0.01
    ) as runtime:
        await runtime.wait()
    raise OSError("the disk never ran full")


def _define(place: Place) -> ap.Graph:
    from tests.main_job.job import define

    return define(place.folder, place.output)


async def test_two_outputs_on_one_path(place: Place) -> None:
    with ap.Graph() as graph:
        lines = ap.io.jsonlines.read(place.folder, schema=Line, mode="static")
        ap.io.csv.write(lines, place.output)
        ap.io.csv.write(lines, os.path.relpath(place.output))
    with place.unchanged(), pytest.raises(errors.GraphError, match=r"out\.csv"):
        await ap.run(graph)


@pytest.mark.parametrize("output", ["in/counts.csv", "in/a.jsonl"])
async def test_an_output_that_would_be_read_as_input(place: Place, output: str) -> None:
    place.output = place.path / output
    await refused(place, errors.GraphError, place.output, "write it somewhere else")


async def test_a_state_directory_that_would_be_read_as_input(place: Place) -> None:
    place.state = place.folder / "deep" / "state"
    await refused(place, errors.StateError, place.state, "name another directory")
    place.folder = place.folder / "*.jsonl"
    await place.count()
    await place.count()
    assert final_rows(place.output, keys=1) == {("x", "2"), ("y", "1")}


async def test_the_working_directory_may_change_during_a_run(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.path)
    for number in range(20):
        place.write(f"{number}.jsonl", "x")
    relative = define(Path("in"), Path("out.csv"), chunk=1)
    async with ap.Runtime(relative, persistence_config=config(Path("state"))) as runtime:
        monkeypatch.chdir("/")
        await runtime.wait()
    assert final_rows(place.output, keys=1) == word_counts(place.folder)


async def test_dead_letters_where_they_would_be_read_or_cannot_be_kept(place: Place) -> None:
    for letters, error, said in (
        (place.folder / "bad.jsonl", errors.GraphError, "would take for input"),
        (place.path / "nowhere" / "bad.jsonl", errors.InputError, "there is no directory"),
    ):
        with ap.Graph() as graph:
            one = ap.io.jsonlines.read(
                place.path / "*.json", schema=Line, mode="static", on_error="skip", dead_letters=letters
            )
            two = ap.io.jsonlines.read(place.folder, schema=Line, mode="static")
            ap.io.csv.write(one.concat(two), place.output)
        (place.path / "one.json").write_text("")
        with place.unchanged(), pytest.raises(error, match=said):
            await ap.run(graph, persistence_config=config(place.state))
