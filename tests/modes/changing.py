"""A graph before and after a change, and a process that runs the second one and can be killed in the middle."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import asyncpersist as ap
from asyncpersist.persistence import Backend
from tests.modes.pieces import Feed, Place, Told, Word, counted, file_words

FILE, FEED = ("a", "b", "a", "c"), ("x", "y", "x")


def before(place: Place, *, held: bool = False) -> ap.Graph:
    with ap.Graph() as graph:
        words, fed = _sources(place, held=held)
        ap.io.csv.write(counted(words, "counts"), place / "counts.csv")
        ap.io.csv.write(counted(fed), place / "fed.csv")
        ap.io.csv.write(counted(words.concat_reindex(fed)), place / "old.csv", name="both")
        ap.io.csv.write(fed, place / "restarted.csv", on_restart="overwrite")
    return graph


def after(place: Place, *more: str, told: Told | None = None, held: bool = False) -> ap.Graph:
    """An output moved; others are new above kept state and above a log, one is above what changed."""
    with ap.Graph() as graph:
        words, fed = _sources(place, *more, held=held)
        by_word = counted(words, "counts")
        ap.io.csv.write(by_word, place / "counts.csv")
        ap.io.csv.write(counted(fed), place / "fed.csv")
        ap.io.csv.write(counted(words.concat_reindex(fed)), place / "moved.csv", name="both")
        ap.io.csv.write(by_word.filter(ap.this.count > 1), place / "many.csv")
        ap.io.jsonlines.write(words, place / "words.jsonl")
        ap.io.csv.write(fed.filter(ap.this.word != "y"), place / "restarted.csv", on_restart="overwrite")
        if told is not None:
            ap.io.subscribe(by_word, told, on_recovery=told.on_recovery)
    return graph


def _sources(place: Place, *more: str, held: bool) -> tuple[ap.Table, ap.Table]:
    words = file_words(place / "in", name="files")
    return words, ap.io.python.read(Feed(*FEED, *more, held=held), schema=Word, name="feed")


async def _fill_and_wait(folder: Path) -> None:
    place = Place(folder, Backend.filesystem(folder / "state"))
    async with ap.Runtime(after(place, "z", held=True), persistence_config=place.config()) as runtime:
        while runtime.statistics().rows_read < 1:
            await asyncio.sleep(0.001)
        print("filled", flush=True)
        await runtime.wait()


if __name__ == "__main__":
    asyncio.run(_fill_and_wait(Path(sys.argv[1])))
