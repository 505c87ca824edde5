"""`asyncpersist prune`."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
import typer

from asyncpersist.checkpoint.root import Root
from asyncpersist.cli.prune import duration
from asyncpersist.clock import SystemClock
from asyncpersist.objectstore.filesystem import FilesystemStore
from tests.cli.conftest import Command, Job
from tests.main_job.stream import final_rows, word_counts


def kept(command: Command, job: Job) -> list[int]:
    listed = command("snapshots", job.state, "--json").json["snapshots"]
    return [entry["sequence"] for entry in listed if entry["kept"] and not entry["head"]]


def test_it_says_what_it_would_delete_and_deletes_just_that(command: Command, job: Job) -> None:
    before, were = job.files(), kept(command, job)
    said = command("prune", job.state, "--retain-snapshots", 2)
    planned = command("prune", job.state, "--retain-snapshots", 2, "--json").json
    assert job.files() == before
    assert (said.code, planned["done"], planned["refusals"]) == (0, False, [])
    assert planned["kept"] == were[:2]
    assert planned["expired"] == were[2:]
    assert f"snapshots: {', '.join(map(str, were[2:]))}\n" in said.out
    assert f"bytes: {planned['bytes']}\n" in said.out
    assert "Nothing was changed. To do it, say --yes." in said.out
    done = command("prune", job.state, "--retain-snapshots", 2, "--yes", "--json").json
    assert {**done, "done": False} == planned
    gone = {str(path.relative_to(job.state)) for path in before.keys() - job.files().keys()}
    head = str(max((job.state / "manifests").iterdir()).relative_to(job.state))
    replaced = max(key for key in gone if key.startswith("manifests/"))
    assert set(planned["keys"]) == gone - {replaced}
    assert replaced < head
    assert planned["objects"] == sum(key.startswith("objects/") for key in gone)
    assert planned["bytes"] == sum(len(before[job.state / key][0]) for key in planned["keys"]) > 0
    assert kept(command, job) == were[:2]
    assert command("verify", job.state).code == 0
    again = command("prune", job.state, "--retain-snapshots", 2, "--yes")
    assert "nothing to be deleted" in again.out
    job.run(150, 4)
    assert final_rows(job.output, keys=1) == word_counts(job.folder)


def test_without_limits_no_snapshot_goes(command: Command, job: Job) -> None:
    were = kept(command, job)
    (job.state / "objects" / "g00000001-0000.arrow").write_bytes(b"an orphan")
    facts = command("prune", job.state, "--yes", "--json").json
    assert "objects/g00000001-0000.arrow" in facts["keys"]
    assert (facts["expired"], facts["objects"], facts["kept"]) == ([], 1, were)
    assert kept(command, job) == were


def test_a_named_one_stays(command: Command, job: Job) -> None:
    oldest = kept(command, job)[-1]
    assert command("snapshots", job.state, "--keep", "oldest", "--number", oldest).code == 0
    assert command("prune", job.state, "--retain-for", "0s", "--yes").code == 0
    assert kept(command, job)[1:] == [oldest]
    assert command("restore", job.state, "--to", "oldest", "--yes").code == 0
    job.again()
    assert final_rows(job.output, keys=1) == word_counts(job.folder)
    assert command("verify", job.state).code == 0


def test_a_running_owner_is_not_robbed(command: Command, job: Job) -> None:
    async def beside() -> None:
        root = await Root.open(FilesystemStore(job.state), clock=SystemClock())
        await root.claim(mode="PERSISTING", access="FULL")
        before = job.files()
        would = await asyncio.to_thread(command, "prune", job.state, "--retain-snapshots", 1)
        facts = await asyncio.to_thread(command, "prune", job.state, "--retain-snapshots", 1, "--json")
        does = await asyncio.to_thread(command, "prune", job.state, "--retain-snapshots", 1, "--yes")
        assert job.files() == before
        assert [outcome.code for outcome in (would, facts, does)] == [1, 1, 1]
        assert "It would be refused: the state is in use by" in would.out
        assert len(facts.json["refusals"]) == 1
        deposing = await asyncio.to_thread(command, "prune", job.state, "--takeover", "--json")
        assert (deposing.code, deposing.json["refusals"]) == (0, [])
        assert "is in use by" in does.err
        taken = await asyncio.to_thread(
            command, "prune", job.state, "--retain-snapshots", 1, "--yes", "--takeover", "--json"
        )
        assert taken.json["done"]
        root.abandon()
        await root.store.aclose()

    asyncio.run(beside())
    job.again()
    assert final_rows(job.output, keys=1) == word_counts(job.folder)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("7d", timedelta(days=7)),
        ("12h", timedelta(hours=12)),
        ("30m", timedelta(minutes=30)),
        ("45s", timedelta(seconds=45)),
        ("1.5w", timedelta(weeks=1.5)),
    ],
)
def test_spans(text: str, span: timedelta) -> None:
    assert duration(text) == span


@pytest.mark.parametrize("text", ["", "7", "d", "7 d", "-7d", "7y", "9" * 20 + "w"])
def test_what_is_no_span(command: Command, job: Job, text: str) -> None:
    with pytest.raises(typer.BadParameter):
        duration(text)
    before = job.files()
    assert command("prune", job.state, f"--retain-for={text}", "--yes").code == 2
    assert job.files() == before


def test_a_state_without_a_snapshot(command: Command, job: Job) -> None:
    facts: dict[str, Any] = {}

    async def claim() -> None:
        root = await Root.open(FilesystemStore(job.state.parent / "fresh"), clock=SystemClock())
        await root.claim(mode="PERSISTING", access="FULL")
        await root.release()
        await root.store.aclose()

    asyncio.run(claim())
    facts = command("prune", job.state.parent / "fresh", "--yes", "--json").json
    assert (facts["keys"], facts["done"]) == ([], False)
