"""A program with calls that take for ever, to be killed: ``python -m tests.udfs.later_job FOLDER [all]``.

Of the arguments those that 3 divides are answered at once, those one above them after a snapshot, which the program
tells by a line; the others only with ``all``. It notes every call in a file.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import asyncpersist as ap

COUNT = 60


class Item(ap.Schema):
    k: int
    a: int


async def main(folder: Path, *, everything: bool) -> None:
    saved, answered = asyncio.Event(), asyncio.Condition()
    count = 0

    @ap.udf(executor=ap.udfs.fully_async_executor(autocommit_duration_ms=1))
    async def tenfold(a: int) -> int:
        with (folder / "calls").open("a") as file:
            file.write(f"{a}\n")
        if not everything:
            if a % 3 == 1:
                await saved.wait()
            elif a % 3 == 2:
                await asyncio.Event().wait()
        return 10 * a

    async def told(**change: Any) -> None:
        nonlocal count
        async with answered:
            count += 1
            answered.notify_all()

    async def reached(number: int) -> None:
        async with answered:
            await answered.wait_for(lambda: count == number)

    with ap.Graph() as graph:
        items = ap.io.jsonlines.read(folder / "in.jsonl", schema=Item, mode="static", name="items")
        out = items.select(items.k, f=tenfold(items.a))
        ap.io.csv.write(out, folder / "out.csv", name="out")
        ap.io.csv.write(
            out.await_futures().reduce(total=ap.reducers.sum(ap.this.f)), folder / "total.csv", name="total"
        )
        ap.io.subscribe(out.await_futures(), told, name="told")
    config = ap.persistence.Config(ap.persistence.Backend.filesystem(folder / "state"), snapshot_interval_ms=3_600_000)
    async with ap.Runtime(graph, persistence_config=config) as runtime:
        if not everything:
            await reached(COUNT // 3)
            await runtime.snapshot()
            saved.set()
            await reached(2 * (COUNT // 3))
            print("saved", flush=True)
        await runtime.wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), everything=sys.argv[2:] == ["all"]))
