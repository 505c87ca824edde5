"""The main stories of modes, with their state on S3 and on Azure."""

from __future__ import annotations

from collections import Counter

import asyncpersist as ap
from tests.modes import changing
from tests.modes.pieces import (
    A,
    Feed,
    M,
    Place,
    Word,
    by_epoch,
    changes,
    counted,
    counts,
    each,
    read,
    rows_in,
    run,
    running,
)


async def test_a_restart_and_a_change_of_the_graph(remote_place: Place) -> None:
    place = remote_place
    place.write("in/1.jsonl", *changing.FILE)
    await run(changing.before(place), place.config())
    old = (place / "old.csv").read_text()
    figures = await run(changing.before(place), place.config())
    assert figures.rows_read == 0
    place.write("in/2.jsonl", "b")
    figures = await run(changing.after(place, "z"), place.config())
    assert figures.rows_read == 2
    file, feed = (*changing.FILE, "b"), (*changing.FEED, "z")
    assert (place / "old.csv").read_text() == old
    assert rows_in(place / "counts.csv") == counts(*file)
    assert rows_in(place / "moved.csv") == counts(*file, *feed)
    assert rows_in(place / "words.jsonl") == each(*file)
    assert rows_in(place / "many.csv") == Counter({("a", "2"): 1, ("b", "2"): 1})


def counting(place: Place, feed: Feed, output: str) -> ap.Graph:
    with ap.Graph() as graph:
        ap.io.csv.write(counted(ap.io.python.read(feed, schema=Word, name="feed")), place / output)
    return graph


async def test_a_recording_and_its_replay(remote_place: Place) -> None:
    place, feed = remote_place, Feed("a", held=True)
    async with running(counting(place, feed, "recorded.csv"), place.config(M.SPEEDRUN_REPLAY, A.RECORD)) as runtime:
        for number, word in enumerate(("b", "a", "a"), start=1):
            await read(runtime, number)
            feed.push(word)
        await read(runtime, 4)
    before = await place.contents()
    replay = place.config(M.SPEEDRUN_REPLAY, A.REPLAY, continue_after_replay=False)
    await run(counting(place, Feed(), "replayed.csv"), replay)
    assert (place / "replayed.csv").read_text() == (place / "recorded.csv").read_text()
    assert len(by_epoch(changes(place / "replayed.csv"))) == 4
    await run(counting(place, Feed("a", "b", "a", "a", "c"), "live.csv"), place.config(M.BATCH, A.REPLAY))
    assert rows_in(place / "live.csv") == counts("a", "b", "a", "a", "c")
    assert await place.contents() == before


async def test_a_selective_restart(remote_place: Place) -> None:
    place = remote_place

    def define(*words: str) -> ap.Graph:
        with ap.Graph() as graph:
            named = ap.io.python.read(Feed(*words), schema=Word, name="feed")
            unnamed = ap.io.python.read(Feed(*words), schema=Word)
            ap.io.csv.write(counted(named), place / "named.csv")
            ap.io.csv.write(counted(unnamed), place / "unnamed.csv")
            ap.io.csv.write(counted(named.concat_reindex(unnamed)), place / "mixed.csv")
        return graph

    await run(define("a", "b"), place.config(M.SELECTIVE_PERSISTING))
    named = (place / "named.csv").read_text()
    figures = await run(define("a", "b", "a"), place.config(M.SELECTIVE_PERSISTING))
    assert figures.rows_read == 4
    assert (place / "named.csv").read_text().startswith(named)
    assert rows_in(place / "named.csv") == rows_in(place / "unnamed.csv") == counts("a", "b", "a")
    assert rows_in(place / "mixed.csv") == counts(*("a", "b", "a") * 2)
