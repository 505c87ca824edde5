"""What readers of an output are told over runs, in each mode."""

from __future__ import annotations

import pytest

import asyncpersist as ap
from asyncpersist.errors import OutputChanged, OutputNotEmpty
from tests.modes.pieces import (
    REPLAYING,
    A,
    Feed,
    M,
    Place,
    Told,
    Word,
    changes,
    counted,
    counts,
    each,
    read,
    rows_in,
    run,
    running,
)

GOING_ON = [
    (M.PERSISTING, A.FULL),
    (M.OPERATOR_PERSISTING, A.FULL),
    (M.SELECTIVE_PERSISTING, A.FULL),
    (M.UDF_CACHING, A.FULL),
    (M.PERSISTING, A.OFFSETS_ONLY),
    (M.SELECTIVE_PERSISTING, A.OFFSETS_ONLY),
]


def define(place: Place, *words: str, name: str | None = "feed", told: Told | None = None, **sink: str) -> ap.Graph:
    with ap.Graph() as graph:
        table = ap.io.python.read(Feed(*words), schema=Word, name=name)
        ap.io.csv.write(table, place / "out.csv", **sink)  # type: ignore[arg-type]
        if told is not None:
            ap.io.subscribe(table, told, on_recovery=told.on_recovery)
    return graph


@pytest.mark.parametrize(("mode", "access"), GOING_ON)
async def test_an_output_that_goes_on(anywhere: Place, mode: M, access: A) -> None:
    """It is brought to its committed position, and refused where it is not what was committed."""
    config = anywhere.config(mode, access)
    out = anywhere / "out.csv"
    await run(define(anywhere, "a"), config)
    committed = out.read_text()
    with out.open("a") as file:
        file.write("b,1,")
    with pytest.raises(OutputChanged):
        # The run before ended with all that it wrote committed.
        await run(define(anywhere, "a", "b"), config)
    for damaged in (committed[:-1], committed.replace("a", "z")):
        out.write_text(damaged)
        with pytest.raises(OutputChanged):
            await run(define(anywhere, "a", "b"), config)
        assert out.read_text() == damaged
    out.unlink()
    with pytest.raises(OutputChanged):
        await run(define(anywhere, "a", "b"), config)
    assert not out.exists()
    out.write_text(committed)
    await run(define(anywhere, "a", "b"), config)
    assert rows_in(out) == each("a", "b")
    assert out.read_text().startswith(committed)


@pytest.mark.parametrize(("mode", "access"), GOING_ON)
async def test_an_output_that_is_not_empty_at_first(anywhere: Place, mode: M, access: A) -> None:
    (anywhere / "out.csv").write_text("something\n")
    with pytest.raises(OutputNotEmpty):
        await run(define(anywhere, "a"), anywhere.config(mode, access))
    assert (anywhere / "out.csv").read_text() == "something\n"
    assert await anywhere.contents() == {}


@pytest.mark.parametrize(("mode", "access"), GOING_ON)
async def test_an_output_that_overwrites(anywhere: Place, mode: M, access: A) -> None:
    """A new file, with only what is new from now on."""
    (anywhere / "out.csv").write_text("something\n")
    await run(define(anywhere, "a", on_restart="overwrite"), anywhere.config(mode, access))
    assert rows_in(anywhere / "out.csv") == each("a")
    await run(define(anywhere, "a", "b", on_restart="overwrite"), anywhere.config(mode, access))
    assert rows_in(anywhere / "out.csv") == each("b")


@pytest.mark.parametrize(
    ("mode", "access"),
    [*((mode, A.FULL) for mode in REPLAYING), (M.SELECTIVE_PERSISTING, A.FULL), (M.UDF_CACHING, A.FULL)],
)
async def test_an_output_that_starts_anew(anywhere: Place, mode: M, access: A) -> None:
    """Replay modes, and what no named source reaches, as a run without persistence: a new file with everything."""
    name = "feed" if mode in REPLAYING else None
    for words in (("a",), ("a", "b"), ("a", "b")):
        await run(define(anywhere, *words, name=name), anywhere.config(mode, access))
        assert rows_in(anywhere / "out.csv") == each(*words)
        (anywhere / "out.csv").unlink()
    assert (await anywhere.head()).sinks == {}


async def test_an_output_that_starts_anew_is_written_to_its_end(anywhere: Place) -> None:
    """Also where the run has nothing to commit, and however it ends."""
    words = [f"{number}" for number in range(500)]
    feed = Feed(*words, held=True)
    with ap.Graph() as graph:
        ap.io.csv.write(ap.io.python.read(feed, schema=Word), anywhere / "out.csv")
    async with running(graph, anywhere.config(M.SELECTIVE_PERSISTING)) as runtime:
        await read(runtime, 500)
    assert rows_in(anywhere / "out.csv") == each(*words)


@pytest.mark.parametrize(("mode", "access"), [*GOING_ON, *((mode, A.FULL) for mode in REPLAYING)])
@pytest.mark.parametrize("name", ["feed", None])
async def test_a_subscription(anywhere: Place, mode: M, access: A, name: str | None) -> None:
    """What goes on is told what is new, and first the last epoch that holds; what starts anew is told everything."""
    config = anywhere.config(mode, access)
    first, second = Told(), Told()
    await run(define(anywhere, "a", "b", told=first, name=name), config)
    assert first.rows == each("a", "b")
    assert first.recovered == []
    epoch = (await anywhere.head()).epoch
    await run(define(anywhere, "a", "b", "c", told=second, name=name), config)
    goes_on = mode not in REPLAYING and (name is not None or mode in (M.PERSISTING, M.OPERATOR_PERSISTING))
    assert second.rows == (each("c") if goes_on else each("a", "b", "c"))
    assert second.recovered == ([epoch] if goes_on else [])


async def test_what_selective_replays(anywhere: Place) -> None:
    """Above an unnamed source, logs of named ones are replayed with output, in one epoch before anything new."""

    def define(*words: str) -> ap.Graph:
        with ap.Graph() as graph:
            named = ap.io.python.read(Feed(*words), schema=Word, name="feed")
            unnamed = ap.io.python.read(Feed("x", "y"), schema=Word)
            ap.io.csv.write(counted(named.concat_reindex(unnamed)), anywhere / "mixed.csv")
        return graph

    await run(define("a", "a", "b"), anywhere.config(M.SELECTIVE_PERSISTING))
    await run(define("a", "a", "b", "a"), anywhere.config(M.SELECTIVE_PERSISTING))
    found = changes(anywhere / "mixed.csv")
    assert rows_in(anywhere / "mixed.csv") == counts("a", "a", "b", "a", "x", "y")
    first = [(row, diff) for row, time, diff in found if time == found[0][1]]
    assert sorted(first) == [(("a", "2"), 1), (("b", "1"), 1)]
