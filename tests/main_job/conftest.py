from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.servers import azurite as azure_server
from tests.servers import moto as s3_server
from tests.servers.azurite import Azurite
from tests.servers.moto import Moto


class Jobs:
    """The job server: one real process for each `run`."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self._outcome = folder / "outcome"
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.main_job.job"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", **(environment or {})},
        )

    def run(self, **order: Any) -> str:
        """Runs the job to its fate: "ended", "killed", "stopped", or the name of the error it raised."""
        return self.start(**order)[1]

    def start(self, **order: Any) -> tuple[int, str]:
        """The same, with the id of the process."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps({"outcome": self._outcome, **order}, default=str) + "\n")
        self._server.stdin.flush()
        pid, fate = json.loads(self._server.stdout.readline())
        return pid, self._outcome.read_text() if fate == "exited" else fate

    def begin(self, **order: Any) -> int:
        """Starts the job, to be waited for with `wait`; returns the id of the process."""
        return self.start(**order, detached=True)[0]

    def wait(self, pid: int) -> str:
        """The fate of a process that was begun."""
        return self.run(wait=pid)

    def resume(self, pid: int) -> str:
        """Continues a stopped process and waits for its fate."""
        return self.run(resume=pid)

    def close(self) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()


@pytest.fixture(scope="session")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    server = Jobs(tmp_path_factory.mktemp("jobs"))
    yield server
    server.close()


def remote_jobs(tmp_path_factory: pytest.TempPathFactory, moto: Moto, azurite: Azurite) -> Iterator[Jobs]:
    """The job server, in whose environment are the servers' addresses and keys."""
    environment = {
        "AWS_ENDPOINT_URL": moto.url,
        "AWS_ACCESS_KEY_ID": s3_server.ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": s3_server.SECRET_ACCESS_KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AZURE_STORAGE_ACCOUNT": azure_server.ACCOUNT,
        "AZURE_STORAGE_KEY": azure_server.KEY,
        "AZURE_STORAGE_SERVICE_ENDPOINT": azurite.endpoint,
        # Paid for once, and not by every child.
        "ASYNCPERSIST_TEST_IMPORTS": "asyncpersist.objectstore.s3.client asyncpersist.objectstore.azure.client",
    }
    server = Jobs(tmp_path_factory.mktemp("jobs"), environment)
    yield server
    server.close()


def write_words(path: Path, rng: random.Random, rows: int) -> None:
    """A file of JSON lines of forty words."""
    words = [f"w{n}-ä" for n in range(40)]
    path.write_text(
        "".join(json.dumps({"word": rng.choice(words)}, ensure_ascii=False) + "\n" for _ in range(rows)),
        encoding="utf-8",
    )
