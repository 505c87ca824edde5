"""The job the kill tests run, in a process of its own: counting words from files, with small chunks and many snapshots.

Started once as a server (`python -m tests.main_job.job`), it forks a child for every line of JSON on its standard input
and answers with the child's id and fate: imports are paid for once, and every child is a real process to be killed.
An order with `detached` is answered at once, and one with `wait` starts nothing but waits for that child.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import asyncpersist as ap
from asyncpersist.cli.state_location import backend_of
from asyncpersist.disk import Disk
from asyncpersist.graph.node import SourceNode
from asyncpersist.io.file_source import FileSource
from asyncpersist.testing.disks import Call, FailingDisk, KillingDisk
from tests.main_job.paid_job import pay
from tests.main_job.world_job import follow


class Line(ap.Schema):
    word: str


def define(
    folder: Path,
    output: Path,
    *,
    mode: Literal["static", "streaming"] = "static",
    chunk: int | None = None,
    on_change: Callable[..., None] | None = None,
) -> ap.Graph:
    """`chunk`: bytes of input in a batch, so that a short input has many. `on_change` subscribes to the counts."""
    with ap.Graph() as graph:
        lines = ap.io.jsonlines.read(folder, schema=Line, mode=mode, name="lines")
        counts = lines.groupby(ap.this.word).reduce(ap.this.word, count=ap.reducers.count())
        ap.io.csv.write(counts, output)
        if on_change is not None:
            ap.io.subscribe(counts, on_change)
    if chunk is not None:
        assert isinstance(lines.node, SourceNode)
        assert isinstance(lines.node.source, FileSource)
        lines.node.source._chunk_bytes = chunk
    return graph


def config(state: Path | str, *, interval: int = 0, **settings: Any) -> ap.persistence.Config:
    return ap.persistence.Config(backend_of(str(state)), snapshot_interval_ms=interval, **settings)


async def count(folder: Path, output: Path, state: Path | str, *, disk: Disk | None = None, **settings: Any) -> None:
    takeover, chunk = settings.pop("takeover", False), settings.pop("chunk", None)
    runtime = ap.Runtime(
        define(folder, output, chunk=chunk), persistence_config=config(state, **settings), disk=disk, takeover=takeover
    )
    async with runtime:
        await runtime.wait()


def _stop_at(number: int, call: Call) -> bool:
    """Stops this process (SIGSTOP) before a change of the disk, as a suspended laptop or a debugger would."""
    if call[0] == number:
        os.kill(os.getpid(), signal.SIGSTOP)
    return False


def _disk(order: dict[str, Any]) -> Disk | None:
    if "kill_at" in order:
        return KillingDisk(order["kill_at"], order["when"], order["methods"])
    if "stop_at" in order:
        return FailingDisk(lambda call: _stop_at(order["stop_at"], call))
    return None


def _child(order: dict[str, Any]) -> None:
    if order.get("job") == "paid":
        asyncio.run(pay(order))
        return
    if order.get("job") == "world":
        asyncio.run(follow(order))
        return
    if order.get("job") == "subject":
        asyncio.run(importlib.import_module("tests.main_job.subject_job").run(order))
        return
    asyncio.run(
        count(
            Path(order["folder"]),
            Path(order["output"]),
            order["state"],
            disk=_disk(order),
            chunk=order.get("chunk", 256),
            interval=order.get("interval", 0),
            retain_snapshots=order.get("retain_snapshots", 3),
            takeover=order.get("takeover", False),
        )
    )


def _start(order: dict[str, Any]) -> int:
    pid = os.fork()
    if pid == 0:
        outcome = "ended"
        try:
            _child(order)
        except BaseException as exc:
            outcome = type(exc).__name__
            if outcome not in order.get("expected", []):
                traceback.print_exc()
        finally:
            Path(order["outcome"]).write_text(outcome)
            sys.stderr.flush()
            os._exit(0)
    return pid


def _wait(pid: int) -> str:
    """How a child fared: "stopped", "killed", or what it wrote itself."""
    _, status = os.waitpid(pid, os.WUNTRACED)
    if os.WIFSTOPPED(status):
        return "stopped"
    return "killed" if os.WIFSIGNALED(status) else "exited"


def _serve() -> None:
    # What a run imports only when it needs it, every child would import anew.
    late = "anyio._backends._asyncio numpy.ma tests.main_job.subject_job"
    for module in (late + " " + os.environ.get("ASYNCPERSIST_TEST_IMPORTS", "")).split():
        importlib.import_module(module)
    for line in sys.stdin:
        order = json.loads(line)
        if "resume" in order:
            pid = order["resume"]
            os.kill(pid, signal.SIGCONT)
        else:
            pid = _start(order) if "wait" not in order else order["wait"]
        if order.get("detached"):
            print(json.dumps([pid, "started"]), flush=True)
            continue
        if "kill_after" in order:
            time.sleep(order["kill_after"])
            os.kill(pid, signal.SIGKILL)
        print(json.dumps([pid, _wait(pid)]), flush=True)


if __name__ == "__main__":
    _serve()
