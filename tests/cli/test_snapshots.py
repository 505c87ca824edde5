"""`asyncpersist snapshots`."""

from __future__ import annotations

import asyncio
import calendar
import time
from pathlib import Path

import pytest

from asyncpersist.checkpoint.layout import manifest_key
from asyncpersist.checkpoint.root import Root
from asyncpersist.cli.history import read_history
from asyncpersist.clock import SystemClock
from asyncpersist.objectstore.contract import Entry
from asyncpersist.objectstore.filesystem import FilesystemStore
from tests.cli.conftest import Command, Job


def test_a_line_each_the_newest_first(command: Command, job: Job) -> None:
    before = job.files()
    done = command("snapshots", job.state)
    facts = command("snapshots", job.state, "--json").json
    assert job.files() == before
    assert done.code == 0
    header, *lines, owner = done.out.splitlines()
    assert header.split()[:3] == ["number", "kind", "epoch"]
    sequences = [entry["sequence"] for entry in facts["snapshots"]]
    assert sequences == sorted((int(path.stem) for path in (job.state / "manifests").iterdir()), reverse=True)
    assert [int(line.split()[0]) for line in lines] == sequences
    assert [line.endswith("head") for line in lines] == [True] + [False] * (len(lines) - 1)
    assert owner.endswith("it ended cleanly")


def test_what_it_says_of_a_snapshot(command: Command, job: Job) -> None:
    facts = command("snapshots", job.state, "--json").json
    head, first = facts["snapshots"][0], facts["snapshots"][-1]
    assert facts["state"] == str(job.state)
    assert facts["damage"] is None
    assert (facts["owner"]["status"], facts["owner"]["running"]) == ("released", False)
    assert (head["kind"], head["head"], head["kept"], head["damage"]) == ("release", True, True, None)
    assert head["rows_read"] == 450
    assert 0 < head["bytes"] <= sum(path.stat().st_size for path in (job.state / "objects").iterdir())
    last_epoch = max(int(line.split(",")[-2]) for line in job.output.read_text().splitlines()[1:])
    assert head["epoch"] >= last_epoch
    for key, seconds in (("epoch_utc", head["epoch"] / 1000), ("written_utc", head["written_at"])):
        assert calendar.timegm(time.strptime(head[key], "%Y-%m-%d %H:%M:%S UTC")) == int(seconds)
    assert first["kind"] == "snapshot"
    epochs = [entry["epoch"] for entry in facts["snapshots"]]
    assert epochs == sorted(epochs, reverse=True)


def test_the_rows_of_a_log_are_what_was_read(command: Command, job: Job) -> None:
    streams = {stream["stream"]: stream for stream in command("inspect", job.state, "--json").json["streams"]}
    head = command("snapshots", job.state, "--json").json["snapshots"][0]
    assert head["rows"] == sum(stream["rows"] for stream in streams.values())
    assert head["bytes"] == sum(stream["bytes"] for stream in streams.values())


def test_whether_the_owner_runs(command: Command, tmp_path: Path) -> None:
    async def look() -> tuple[str, str]:
        root = await Root.open(FilesystemStore(tmp_path / "state"), clock=SystemClock())
        await root.claim(mode="PERSISTING", access="FULL")
        running = await asyncio.to_thread(command, "snapshots", tmp_path / "state")
        facts = await asyncio.to_thread(command, "snapshots", tmp_path / "state", "--json")
        root.abandon()
        ended = await asyncio.to_thread(command, "snapshots", tmp_path / "state")
        await root.store.aclose()
        assert facts.json["owner"]["running"] is True
        (claim,) = facts.json["snapshots"]
        assert (claim["kind"], claim["epoch"], claim["epoch_utc"], claim["bytes"]) == ("claim", 0, None, 0)
        assert "nothing stepped yet" in running.out
        return running.out, ended.out

    running, ended = asyncio.run(look())
    assert running.splitlines()[-1].endswith(": running")
    assert ended.splitlines()[-1].endswith("not running any more, it did not end cleanly")


def test_damaged_manifests_are_told(command: Command, job: Job) -> None:
    sequences = [entry["sequence"] for entry in command("snapshots", job.state, "--json").json["snapshots"]]
    (job.state / "manifests" / f"{sequences[0]:012}.json").write_bytes(b"")
    done = command("snapshots", job.state)
    facts = command("snapshots", job.state, "--json").json
    assert done.code == 0
    assert "damaged: it is not complete" in done.out.splitlines()[1]
    assert f"asyncpersist restore {job.state} --to {sequences[1]}" in done.out
    assert facts["damage"] in done.out
    assert [entry["sequence"] for entry in facts["snapshots"]] == sequences
    assert [entry["damage"] is None for entry in facts["snapshots"]] == [False] + [True] * (len(sequences) - 1)


def test_when_nothing_can_be_read(command: Command, job: Job) -> None:
    for path in (job.state / "manifests").iterdir():
        path.write_bytes(path.read_bytes()[:-9])
    done = command("snapshots", job.state)
    assert done.code == 0
    assert "owner: not known" in done.out
    assert command("snapshots", job.state, "--json").json["owner"] is None
    assert command("verify", job.state).code == 1


