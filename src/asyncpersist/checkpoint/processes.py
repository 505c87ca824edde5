"""What the machine says about processes. Reads small files: call it in a thread."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import psutil

from asyncpersist.checkpoint.ownership import UNREADABLE, Process

__all__ = ["start_of", "this_process"]


def this_process() -> Process:
    """This process, as it goes into a claim."""
    pid = os.getpid()
    return Process(
        host=platform.node(),
        machine=_text("/etc/machine-id"),
        boot=_text("/proc/sys/kernel/random/boot_id") or f"{platform.node()}-{round(psutil.boot_time() / 60)}",
        namespace=_link("/proc/self/ns/pid"),
        pid=pid,
        started=start_of(pid) or 0.0,
    )


def start_of(pid: int) -> float | None:
    """When the process that lives under `pid` started, in seconds; None if none does, or only a zombie is left.

    Since boot, where the system says so: a start in wall time moves when the clock is set. `UNREADABLE` if there is a
    process of which the system tells this one nothing.
    """
    try:
        # The name in parentheses may hold anything, the last parenthesis ends it: state is field 3, the start field 22.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        fields = []
    if len(fields) >= 20:
        return None if fields[0] in (b"Z", b"X", b"x") else int(fields[19]) / os.sysconf("SC_CLK_TCK")
    try:
        os.kill(pid, 0)
        process = psutil.Process(pid)
        return None if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD) else process.create_time()
    except ProcessLookupError:
        return None
    except (OSError, psutil.Error):
        return UNREADABLE


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
