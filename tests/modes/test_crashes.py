"""Ends of a run between its claim and its first snapshot, after the graph was changed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

import asyncpersist as ap
from tests.amounts import PATIENCE
from tests.modes.changing import FEED, FILE, after, before
from tests.modes.pieces import (
    Crash,
    Place,
    Told,
    changes,
    counts,
    crashed,
    each,
    rows_in,
    run,
    shows,
    until,
)


async def judge(place: Place, file: tuple[str, ...], feed: tuple[str, ...]) -> None:
    """What every output holds after the change, and that each new one got what was there once."""
    assert rows_in(place / "counts.csv") == counts(*file)
    assert rows_in(place / "fed.csv") == counts(*feed)
    assert rows_in(place / "moved.csv") == counts(*file, *feed)
    assert rows_in(place / "words.jsonl") == each(*file)
    many = {row: n for row, n in counts(*file).items() if int(row[1]) > 1}
    assert rows_in(place / "many.csv") == many
    assert rows_in(place / "restarted.csv") == each(*(word for word in feed if word != "y"))


def told_all(place: Place) -> bool:
    """Whether new outputs show all that was there before, and what was new."""
    new = shows(place / "moved.csv", counts(*FILE, *FEED, "z")) and shows(place / "words.jsonl", each(*FILE))
    return new and shows(place / "restarted.csv", each("x", "x", "z"))


async def test_the_change(place: Place) -> None:
    """Without a crash."""
    place.write("in/1.jsonl", *FILE)
    await run(before(place), place.config())
    old = (place / "old.csv").read_text()
    await run(after(place), place.config())
    await judge(place, FILE, FEED)
    assert (place / "old.csv").read_text() == old


@pytest.mark.parametrize("filled", [False, True])
async def test_ended_at_once(place: Place, filled: bool) -> None:
    """Just after the claim, or after everything was given to what is new; several times."""
    place.write("in/1.jsonl", *FILE)
    await run(before(place), place.config())
    claimed = await place.head()
    told = Told()
    for _ in range(2):
        # What was told and not committed does not hold; it comes again.
        told.changes.clear()
        graph = after(place, "z", told=told, held=True)
        await crashed(graph, place.config(), lambda _: not filled or told_all(place))
        head = await place.head()
        assert (head.epoch, head.streams, head.graph) == (claimed.epoch, claimed.streams, claimed.graph)
    told.changes.clear()
    place.write("in/2.jsonl", "b")
    await run(after(place, "z", told=told), place.config())
    await judge(place, (*FILE, "b"), (*FEED, "z"))
    assert told.rows == counts(*FILE, "b")
    assert told.recovered == [claimed.epoch] * 3
    await run(after(place, "z", "z", told=told), place.config())
    assert rows_in(place / "moved.csv") == counts(*FILE, "b", *FEED, "z", "z")
    assert rows_in(place / "restarted.csv") == each("z"), "an output that overwrites holds only what is new"


async def test_a_callback_that_raises(anywhere: Place) -> None:
    anywhere.write("in/1.jsonl", *FILE)
    await run(before(anywhere), anywhere.config())

    class Raising(Told):
        def __call__(self, **change: object) -> None:  # type: ignore[override]
            raise Crash

    for _ in range(2):
        with pytest.raises(Crash):
            await run(after(anywhere, "z", told=Raising()), anywhere.config())
    told = Told()
    await run(after(anywhere, "z", told=told), anywhere.config())
    await judge(anywhere, FILE, (*FEED, "z"))
    assert told.rows == counts(*FILE)


async def test_back_to_the_graph_before(anywhere: Place) -> None:
    """Whoever takes a change back before anything of it was committed has lost nothing."""
    anywhere.write("in/1.jsonl", *FILE)
    await run(before(anywhere), anywhere.config())
    await crashed(after(anywhere, "z", held=True), anywhere.config(), lambda _: told_all(anywhere))
    await run(before(anywhere), anywhere.config(on_graph_change="reject"))
    assert rows_in(anywhere / "old.csv") == counts(*FILE, *FEED)
    assert rows_in(anywhere / "counts.csv") == counts(*FILE)


async def test_a_stop_right_after_the_start(anywhere: Place) -> None:
    """It may come before, while or after what is new is filled: nothing is told by halves."""
    anywhere.write("in/1.jsonl", *FILE)
    await run(before(anywhere), anywhere.config())
    for turns in (0, 1, 3, 10):
        async with ap.Runtime(after(anywhere, "z", held=True), persistence_config=anywhere.config()):
            for _ in range(turns):
                await asyncio.sleep(0)
    for name in ("many.csv", "words.jsonl", "moved.csv"):
        assert len({time for _, time, _ in changes(anywhere / name)}) <= 2
    await run(after(anywhere, "z"), anywhere.config())
    assert rows_in(anywhere / "counts.csv") == counts(*FILE)
    assert rows_in(anywhere / "moved.csv") == counts(*FILE, *FEED, "z")
    assert rows_in(anywhere / "words.jsonl") == each(*FILE)


async def test_killed(tmp_path: Path) -> None:
    place = Place(tmp_path, ap.persistence.Backend.filesystem(tmp_path / "state"))
    place.write("in/1.jsonl", *FILE)
    await run(before(place), place.config())
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.modes.changing", str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        assert await process.stdout.readline() == b"filled\n"
        await until(lambda: told_all(place))
        process.kill()
        assert await process.wait() < 0
    await run(after(place, "z"), place.config())
    await judge(place, FILE, (*FEED, "z"))


async def test_a_store_that_fails_while_something_is_filled(anywhere: Place) -> None:
    """A log that cannot be read leaves everything as it was; once it can be, the change goes through."""
    anywhere.write("in/1.jsonl", *FILE)
    await run(before(anywhere), anywhere.config())
    (ref,) = (await anywhere.head()).streams["log/source.files"]
    data = await anywhere.store.get(ref.key)
    await anywhere.store.delete([ref.key])
    with pytest.raises(ap.errors.DamagedState, match=ref.key):
        await run(after(anywhere), anywhere.config())
    await anywhere.store.put(ref.key, data)
    await run(after(anywhere), anywhere.config())
    await judge(anywhere, FILE, FEED)
