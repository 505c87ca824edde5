"""On what was measured: enough to compare figures, nothing that names the machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil

__all__ = ["describe"]

OURS = (
    "asyncpersist",
    "polars",
    "polars-hash",
    "numpy",
    "anyio",
    "msgspec",
    "aiobotocore",
    "azure-storage-blob",
    "moto",
)
PEERS = ("pathway", "bytewax", "obstore")


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def peer_versions() -> dict[str, str]:
    python = os.environ.get("ASYNCPERSIST_BENCH_PYTHON")
    if not python:
        return {}
    code = "import importlib.metadata as m, sys; print(*(m.version(name) for name in sys.argv[1:]))"
    done = subprocess.run([python, "-c", code, *PEERS], capture_output=True, text=True, check=False)
    return dict(zip(PEERS, done.stdout.split(), strict=False))


def describe() -> dict[str, Any]:
    """Processor, cores, memory, system, Python, and the versions of what ran."""
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "versions": {**{name: importlib.metadata.version(name) for name in OURS}, **peer_versions()},
    }
