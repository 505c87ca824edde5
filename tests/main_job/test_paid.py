"""Answers that are paid for, in runs that are killed while they are: nothing is paid for twice that need not be."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asyncpersist.checkpoint.manifest import Manifest
from asyncpersist.checkpoint.reading import survey
from asyncpersist.cli.state_location import open_state
from tests.main_job.conftest import Jobs, remote_jobs
from tests.main_job.moving import random_numbers
from tests.servers.azurite import Azurite
from tests.servers.moto import Moto
from tests.udfs.server import PaidServer, answer_to, serving

TEXTS = [f"text {number} ä%/" for number in range(240)]
KILLS = int(os.environ.get("ASYNCPERSIST_PAID_KILLS", "3"))


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory, moto: Moto, azurite: Azurite) -> Iterator[Jobs]:
    yield from remote_jobs(tmp_path_factory, moto, azurite)


@pytest.fixture
def paid() -> Iterator[PaidServer]:
    with serving() as server:
        yield server


@pytest.fixture(params=["filesystem", "s3", "azure"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "filesystem":
        return str(tmp_path / "state")
    if request.param == "s3":
        return f"s3://{request.getfixturevalue('moto').new_bucket()}/some/where"
    return f"az://{request.getfixturevalue('azurite').new_container()}/some/where"


def write(folder: Path) -> None:
    folder.mkdir()
    for start in range(0, len(TEXTS), 60):
        lines = (json.dumps({"text": text}, ensure_ascii=False) for text in TEXTS[start : start + 60])
        (folder / f"{start:03}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def rows(output: Path) -> list[dict[str, str]]:
    """The rows of an output that are whole."""
    text = output.read_text(encoding="utf-8") if output.exists() else ""
    return list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))


def begun(jobs: Jobs, paid: PaidServer, calls: int, order: dict[str, Any]) -> str:
    """Runs the job and kills it once so many more calls were answered; how it fared."""
    until = min(paid.paid.total() + calls, len(TEXTS))
    pid = jobs.begin(**order)
    paid.wait_until(lambda server: server.paid.total() >= until)
    os.kill(pid, signal.SIGKILL)
    return jobs.wait(pid)


def answers(output: Path) -> list[tuple[str, str]]:
    return sorted((row["text"], row["answer"]) for row in rows(output))


ALL = sorted((text, answer_to(text)) for text in TEXTS)


def test_what_was_used_is_never_asked_for_again(jobs: Jobs, paid: PaidServer, tmp_path: Path, state: str) -> None:
    rng = random_numbers()
    write(tmp_path / "in")
    order = {"job": "paid", "folder": tmp_path / "in", "state": state, "port": paid.port, "durable": "each"}
    used: set[str] = set()
    for number in range(KILLS):
        before = Counter(paid.calls)
        output = tmp_path / f"{number}.csv"
        begun(jobs, paid, rng.randrange(1, 80), {**order, "output": output})
        assert not (paid.calls - before).keys() & used
        used |= {row["text"] for row in rows(output)}
    before = Counter(paid.calls)
    assert jobs.run(**order, output=tmp_path / "last.csv") == "ended"
    assert not (paid.calls - before).keys() & used
    assert answers(tmp_path / "last.csv") == ALL
    before = Counter(paid.calls)
    assert jobs.run(**order, output=tmp_path / "more.csv") == "ended"
    assert paid.calls == before, "everything is known"


def head(state: Path) -> Manifest | None:
    """The newest manifest of a state on the disk."""

    async def found() -> Manifest | None:
        async with open_state(str(state)) as store:
            return next(iter((await survey(store)).chain), None)

    return asyncio.run(found())


def test_what_was_committed_is_not_asked_for_again(jobs: Jobs, paid: PaidServer, tmp_path: Path) -> None:
    rng = random_numbers()
    write(tmp_path / "in")
    state = tmp_path / "state"
    order = {"job": "paid", "folder": tmp_path / "in", "state": state, "port": paid.port}
    for number in range(KILLS):
        begun(jobs, paid, rng.randrange(20, 80), {**order, "output": tmp_path / f"{number}.csv"})
    newest = head(state)
    known = 0 if newest is None else sum(ref.rows for ref in newest.objects() if ref.key.endswith(".answers"))
    before = paid.calls.total()
    assert jobs.run(**order, output=tmp_path / "last.csv") == "ended"
    assert paid.calls.total() - before <= len(TEXTS) - known
    assert answers(tmp_path / "last.csv") == ALL


@pytest.mark.parametrize("later", [False, True])
def test_rows_keep_what_they_were_given(jobs: Jobs, paid: PaidServer, tmp_path: Path, later: bool) -> None:
    """Without any cache: the answers of rows whose epoch was committed are state."""
    rng = random_numbers()
    write(tmp_path / "in")
    state, output = tmp_path / "state", tmp_path / "out.csv"
    order = {
        "job": "paid",
        "folder": tmp_path / "in",
        "state": state,
        "port": paid.port,
        "output": output,
        "mode": "PERSISTING",
        "cached": False,
        "later": later,
    }
    committed: set[str] = set()
    for _ in range(KILLS):
        before = Counter(paid.calls)
        begun(jobs, paid, rng.randrange(20, 80), order)
        assert not (paid.calls - before).keys() & committed
        if (newest := head(state)) is not None:
            (position,) = newest.sinks.values()
            text = output.read_bytes()[: position["length"]].decode()
            committed = {row["text"] for row in csv.DictReader(text.splitlines())}
    assert jobs.run(**order) == "ended"
    assert answers(output) == ALL, "and each once"
    (tmp_path / "in" / "000.jsonl").unlink()
    before = Counter(paid.calls)
    assert jobs.run(**order) == "ended"
    assert paid.calls == before, "what is taken back is known"
    assert Counter(row["text"] for row in rows(output))[TEXTS[0]] == 2
