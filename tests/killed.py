"""Processes that are killed at given calls of their disk.

Run with the name of a function, `MODULE:NAME`, it forks a child for every line of JSON on its standard input, a `Kill`,
which calls that function: imports are paid for once, and every child is a real process.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from asyncpersist.testing.disks import Call, KillingDisk

__all__ = ["Kill", "kill", "kills"]


class Kill(NamedTuple):
    """Kills what works in `path` at a call of its disk: when, and the how manieth of which methods."""

    path: str
    when: str
    methods: list[str]
    at: int
    arguments: list[str]


def kills(
    folder: Path, log: Iterable[Call], places: Iterable[tuple[str, Collection[str]]], *arguments: str
) -> list[Kill]:
    """A kill at each of `places` in the calls of `log`, each in a directory of its own below `folder`, not yet made."""
    calls = list(log)
    return [
        Kill(str(folder / f"{when}-{len(methods)}-{at}"), when, sorted(methods), at, list(arguments))
        for when, methods in places
        for at in range(1, sum(method in methods for _, method, _ in calls) + 1)
    ]


def kill(function: str, kills: Iterable[Kill]) -> None:
    """Calls `function(path, disk, *arguments)` for each, in a process that has to be killed."""
    subprocess.run(
        [sys.executable, "-m", __name__, function],
        input="".join(json.dumps(kill) + "\n" for kill in kills),
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )


def _main() -> None:
    module, name = sys.argv[1].split(":")
    work = getattr(importlib.import_module(module), name)
    importlib.import_module("anyio._backends._asyncio")
    for line in sys.stdin:
        kill = Kill(*json.loads(line))
        child = os.fork()
        if child == 0:
            asyncio.run(work(Path(kill.path), KillingDisk(kill.at, kill.when, kill.methods), *kill.arguments))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            sys.exit(f"was not killed, but ended with status {status}: {kill}")


if __name__ == "__main__":
    _main()
