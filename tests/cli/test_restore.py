"""`asyncpersist restore`."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable

import pytest

from asyncpersist.checkpoint import root as root_module
from asyncpersist.checkpoint.manifest import decode
from asyncpersist.checkpoint.processes import this_process
from asyncpersist.checkpoint.root import Root
from asyncpersist.clock import SystemClock
from asyncpersist.errors import DamagedState
from asyncpersist.objectstore.filesystem import FilesystemStore
from tests.cli.conftest import Command, Job
from tests.main_job.stream import final_rows, word_counts


def snapshots(command: Command, job: Job) -> list[dict[str, object]]:
    listed: list[dict[str, object]] = command("snapshots", job.state, "--json").json["snapshots"]
    return listed


def middle(command: Command, job: Job) -> int:
    """A snapshot that was taken in the middle of a run."""
    taken = [entry for entry in snapshots(command, job) if entry["kind"] == "snapshot"]
    return int(str(taken[len(taken) // 2]["sequence"]))


def assert_exact(command: Command, job: Job) -> None:
    assert final_rows(job.output, keys=1) == word_counts(job.folder)
    assert command("verify", job.state).code == 0


def test_without_yes_it_only_says_what_it_would_do(command: Command, job: Job) -> None:
    sequence = middle(command, job)
    (entry,) = [entry for entry in snapshots(command, job) if entry["sequence"] == sequence]
    before = job.files()
    done = command("restore", job.state, "--to", sequence)
    facts = command("restore", job.state, "--to", sequence, "--json").json
    assert job.files() == before
    assert done.code == 0
    assert (facts["done"], facts["committed"], facts["refusals"]) == (False, None, [])
    assert facts["rows_again"] == 450 - int(str(entry["rows_read"]))
    assert facts["given_up"] == [e["sequence"] for e in snapshots(command, job) if int(str(e["sequence"])) > sequence]
    (output,) = facts["outputs"]
    size = job.output.stat().st_size
    assert output["now"]["length"] == size > output["then"]["length"] > 0
    assert f"cuts the file from {size} to {output['then']['length']} bytes" in done.out
    assert f"reads {facts['rows_again']} rows again" in done.out
    assert "Nothing was changed. To do it, say --yes." in done.out


@pytest.mark.parametrize("back_to", ["oldest", "middle"])
def test_the_next_run_is_exact(command: Command, job: Job, back_to: str) -> None:
    oldest = int(str(snapshots(command, job)[-1]["sequence"]))
    sequence = oldest if back_to == "oldest" else middle(command, job)
    given_up = command("restore", job.state, "--to", sequence, "--json").json["given_up"]
    whole = job.output.read_bytes()
    done = command("restore", job.state, "--to", sequence, "--yes")
    assert done.code == 0
    assert "Done, as snapshot" in done.out
    assert job.output.read_bytes() == whole
    assert command("verify", job.state).code == 0
    listed = snapshots(command, job)
    assert [entry["sequence"] for entry in listed if not entry["kept"]] == [
        entry["sequence"] for entry in listed if int(str(entry["sequence"])) > sequence and not entry["head"]
    ]
    assert "left behind" in command("snapshots", job.state).out
    job.run(150, 4)
    assert_exact(command, job)
    left = {entry["sequence"] for entry in snapshots(command, job)}
    assert sequence in left
    assert not left & set(given_up)


def test_damage_then_restore_then_an_exact_run(command: Command, job: Job) -> None:
    head = decode(max((job.state / "manifests").iterdir()).read_bytes(), "")
    (refs,) = (refs for stream, refs in head.streams.items() if stream.startswith("state/"))
    newest = job.state / refs[-1].key
    newest.write_bytes(newest.read_bytes()[:-3])
    with pytest.raises(DamagedState):
        job.again()
    found = command("verify", job.state, "--json")
    assert found.code == 1
    whole = found.json["whole"]
    refused = command("restore", job.state, "--to", max(found.json["damaged"][0]["snapshots"][1:]), "--yes")
    assert refused.code == 1
    assert "is damaged" in refused.err
    assert command("restore", job.state, "--to", whole, "--yes").code == 0
    job.again()
    assert_exact(command, job)


def test_a_damaged_head_then_restore_then_an_exact_run(command: Command, job: Job) -> None:
    newest, before = (int(str(entry["sequence"])) for entry in snapshots(command, job)[:2])
    (job.state / "manifests" / f"{newest:012}.json").write_bytes(b"{}")
    with pytest.raises(DamagedState, match=f"asyncpersist restore {job.state} --to {before}"):
        job.again()
    damaged = command("restore", job.state, "--to", newest)
    assert damaged.code == 1
    assert "is damaged" in damaged.err
    said = command("restore", job.state, "--to", before)
    assert "back from a damaged state" in said.out
    done = command("restore", job.state, "--to", before, "--yes", "--json").json
    assert (done["done"], done["committed"]) == (True, newest + 1)
    job.run(150, 4)
    assert_exact(command, job)


def test_back_and_forth(command: Command, job: Job) -> None:
    head = int(str(snapshots(command, job)[0]["sequence"]))
    assert command("restore", job.state, "--to", middle(command, job), "--yes").code == 0
    assert command("restore", job.state, "--to", head, "--yes").code == 0
    size = job.output.stat().st_size
    job.again()
    assert job.output.stat().st_size == size
    assert_exact(command, job)


def test_the_head_is_what_the_next_run_has_anyway(command: Command, job: Job) -> None:
    before = job.files()
    done = command("restore", job.state, "--to", snapshots(command, job)[0]["sequence"], "--yes")
    assert (done.code, job.files()) == (0, before)
    assert "Nothing was changed" in done.out


def test_a_number_that_is_not_there(command: Command, job: Job) -> None:
    before = job.files()
    done = command("restore", job.state, "--to", 999, "--yes")
    assert (done.code, done.out, job.files()) == (1, "", before)
    assert "has no snapshot 999; it has" in done.err


def test_a_running_owner_is_not_robbed(command: Command, job: Job) -> None:
    asyncio.run(_beside_an_owner(command, job, "is in use by", ends=True))


def test_nor_one_that_may_run(command: Command, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = dataclasses.replace(this_process(), host="elsewhere", machine="other", boot="other")
    monkeypatch.setattr(root_module, "this_process", lambda: elsewhere)
    asyncio.run(_beside_an_owner(command, job, "may be in use by", ends=False, after_claim=monkeypatch.undo))


async def _beside_an_owner(
    command: Command, job: Job, said: str, *, ends: bool, after_claim: Callable[[], None] = lambda: None
) -> None:
    sequence = await asyncio.to_thread(middle, command, job)
    root = await Root.open(FilesystemStore(job.state), clock=SystemClock())
    await root.claim(mode="PERSISTING", access="FULL")
    after_claim()
    before = job.files()
    would = await asyncio.to_thread(command, "restore", job.state, "--to", sequence)
    does = await asyncio.to_thread(command, "restore", job.state, "--to", sequence, "--yes")
    assert job.files() == before
    assert would.code == does.code == 1
    assert "would be refused" in would.out
    assert said in would.out
    assert said in does.err
    if ends:
        root.abandon()
        assert (await asyncio.to_thread(command, "restore", job.state, "--to", sequence)).code == 0
    taken = await asyncio.to_thread(command, "restore", job.state, "--to", sequence, "--yes", "--takeover")
    assert taken.code == 0
    await root.store.aclose()
    root.abandon()
    await asyncio.to_thread(job.again)
    await asyncio.to_thread(assert_exact, command, job)


def test_the_output_goes_back_to_what_it_was(command: Command, own_job: Job) -> None:
    """A run that finds nothing more to read than then shows that the file was cut, and to where."""
    job = own_job
    first = next(e for e in snapshots(command, job) if e["rows_read"] == 150)
    (output,) = command("restore", job.state, "--to", first["sequence"], "--json").json["outputs"]
    text = job.output.read_bytes()[: output["then"]["length"]]
    for name in ("002.jsonl", "003.jsonl"):
        (job.folder / name).unlink()
    assert command("restore", job.state, "--to", first["sequence"], "--yes").code == 0
    job.again()
    assert job.output.read_bytes() == text
    assert_exact(command, job)


def test_it_can_be_undone_until_a_run_has_begun(command: Command, job: Job) -> None:
    head = int(str(snapshots(command, job)[0]["sequence"]))
    rows = final_rows(job.output, keys=1)
    back = middle(command, job)
    done = command("restore", job.state, "--to", back, "--yes")
    undo = f"asyncpersist restore {job.state} --to {head} --yes"
    assert f"To undo it before a run has begun: `{undo}`." in done.out
    assert command(*undo.split()[1:]).code == 0
    assert final_rows(job.output, keys=1) == rows
    job.again()
    assert_exact(command, job)
    assert command("restore", job.state, "--to", back, "--yes").code == 0
    newest = int(str(snapshots(command, job)[0]["sequence"])) - 1
    job.run(150, 4)
    refused = command("restore", job.state, "--to", newest, "--yes")
    assert refused.code == 1
    assert f"has no snapshot {newest} any more; it has" in refused.err
    assert_exact(command, job)


def test_to_a_name(command: Command, job: Job) -> None:
    sequence = middle(command, job)
    assert command("snapshots", job.state, "--keep", "good", "--number", sequence).code == 0
    oldest = int(str(snapshots(command, job)[-1]["sequence"]))
    given_up = command("restore", job.state, "--to", oldest, "--json").json["given_up"]
    assert sequence not in given_up, "one with a name stays"
    assert len(given_up) > 3
    job.run(150, 4, retain_snapshots=1)
    facts = command("restore", job.state, "--to", "good", "--json").json
    assert (facts["sequence"], facts["refusals"]) == (sequence, [])
    unknown = command("restore", job.state, "--to", "bad", "--yes")
    assert (unknown.code, unknown.out) == (1, "")
    assert "keeps no snapshot by the name 'bad'; its names are: good." in unknown.err
    assert command("restore", job.state, "--to", "good", "--yes").code == 0
    job.again()
    assert_exact(command, job)


def test_one_that_is_due_to_be_deleted_is_refused(command: Command, job: Job) -> None:
    """A run condemned it and was killed before it deleted it."""
    sequence = int(str(snapshots(command, job)[-1]["sequence"]))

    async def condemn() -> None:
        root = await Root.open(FilesystemStore(job.state), clock=SystemClock(), retain_snapshots=1)
        head = await root.claim(mode="PERSISTING", access="FULL")
        await root.commit(epoch=head.epoch, streams=head.streams, sinks=head.sinks, graph=head.graph)
        root.abandon()
        await root.store.aclose()

    asyncio.run(condemn())
    before = job.files()
    said = command("restore", job.state, "--to", sequence)
    done = command("restore", job.state, "--to", sequence, "--yes")
    assert job.files() == before
    assert (said.code, done.code) == (1, 1)
    assert "It would be refused: it has expired" in said.out
    assert f"the snapshot {sequence} has expired" in done.err


def test_an_output_that_went_another_way_since_is_said(command: Command, job: Job) -> None:
    assert command("snapshots", job.state, "--keep", "third").code == 0
    first = min(entry["sequence"] for entry in snapshots(command, job) if entry["kind"] == "snapshot")
    then = job.output.read_bytes()
    assert command("restore", job.state, "--to", first, "--yes").code == 0
    job.run(400, 9)
    said = command("restore", job.state, "--to", "third").out
    assert "the next run will refuse it" in said
    assert "put a copy of the file from that time there" in said
    assert command("restore", job.state, "--to", "third", "--json").json["outputs"][0]["trouble"]
    job.output.write_bytes(then)
    assert "the next run will refuse it" not in command("restore", job.state, "--to", "third").out
