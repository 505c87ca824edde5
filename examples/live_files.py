"""Counts the words in `input/`, which may change in any way meanwhile: python live_files.py, or
asyncpersist run live_files.py --state state. Ctrl-C ends it; started again, it goes on where it was.
"""

import asyncio
import contextlib

import asyncpersist as ap


class Line(ap.Schema):
    word: str


def show(key: ap.Pointer, row: dict[str, object], time: int, is_addition: bool) -> None:
    print("+" if is_addition else "-", row["word"], row["count"], flush=True)


lines = ap.io.jsonlines.read("input/", schema=Line, name="lines")
counts = lines.groupby(ap.this.word).reduce(ap.this.word, count=ap.reducers.count())
ap.io.csv.write(counts, "counts.csv")
ap.io.subscribe(counts, show)

if __name__ == "__main__":
    config = ap.persistence.Config(ap.persistence.Backend.filesystem("state"), snapshot_interval_ms=1000)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(ap.run(persistence_config=config))