@pytest.mark.parametrize("name", ["snapshots", "inspect", "verify", "restore", "prune", "diff"])
def test_what_is_no_state_is_refused_in_one_line(command: Command, tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("precious")
    for state, said in (
        ("s3://bucket/prefix", "there are no AWS credentials. Set AWS_ACCESS_KEY_ID"),
        ("az://container/prefix", "Set AZURE_STORAGE_ACCOUNT"),
        ("gs://bucket/prefix", "states under gs:// are not built"),
        (tmp_path / "nowhere", "holds no state"),
        (tmp_path / "empty", "holds no state"),
        (tmp_path / "other", "mine.txt"),
        (tmp_path / "other" / "mine.txt", "Not a directory"),
    ):
        more = {"restore": ["--to", "1"], "diff": [state]}.get(name, [])
        done = command(name, state, *more)
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith("asyncpersist: ")
        assert done.err.count("\n") == 1
        assert said in done.err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["empty", "mine.txt", "other"]


class Hasty(FilesystemStore):
    """Lists a manifest that is deleted before it can be read."""

    async def list(self, prefix: str = "", *, limit: int | None = None) -> list[Entry]:
        return [Entry(manifest_key(1), 9), *await super().list(prefix, limit=limit)]


def test_a_manifest_that_a_running_owner_deletes_meanwhile_is_not_damaged(job: Job) -> None:
    assert not (job.state / manifest_key(1)).exists()
    history = asyncio.run(read_history(Hasty(job.state)))
    assert history.fault is None
    assert 1 not in [entry.sequence for entry in history.entries]


def named(command: Command, job: Job) -> dict[str, int]:
    listed = command("snapshots", job.state, "--json").json["snapshots"]
    return {name: entry["sequence"] for entry in listed for name in entry["names"]}


def test_names_are_given_and_taken_away(command: Command, job: Job) -> None:
    listed = command("snapshots", job.state, "--json").json["snapshots"]
    newest = next(entry["sequence"] for entry in listed if entry["kind"] == "snapshot")
    oldest = listed[-1]["sequence"]
    told = command("snapshots", job.state, "--keep", "before the change")
    assert told.code == 0
    assert "before the change" in next(line for line in told.out.splitlines() if line.split()[0] == str(newest))
    command("snapshots", job.state, "--keep", "old", "--number", oldest)
    assert named(command, job) == {"before the change": newest, "old": oldest}
    for seed in (4, 5, 6):
        job.run(150, seed, retain_snapshots=1)
    assert named(command, job) == {"before the change": newest, "old": oldest}
    verified = command("verify", job.state, "--json").json
    assert verified["damaged"] == []
    assert command("inspect", job.state, "--at", "old", "--json").json["rows_read"] == listed[-1]["rows_read"]
    assert command("snapshots", job.state, "--drop", "old").code == 0
    (entry,) = [e for e in command("snapshots", job.state, "--json").json["snapshots"] if e["sequence"] == oldest]
    assert (entry["names"], entry["kept"]) == ([], False)
    job.run(150, 7, retain_snapshots=1)
    left = [entry["sequence"] for entry in command("snapshots", job.state, "--json").json["snapshots"]]
    assert newest in left
    assert oldest not in left


def test_damage_of_a_named_one_is_found_and_told(command: Command, job: Job) -> None:
    oldest = command("snapshots", job.state, "--json").json["snapshots"][-1]["sequence"]
    command("snapshots", job.state, "--keep", "old one", "--number", oldest)
    for seed in (4, 5):
        job.run(150, seed, retain_snapshots=1)
    newest = max((job.state / "manifests").iterdir())
    head = newest.read_bytes()
    newest.write_bytes(b"{}")
    listed = command("snapshots", job.state, "--json").json["snapshots"]
    assert (listed[-1]["sequence"], listed[-1]["kept"]) == (oldest, True), "also where the head is damaged"
    newest.write_bytes(head)
    (job.state / manifest_key(oldest)).write_bytes(b"{}")
    told = command("snapshots", job.state)
    assert "--drop 'old one'` to do without that snapshot" in told.out
    assert command("verify", job.state).code == 1
    assert command("snapshots", job.state, "--drop", "old one").code == 0
    assert command("verify", job.state).code == 0
    job.again()


@pytest.mark.parametrize("name", ["", "7", "a/b", "a@b"])
def test_what_cannot_be_a_name(command: Command, job: Job, name: str) -> None:
    before = job.files()
    done = command("snapshots", job.state, f"--keep={name}")
    assert (done.code, job.files()) == (2, before)
    assert "cannot be the name of a snapshot" in " ".join(done.err.replace("│", " ").split())


def test_what_is_not_there_cannot_be_named_or_forgotten(command: Command, job: Job) -> None:
    before = job.files()
    for arguments, said in (
        (["--keep", "x", "--number", 999], "has no snapshot 999; it has"),
        (["--keep", "x", "--number", 1], "has no snapshot 1 any more; it has"),
        (["--drop", "x"], "keeps no snapshot by the name 'x'; its names are: none"),
    ):
        done = command("snapshots", job.state, *arguments)
        assert (done.code, done.out) == (1, "")
        assert said in done.err
    assert command("snapshots", job.state, "--number", 3).code == 2
    assert job.files() == before


@pytest.mark.parametrize("arguments", [["--keep", "x"], ["--drop", "old"]])
def test_names_are_the_owners_matter_while_it_runs(command: Command, job: Job, arguments: list[str]) -> None:
    async def beside() -> None:
        root = await Root.open(FilesystemStore(job.state), clock=SystemClock())
        await root.claim(mode="PERSISTING", access="FULL")
        before = job.files()
        refused = await asyncio.to_thread(command, "snapshots", job.state, *arguments)
        assert (refused.code, refused.out, job.files()) == (1, "", before)
        assert "is in use by" in refused.err
        assert (await asyncio.to_thread(command, "snapshots", job.state, *arguments, "--takeover")).code == 0
        root.abandon()
        await root.store.aclose()

    assert command("snapshots", job.state, "--keep", "old").code == 0
    asyncio.run(beside())
    assert set(named(command, job)) == ({"old", "x"} if "x" in arguments else set())
    job.again()
