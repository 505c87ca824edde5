"""Roots of every format there ever was, written by the code of that time: they are read, and gone on with exactly."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

import asyncpersist as ap
from asyncpersist.checkpoint.manifest import FORMAT, checksum, decode, seal
from asyncpersist.checkpoint.upgrades import UPGRADES
from asyncpersist.errors import NewerFormat
from asyncpersist.testing.clocks import ManualClock
from tests.cli.conftest import Command, command
from tests.golden import make
from tests.golden.job import MODES, OUTPUTS, ROUNDS, define, expected, write_round
from tests.main_job.stream import final_rows

__all__ = ["command"]

HERE = Path(__file__).parent
VERSIONS = sorted(int(path.name[1:]) for path in HERE.glob("v*"))
ROOTS = [(version, folder) for version in VERSIONS for folder in MODES]


@pytest.fixture(params=ROOTS, ids=lambda root: f"v{root[0]}-{root[1]}")
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """A copy of a golden root, which is the current directory."""
    version, folder = request.param
    shutil.copytree(HERE / f"v{version}" / folder, tmp_path / "golden")
    monkeypatch.chdir(tmp_path / "golden")
    return version, folder


def files(place: Path) -> dict[Path, str]:
    return {path: checksum(path.read_bytes()) for path in sorted(place.rglob("*")) if path.is_file()}


def run(mode: str) -> None:
    async def once() -> None:
        clock = ManualClock(start=1_700_100_000.0, seed=7)
        config = ap.persistence.Config(
            ap.persistence.Backend.filesystem("state"),
            snapshot_interval_ms=0,
            persistence_mode=ap.persistence.PersistenceMode[mode],
            retain_snapshots=2,
        )
        async with ap.Runtime(define(), persistence_config=config, clock=clock) as runtime:
            await runtime.wait()

    asyncio.run(once())


def assert_exact() -> None:
    right = expected()
    for output, keys in OUTPUTS.items():
        assert final_rows(Path("out") / output, keys=keys) == right[output], output


def test_there_is_one_of_each_version_and_a_way_from_each_to_the_next() -> None:
    assert list(range(1, FORMAT + 1)) == VERSIONS
    assert sorted(UPGRADES) == list(range(1, FORMAT))


def test_every_command_reads_it_and_changes_nothing(command: Command, root: tuple[int, str]) -> None:
    version, folder = root
    manifests = [decode(path.read_bytes(), "") for path in sorted(Path("state/manifests").iterdir())]
    before = files(Path("state"))
    listed = command("snapshots", "state", "--json").json
    assert (listed["damage"], listed["owner"]["status"]) == (None, "released")
    assert [entry["sequence"] for entry in listed["snapshots"]] == [m.sequence for m in reversed(manifests)]
    assert [name for entry in listed["snapshots"] for name in entry["names"]] == [make.NAME][: version - 1]
    assert command("verify", "state").code == 0
    for manifest in manifests:
        facts = command("inspect", "state", "--at", manifest.sequence, "--json").json
        assert (facts["mode"], facts["sequence"]) == (MODES[folder], manifest.sequence)
        assert {stream["stream"]: stream["rows"] for stream in facts["streams"]} == {
            name: sum(ref.rows for ref in refs) for name, refs in manifest.streams.items()
        }
    (groups, *_) = command("inspect", "state", "group_by", "--json").json["states"]
    assert {(row["word"], str(row["__weight"])) for row in groups["first"]} == {
        row[:2] for row in expected()["counts.csv"]
    }
    assert command("diff", "state", manifests[0].sequence, manifests[-1].sequence).code == 0
    assert command("prune", "state").code == 0
    assert files(Path("state")) == before


def test_a_run_goes_on_from_it_exactly(command: Command, root: tuple[int, str]) -> None:
    assert_exact()
    write_round(ROUNDS)
    run(MODES[root[1]])
    assert_exact()
    Path("in/lines/0.jsonl").unlink()
    Path("in/prices/1.csv").unlink()
    run(MODES[root[1]])
    assert_exact()
    newest = decode(max(Path("state/manifests").iterdir()).read_bytes(), "")
    assert newest.format == FORMAT
    assert command("verify", "state").code == 0


def test_an_older_snapshot_of_it_is_gone_on_with_exactly(command: Command, root: tuple[int, str]) -> None:
    oldest = command("snapshots", "state", "--json").json["snapshots"][-1]["sequence"]
    assert command("restore", "state", "--to", oldest, "--yes").code == 0
    write_round(ROUNDS)
    run(MODES[root[1]])
    assert_exact()
    assert command("verify", "state").code == 0


def test_a_copy_of_it_is_as_old_as_it_is(command: Command, root: tuple[int, str]) -> None:
    assert command("copy", "state", "copied").code == 0
    before = files(Path("state"))
    for path, sum_ in files(Path("copied")).items():
        assert before[Path("state") / path.relative_to("copied")] == sum_
    assert command("verify", "copied").code == 0


def test_one_of_a_newer_format_is_refused_whatever_its_marker_says(root: tuple[int, str]) -> None:
    """What a version of now does with a manifest of later, every version did: the marker is written only once."""
    content = b'{"format":%d,"sequence":99}' % (FORMAT + 1)
    Path("state/manifests/000000000099.json").write_bytes(seal(content))
    before = files(Path())
    with pytest.raises(NewerFormat, match=f"format {FORMAT + 1}"):
        run(MODES[root[1]])
    assert files(Path()) == before
