"""Makes a golden root with the code that is imported: `python -m tests.golden.make tests/golden/v2`.

Two runs of it make the same bytes, except for what the file system says of the inputs. Owners are those of no machine,
and what tells where outputs lie tells of a directory of the system's temporary files.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path

import asyncpersist as ap
from asyncpersist.checkpoint import root as root_module
from asyncpersist.checkpoint.manifest import FORMAT
from asyncpersist.checkpoint.ownership import Process
from asyncpersist.objectstore.filesystem import FilesystemStore
from asyncpersist.testing.clocks import ManualClock
from tests.golden.job import MODES, ROUNDS, define, write_round

__all__ = ["NAME"]

NAME = "first"
"""The name of a snapshot of the first run, where the format has names."""

_NOBODY = Process(host="golden", machine="", boot="golden", namespace="", pid=1, started=1.0)


async def _make(mode: str) -> None:
    clock = ManualClock()
    config = ap.persistence.Config(
        ap.persistence.Backend.filesystem("state"),
        snapshot_interval_ms=0,
        persistence_mode=ap.persistence.PersistenceMode[mode],
        retain_snapshots=2,
    )
    for number in range(ROUNDS):
        write_round(number)
        async with ap.Runtime(define(), persistence_config=config, clock=clock) as runtime:
            await runtime.wait()
        clock.advance(3600)
        if number == 0 and FORMAT > 1:
            from asyncpersist.checkpoint.naming import give_name

            await give_name(FilesystemStore(Path("state")), NAME, clock=clock)


def main(target: Path) -> None:
    """Makes a root of each mode below `target`, in place of what is there."""
    root_module.this_process = lambda: _NOBODY
    making = Path(tempfile.gettempdir(), "asyncpersist-golden")
    before, target = Path.cwd(), target.resolve()
    for folder, mode in MODES.items():
        shutil.rmtree(making, ignore_errors=True)
        (making / "out").mkdir(parents=True)
        os.chdir(making)
        try:
            asyncio.run(_make(mode))
        finally:
            os.chdir(before)
        shutil.rmtree(target / folder, ignore_errors=True)
        shutil.move(making, target / folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
