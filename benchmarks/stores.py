"""Object stores: how fast objects are written, what that does to the loop, and what a slow store costs a job."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.contestants import INTERVAL_MS, PROGRAMS, run_program
from benchmarks.figures import Line, Samples, median
from benchmarks.workloads import WORKLOADS
from tests.servers import azurite, moto

if TYPE_CHECKING:
    from benchmarks.measures import Plan

__all__ = ["objects", "slow_store"]

AT_ONCE = 16
LATENCY_SECONDS = 0.05
COPIES = 80
"""Of the wordcount's file, so that counting takes half a minute."""

OURS, PLAIN, OBSTORE = "asyncpersist", "the vendor's client", "obstore"
DIRECTORY, SLOW = "state in a directory", "state on S3, 50 ms a request"


@dataclass(frozen=True, slots=True)
class Load:
    """So many objects of so many bytes."""

    name: str
    count: int
    size: int


LARGE, SMALL = Load("200 x 1 MiB", 200, 1 << 20), Load("2000 x 4 KiB", 2000, 4 << 10)
HOWS = ((OURS, "ours"), (PLAIN, "plain"), (OBSTORE, "obstore"))


def objects(plan: Plan) -> tuple[Samples, list[Line]]:
    """Objects of a snapshot's sizes to S3 and Azure, as a run writes them and by clients in the application's loop."""
    samples: Samples = []
    lines: list[Line] = []
    for vendor in ("s3", "azure"):
        for load in (LARGE, SMALL):
            taken = [
                {**write(how, vendor, load), "workload": f"{vendor} {load.name}", "round": number, "contestant": name}
                for number in range(plan.pairs)
                for name, how in (HOWS if number % 2 == 0 else HOWS[::-1])
                if not plan.say(f"{vendor} {load.name} {number + 1}/{plan.pairs}  {name}")
            ]
            samples += taken
            lines += _object_lines(f"{vendor}, {load.name}", taken)
    return samples, lines


def _object_lines(what: str, taken: Samples) -> list[Line]:
    def lag(name: str) -> float:
        mine = [one for one in taken if one["contestant"] == name]
        return statistics.median(one["lag_ms"]["p99"] - one["idle_lag_ms"]["p99"] for one in mine)

    speed = median(taken, PLAIN, "seconds") / median(taken, OURS, "seconds")
    return [
        Line(f"{what}: times as fast as the vendor's client", speed, 0.9, True),
        Line(f"{what}: lag of a 1 ms ticker beyond idle, p99", lag(OURS), max(lag(PLAIN) / 2, 5.0), False, "ms"),
    ]


def write(how: str, vendor: str, load: Load) -> dict[str, Any]:
    """One run against a server of its own."""
    with contextlib.ExitStack() as stack:
        if vendor == "s3":
            s3 = stack.enter_context(moto.Moto())
            place, endpoint = s3.new_bucket(), s3.url
            account, key = moto.ACCESS_KEY, moto.SECRET_ACCESS_KEY
        else:
            azure = stack.enter_context(azurite.Azurite())
            place, endpoint = azure.new_container(), azure.endpoint
            account, key = azurite.ACCOUNT, azurite.KEY
        job = {"how": how, "vendor": vendor, "endpoint": endpoint, "place": place, "account": account, "key": key}
        job |= {"count": load.count, "size": load.size, "at_once": AT_ONCE}
        figures = run_program("objects.py", job, peer=how == "obstore")
    figures["mebibytes_per_second"] = load.count * load.size / figures["seconds"] / (1 << 20)
    return figures


def slow_store(plan: Plan) -> tuple[Samples, list[Line]]:
    """A wordcount of half a minute with its state on S3, where every request takes 50 ms, against a directory."""
    samples: Samples = []
    file = next(WORKLOADS["wordcount"].make(plan.cache).iterdir())
    for number in range(plan.pairs):
        for name in (DIRECTORY, SLOW) if number % 2 == 0 else (SLOW, DIRECTORY):
            figures = _count(plan, file, slow=name == SLOW)
            samples.append({"workload": "wordcount, long", "round": number, "contestant": name, **figures})
            plan.say(f"slow store {number + 1}/{plan.pairs}  {name}: {figures['seconds']:.1f} s")
    cost = median(samples, SLOW, "seconds") / median(samples, DIRECTORY, "seconds")
    return samples, [Line("wordcount: time with the state on a slow S3 / in a directory", cost, 1.15, False)]


def _count(plan: Plan, file: Path, *, slow: bool) -> dict[str, Any]:
    place = Path(tempfile.mkdtemp(prefix="run-", dir=plan.cache))
    try:
        (place / "in").mkdir()
        for number in range(max(1, round(COPIES * plan.scale))):
            os.link(file, place / "in" / f"part-{number:03}.jsonl")
        job: dict[str, Any] = {"kind": "words", "input": f"{place}/in/", "output": str(place / "output.csv")}
        job |= {"interval_ms": INTERVAL_MS, "lag": True, "state": str(place / "state")}
        with contextlib.ExitStack() as stack:
            if slow:
                server = stack.enter_context(moto.Moto())
                port = stack.enter_context(_slow_link(server.port))
                job["s3"] = {
                    "bucket_name": server.new_bucket(),
                    "access_key": moto.ACCESS_KEY,
                    "secret_access_key": moto.SECRET_ACCESS_KEY,
                    "with_path_style": True,
                    "region": "us-east-1",
                    "endpoint": f"http://127.0.0.1:{port}",
                }
            return run_program("ours.py", job)
    finally:
        shutil.rmtree(place)


@contextlib.contextmanager
def _slow_link(port: int) -> Iterator[int]:
    task = json.dumps({"port": port, "seconds": LATENCY_SECONDS})
    command = [sys.executable, str(PROGRAMS / "slow_link.py"), task]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["port"]
        process.terminate()
