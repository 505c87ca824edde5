"""STATE on the command line, on every kind of store."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asyncpersist.checkpoint import root as root_module
from asyncpersist.checkpoint.processes import this_process
from asyncpersist.checkpoint.root import Root
from asyncpersist.cli.state_location import backend_of
from asyncpersist.clock import SystemClock
from asyncpersist.disk import Disk
from asyncpersist.errors import StateError, Unsupported
from asyncpersist.io.s3 import AwsS3Settings
from asyncpersist.objectstore.filesystem import FilesystemStore
from asyncpersist.persistence import Backend
from tests.amounts import PATIENCE
from tests.cli.conftest import Command
from tests.main_job.stream import final_rows
from tests.servers import azurite as azure
from tests.servers import moto as s3
from tests.servers.azurite import Azurite
from tests.servers.moto import Moto

JOB = """
import asyncpersist as ap

class Line(ap.Schema):
    word: str

with ap.Graph() as graph:
    lines = ap.io.jsonlines.read("input", schema=Line, mode="static", name="lines")
    counts = lines.groupby(ap.this.word).reduce(ap.this.word, count=ap.reducers.count())
    ap.io.csv.write(counts, "counts.csv")
"""

NewState = Callable[[str], str]


class Job:
    """Counts words of `input` into `counts.csv`."""

    def __init__(self, folder: Path, command: Command) -> None:
        self.folder = folder
        self.command = command
        (folder / "input").mkdir()
        (folder / "job.py").write_text(JOB)

    def run(self, state: str, *words: str) -> int:
        """Adds words to the input and runs; how many were read."""
        with (self.folder / "input" / "lines.jsonl").open("a") as file:
            file.writelines(json.dumps({"word": word}) + "\n" for word in words)
        done = self.command("run", "job.py:graph", "--state", state, "--json")
        sys.modules.pop("job", None)
        assert (done.code, done.err) == (0, "")
        started, *_, ended = map(json.loads, done.out.splitlines())
        assert started["state"] == state
        read: int = ended["rows_read"]
        return read

    def counts(self) -> set[tuple[str, ...]]:
        return final_rows(self.folder / "counts.csv", keys=1)


@pytest.fixture
def new_state(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NewState:
    """STATE for an empty place of a kind, the environment being set up for it."""

    def new(kind: str) -> str:
        if kind == "directory":
            return str(tmp_path / "state")
        if kind == "s3":
            server: Moto = request.getfixturevalue("moto")
            monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.ACCESS_KEY)
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.SECRET_ACCESS_KEY)
            return f"s3://{server.new_bucket()}/deep/state"
        other: Azurite = request.getfixturevalue("azurite")
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", azure.ACCOUNT)
        monkeypatch.setenv("AZURE_STORAGE_KEY", azure.KEY)
        monkeypatch.setenv("AZURE_STORAGE_SERVICE_ENDPOINT", other.url)
        return f"az://{other.new_container()}/deep/state"

    return new


@pytest.fixture
def job(tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> Iterator[Job]:
    path = list(sys.path)
    monkeypatch.chdir(tmp_path)
    yield Job(tmp_path, command)
    sys.path[:] = path


@pytest.mark.parametrize("kind", ["directory", "s3", "azure"])
def test_every_command_takes_every_kind_of_state(command: Command, new_state: NewState, job: Job, kind: str) -> None:
    state = new_state(kind)
    assert f"{state} holds no state" in command("snapshots", state).err
    assert job.run(state, "a", "b", "a") == 3
    assert job.run(state, "c", "a") == 2
    assert job.counts() == {("a", "3"), ("b", "1"), ("c", "1")}
    listed = command("snapshots", state, "--json").json
    assert (listed["state"], listed["owner"]["status"]) == (state, "released")
    assert command("inspect", state, "--json").json["rows_read"] == 5
    assert "3 rows by" in command("inspect", state, "group").out
    assert "all as written" in command("verify", state).out
    first = min(entry["sequence"] for entry in listed["snapshots"] if entry["rows_read"] == 3)
    assert command("snapshots", state, "--keep", "first", "--number", first).code == 0
    words = command("diff", f"{state}@first", state, "--json").json["states"][-1]
    assert (words["added"], words["removed"], words["changed"]) == (1, 0, 1)
    assert command("prune", state, "--retain-snapshots", 1, "--yes", "--json").json["done"]
    assert command("inspect", state, "--at", "first", "--json").json["rows_read"] == 3
    assert command("restore", state, "--to", "first", "--yes").code == 0
    assert job.run(state, "d") == 3
    assert job.counts() == {("a", "3"), ("b", "1"), ("c", "1"), ("d", "1")}
    assert "all as written" in command("verify", state).out


def test_a_state_goes_from_store_to_store(command: Command, new_state: NewState, job: Job) -> None:
    states = [new_state("directory"), new_state("s3"), new_state("azure"), str(job.folder / "again")]
    words: list[str] = []
    for number, state in enumerate(states):
        added = [*"ab", f"word {number}"]
        assert job.run(state, *added) == 3
        words += added
        assert job.counts() == {(word, str(words.count(word))) for word in words}
        if state == states[-1]:
            break
        done = command("copy", state, states[number + 1], "--json")
        assert (done.code, done.err) == (0, "")
        facts = done.json
        assert (facts["from"], facts["to"], facts["found"]) == (state, states[number + 1], 0)
        assert facts["objects"] == facts["all_objects"] > 0
        assert facts["bytes"] == facts["all_bytes"] > 0
        again = command("copy", state, states[number + 1])
        assert f"{facts['objects']} of them were there already, {facts['bytes']} bytes" in again.out
        assert f"A run goes on there with --state {states[number + 1]}" in again.out
    for state in states:
        assert "all as written" in command("verify", state).out
    refused = command("copy", states[1], states[2])
    assert (refused.code, refused.out, refused.err.count("\n")) == (1, "", 1)
    assert f"{states[2]} holds a state of its own, so it is no copy of {states[1]}" in refused.err


@pytest.mark.parametrize("target", ["state", "state/", "state/inner", "."])
def test_a_copy_goes_to_another_place(command: Command, job: Job, target: str) -> None:
    job.run(str(job.folder / "state"), "a")
    done = command("copy", "state", target)
    assert (done.code, done.out) == (1, "")
    assert "are the same place, or one lies in the other" in done.err


def test_a_copy_of_what_may_run_elsewhere(command: Command, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    async def claimed(patch: pytest.MonkeyPatch) -> None:
        elsewhere = dataclasses.replace(this_process(), host="elsewhere", machine="other", boot="other")
        patch.setattr(root_module, "this_process", lambda: elsewhere)
        store = FilesystemStore(job.folder / "state")
        root = await Root.open(store, clock=SystemClock())
        await root.claim(mode="PERSISTING", access="FULL")
        root.abandon()
        await store.aclose()

    job.run(str(job.folder / "state"), "a")
    with monkeypatch.context() as patch:
        asyncio.run(claimed(patch))
    refused = command("copy", "state", "to")
    assert (refused.code, refused.out) == (1, "")
    assert "may be in use by process" in refused.err
    assert "say so with --yes" in refused.err
    assert not (job.folder / "to").exists()
    assert command("copy", "state", "to", "--yes").code == 0
    assert job.run(str(job.folder / "to"), "a") == 1
    assert job.counts() == {("a", "2")}


def test_a_copy_shows_on_a_terminal_how_far_it_is(job: Job) -> None:
    job.run(str(job.folder / "state"), "a")
    ours, its = pty.openpty()
    command = [sys.executable, "-W", "error", "-m", "asyncpersist", "copy", "state", "to"]
    process = subprocess.Popen(command, cwd=job.folder, stdout=subprocess.PIPE, stderr=its, text=True)
    os.close(its)
    shown = ""
    with contextlib.suppress(OSError):  # how a pseudo-terminal tells its end
        while piece := os.read(ours, 1 << 16):
            shown += piece.decode(errors="replace")
    os.close(ours)
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    objects = len(list((job.folder / "to" / "objects").iterdir()))
    assert f"{objects} of {objects} objects" in shown
    assert f"{objects} objects, " in said


# Where there is a place for it, how it is reached.


def described(text: str) -> str:
    return backend_of(text).open_store(Disk()).describe()


def test_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert described("state") == str(tmp_path / "state")
    assert described("a:b/state") == str(tmp_path / "a:b" / "state")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "'' cannot be a state"),
        ("s3://", "'' cannot be the name of a bucket"),
        ("s3:///prefix", "'' cannot be the name of a bucket"),
        ("az://", "'' is no Azure container"),
        ("az://Container/x", "'Container' is no Azure container"),
    ],
)
def test_what_cannot_be_a_state(text: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", "account")
    with pytest.raises(StateError) as raised:
        backend_of(text)
    assert said in str(raised.value)


def test_what_is_not_built() -> None:
    with pytest.raises(Unsupported, match=r"states under gs:// are not built; name a directory, s3://bucket/prefix or"):
        backend_of("gs://bucket/prefix")


def test_a_host_name_is_enough_for_an_endpoint(
    command: Command, job: Job, new_state: NewState, monkeypatch: pytest.MonkeyPatch, moto: Moto
) -> None:
    """Below `localhost` there is no host of the name of a bucket."""
    state = new_state("s3")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto.url.replace("127.0.0.1", "localhost"))
    assert job.run(state, "a") == 1


def test_a_connection_string(job: Job, new_state: NewState, azurite: Azurite, monkeypatch: pytest.MonkeyPatch) -> None:
    state = new_state("azure")
    for name in ("ACCOUNT", "KEY", "SERVICE_ENDPOINT"):
        monkeypatch.delenv(f"AZURE_STORAGE_{name}")
    account = f"AccountName={azure.ACCOUNT};AccountKey={azure.KEY}"
    monkeypatch.setenv(
        "AZURE_STORAGE_CONNECTION_STRING",
        f"DefaultEndpointsProtocol=http;{account};BlobEndpoint={azurite.endpoint};",
    )
    assert job.run(state, "a") == 1


@pytest.mark.parametrize(
    "connection",
    [
        "UseDevelopmentStorage=true",
        "BlobEndpoint=https://x.example;SharedAccessSignature=sv=2024&sig=c2VjcmV0",
        "AccountKey=c2VjcmV0",
        "c2VjcmV0",
    ],
)
def test_another_kind_of_connection_string(connection: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection)
    with pytest.raises(StateError, match="has to hold AccountName=") as raised:
        backend_of("az://container/prefix")
    assert "c2VjcmV0" not in str(raised.value)


@pytest.mark.parametrize(
    ("variables", "account", "key", "endpoint"),
    [
        ({"ACCOUNT": "first"}, "first", None, None),
        ({"ACCOUNT": "first", "KEY": "a2V5"}, "first", "a2V5", None),
        ({"ACCOUNT": "first", "SERVICE_ENDPOINT": "https://other.example"}, "first", None, "https://other.example"),
        ({"CONNECTION_STRING": "AccountName=second;AccountKey=a2V5=="}, "second", "a2V5==", None),
        (
            {"CONNECTION_STRING": "AccountName=second;AccountKey=a2V5;EndpointSuffix=core.example"},
            "second",
            "a2V5",
            "https://second.blob.core.example",
        ),
        ({"CONNECTION_STRING": "AccountName=second;AccountKey=a2V5", "KEY": "a2V6"}, "second", "a2V6", None),
    ],
)
def test_the_azure_account_is_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], account: str, key: str | None, endpoint: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"AZURE_STORAGE_{name}", value)
    made = backend_of("az://container/some/prefix")
    assert made == Backend.azure("some/prefix", account, key, "container", endpoint=endpoint)
    assert key is None or key not in repr(made)


@pytest.mark.parametrize(
    ("endpoint", "in_the_path"),
    [
        ("http://10.0.0.7:9000", True),
        ("http://[::1]:9000", True),
        ("http://localhost:9000", True),
        ("http://minio:9000", True),
        ("https://s3.example.com", False),
        ("", False),
    ],
)
def test_the_bucket_goes_into_the_path_where_there_is_no_host_for_it(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, in_the_path: bool
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    settings = AwsS3Settings(bucket_name="bucket", with_path_style=in_the_path)
    assert backend_of("s3://bucket/some/prefix") == Backend.s3("some/prefix", settings)
    assert backend_of("S3://bucket", single_writer=True) == Backend.s3("", settings, single_writer=True)
