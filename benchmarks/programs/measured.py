"""How a measured program gets its task and tells its figures. Standard library only: it runs in every environment."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["percentiles", "report", "task", "ticked", "timed"]


def task() -> dict[str, Any]:
    """The task: the JSON object that is the only argument."""
    return json.loads(sys.argv[1])


@contextmanager
def timed(figures: dict[str, Any]) -> Iterator[None]:
    """Puts the seconds that its body takes into `figures`."""
    start = time.perf_counter()
    yield
    figures["seconds"] = time.perf_counter() - start


def percentiles(lags: list[float]) -> dict[str, float]:
    """Of seconds, in milliseconds."""
    ordered = sorted(lags)
    return {
        "p50": ordered[len(ordered) // 2] * 1e3,
        "p99": ordered[int(len(ordered) * 0.99)] * 1e3,
        "max": ordered[-1] * 1e3,
        "ticks": len(ordered),
    }


async def _tick(lags: list[float]) -> None:
    while True:
        start = time.perf_counter()
        await asyncio.sleep(0.001)
        lags.append(time.perf_counter() - start - 0.001)


async def ticked(work: Awaitable[object]) -> dict[str, float]:
    """How late a ticker of 1 ms in this loop is while `work` goes on."""
    lags: list[float] = []
    ticker = asyncio.create_task(_tick(lags))
    await work
    ticker.cancel()
    return percentiles(lags)


def peak_resident_bytes() -> int:
    """Of this process alone; getrusage would count the process that started it too, where it was larger."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def report(figures: dict[str, Any]) -> None:
    """Prints the figures, with the peak of resident memory, as the last line of standard output."""
    print(json.dumps({**figures, "peak_resident_bytes": peak_resident_bytes()}), flush=True)
