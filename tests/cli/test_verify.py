"""`asyncpersist verify`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from asyncpersist.checkpoint.manifest import decode
from asyncpersist.cli.history import History, read_history
from asyncpersist.cli.verify import verify
from asyncpersist.objectstore.contract import ObjectStore
from tests.cli.conftest import Command, Job


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def needing(job: Job) -> dict[str, list[int]]:
    """Which snapshots need which object, newest first."""
    needed: dict[str, list[int]] = {}
    for path in sorted((job.state / "manifests").iterdir(), reverse=True):
        manifest = decode(path.read_bytes(), "")
        for key in manifest.names():
            needed.setdefault(key, []).append(manifest.sequence)
    return needed


def test_nothing_is_wrong(command: Command, job: Job) -> None:
    before = job.files()
    done = command("verify", job.state)
    facts = command("verify", job.state, "--json").json
    assert job.files() == before
    assert (done.code, done.err) == (0, "")
    assert "all as written" in done.out
    objects = list((job.state / "objects").iterdir())
    assert facts["objects"] == len(needing(job)) <= len(objects)
    assert facts["snapshots"] == len(list((job.state / "manifests").iterdir()))
    assert facts["damaged"] == []


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (flip, "do not fit their checksum"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "bytes, not"),
        (Path.unlink, "missing"),
    ],
)
def test_every_damage_is_found(command: Command, job: Job, harm: Callable[[Path], object], said: str) -> None:
    needed = needing(job)
    oldest = min(sequence for sequences in needed.values() for sequence in sequences)
    chosen = sorted(key for key, sequences in needed.items() if oldest not in sequences)[:3]
    for key in chosen:
        harm(job.state / key)
    before = job.files()
    done = command("verify", job.state)
    facts = command("verify", job.state, "--json")
    assert job.files() == before
    assert done.code == facts.code == 1
    assert {damage["key"]: damage["snapshots"] for damage in facts.json["damaged"]} == {k: needed[k] for k in chosen}
    assert all(said in damage["detail"] for damage in facts.json["damaged"])
    assert all(key in done.out for key in chosen)
    broken = {sequence for key in chosen for sequence in needed[key]}
    whole = {entry["sequence"] for entry in command("snapshots", job.state, "--json").json["snapshots"]} - broken
    assert facts.json["whole"] == max(whole)
    assert f"asyncpersist restore {job.state} --to {max(whole)}" in done.out


def test_damaged_and_missing_manifests_are_found(command: Command, job: Job) -> None:
    manifests = sorted((job.state / "manifests").iterdir())
    flip(manifests[-1])
    damaged = command("verify", job.state, "--json")
    assert damaged.code == 1
    (damage,) = damaged.json["damaged"]
    assert damage["key"] == f"manifests/{manifests[-1].name}"
    assert damaged.json["whole"] == int(manifests[-2].stem)
    manifests[-1].unlink()
    assert command("verify", job.state).code == 0
    manifests[-3].unlink()
    missing = command("verify", job.state, "--json")
    assert missing.code == 1
    (damage,) = missing.json["damaged"]
    assert manifests[-3].name in damage["detail"]
    assert missing.json["whole"] == int(manifests[-2].stem)


def test_what_no_snapshot_names_does_not_count(command: Command, job: Job) -> None:
    (job.state / "objects" / "g00000001-0000.arrow").write_bytes(b"left by a run that was killed")
    assert command("verify", job.state).code == 0


def test_what_a_running_owner_deletes_meanwhile_is_not_damaged(
    command: Command, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules[verify.__module__]
    before = set(needing(job))

    def run_until_something_is_deleted() -> None:
        for seed in range(4, 30):
            job.run(150, seed, retain_snapshots=1)
            if not before <= {f"objects/{path.name}" for path in (job.state / "objects").iterdir()}:
                return
        raise AssertionError("nothing was deleted")

    async def then_run(store: ObjectStore) -> History:
        history = await read_history(store)
        monkeypatch.setattr(module, "read_history", read_history)
        await asyncio.to_thread(run_until_something_is_deleted)
        return history

    monkeypatch.setattr(module, "read_history", then_run)
    assert command("verify", job.state).code == 0
    assert module.read_history is read_history
