"""Changes of what depends on the order of arrival, and of who asks for ids."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

import asyncpersist as ap
from asyncpersist.checkpoint.manifest import Manifest
from tests.modes.graphs import WORDS, Define, graph_of, refused, rewrite_head
from tests.modes.pieces import (
    Feed,
    Place,
    Told,
    Word,
    counted,
    counts,
    each,
    file_words,
    rows_in,
    run,
)
from tests.modes.probes import Given, history

# What depends on the order


def ordered(place: Place, given: Given, *words: str, mark: str = " ", output: str = "history.csv") -> Define:
    def define() -> None:
        feed = ap.io.python.read(Feed(*words), schema=Word, name="feed")
        ap.io.csv.write(history(feed, given, mark=mark), place / output)

    return define


async def test_the_order_of_arrival_is_kept(anywhere: Place) -> None:
    given: Given = []
    words: list[str] = []
    for number in range(5):
        words += ["a", f"{number}", "a"]
        await run(graph_of(ordered(anywhere, given, *words)), anywhere.config())
    refs = (await anywhere.head()).streams["log/source.feed"]
    assert sum(ref.rows for ref in refs) == len(words)
    assert not any(ref.compacted for ref in refs)
    given.clear()
    await run(graph_of(ordered(anywhere, given, *words, mark="+", output="other.csv")), anywhere.config())
    assert rows_in(anywhere / "other.csv") == Counter({("+".join(words),): 1})
    assert sum(given) == len(words)


async def test_files_that_went_are_part_of_the_history(anywhere: Place) -> None:
    given: Given = []

    def define(mark: str, output: str) -> None:
        ap.io.csv.write(history(file_words(anywhere / "in", name="files"), given, mark=mark), anywhere / output)

    path = anywhere.write("in/1.jsonl", "a", "b")
    await run(graph_of(lambda: define(" ", "one.csv")), anywhere.config())
    path.unlink()
    anywhere.write("in/2.jsonl", "c")
    await run(graph_of(lambda: define(" ", "one.csv")), anywhere.config())
    ((told, _),) = [(row, n) for row, n in rows_in(anywhere / "one.csv").items()]
    assert sorted(told[0].split()) == ["-a", "-b", "a", "b", "c"]
    await run(graph_of(lambda: define("+", "two.csv")), anywhere.config())
    assert rows_in(anywhere / "two.csv") == Counter({(told[0].replace(" ", "+"),): 1})


async def test_a_history_that_is_gone(anywhere: Place) -> None:
    given: Given = []

    def compact(head: Manifest) -> Manifest:
        refs = [msgspec.structs.replace(ref, compacted=True) for ref in head.streams["log/source.feed"]]
        return msgspec.structs.replace(head, streams={**head.streams, "log/source.feed": refs})

    await run(graph_of(ordered(anywhere, given, *WORDS)), anywhere.config())
    await rewrite_head(anywhere, compact)
    given.clear()
    says = r"(?s)depends on the order of arrival, and the history of source 'feed'.* is gone"
    await refused(anywhere, ordered(anywhere, given, *WORDS, mark="+", output="other.csv"), says)
    # What is unchanged does not need it, nor does what does not depend on the order.
    await run(graph_of(ordered(anywhere, given, *WORDS, "x")), anywhere.config())
    assert rows_in(anywhere / "history.csv") == Counter({(" ".join([*WORDS, "x"]),): 1})
    assert given == [1]

    def define() -> None:
        feed = ap.io.python.read(Feed(*WORDS, "x"), schema=Word, name="feed")
        ap.io.csv.write(history(feed, given), anywhere / "history.csv")
        ap.io.csv.write(counted(feed), anywhere / "counts.csv")

    await run(graph_of(define), anywhere.config())
    assert rows_in(anywhere / "counts.csv") == counts(*WORDS, "x")


# Ids


@pytest.mark.parametrize("what", ["subscribe", "tuple", "argmin"])
async def test_ids_that_nobody_asked_for_before(anywhere: Place, what: str) -> None:
    told = Told()

    def define(words: tuple[str, ...], *, asks: bool) -> None:
        lines = file_words(anywhere / "in", name="files")
        feed = ap.io.python.read(Feed(*words), schema=Word, name="feed")
        both = lines.concat_reindex(feed)
        ap.io.csv.write(counted(both), anywhere / "counts.csv")
        if asks and what == "subscribe":
            ap.io.subscribe(lines, told)
            ap.io.subscribe(feed, Told())
        elif asks:
            reducer = ap.reducers.tuple(ap.this.word) if what == "tuple" else ap.reducers.argmin(ap.this.word)
            ap.io.subscribe(lines.groupby(ap.this.word).reduce(ap.this.word, value=reducer), told)

    anywhere.write("in/1.jsonl", *WORDS)
    anywhere.write("in/2.jsonl", "a")
    await run(graph_of(lambda: define(("x",), asks=False)), anywhere.config())
    await run(graph_of(lambda: define(("x",), asks=True)), anywhere.config())

    def right(*words: str) -> None:
        if what == "subscribe":
            assert told.rows == each(*words)
        elif what == "tuple":
            assert told.rows == Counter((word, str([word] * n)) for word, n in Counter(words).items())
        else:
            assert Counter(row[0] for row in told.rows) == Counter(set(words))

    right(*WORDS, "a")
    assert rows_in(anywhere / "counts.csv") == counts(*WORDS, "a", "x")
    # Rows that are taken back have the ids that were told.
    (anywhere / "in/1.jsonl").unlink()
    await run(graph_of(lambda: define(("x", "y"), asks=True)), anywhere.config())
    right("a")
    assert rows_in(anywhere / "counts.csv") == counts("a", "x", "y")
    assert (await anywhere.head()).logs["source.files"].ids


async def test_ids_that_were_asked_for_on_and_off(anywhere: Place) -> None:
    """A log of which only a part has ids: they are made anew for all of it."""
    told = Told()

    def define(*, asks: bool) -> None:
        lines = file_words(anywhere / "in", name="files")
        ap.io.csv.write(counted(lines), anywhere / "counts.csv")
        if asks:
            ap.io.subscribe(lines, told)

    for number, asks in enumerate([True, False, True, False, True]):
        told.changes.clear()
        anywhere.write(f"in/{number}.jsonl", "a", f"{number}")
        await run(graph_of(lambda asks=asks: define(asks=asks)), anywhere.config())
        assert (await anywhere.head()).logs["source.files"].ids == asks
    assert told.rows == each(*(word for number in range(5) for word in ("a", f"{number}")))
    (anywhere / "in/1.jsonl").unlink()
    await run(graph_of(lambda: define(asks=True)), anywhere.config())
    assert told.rows == each(*(word for number in (0, 2, 3, 4) for word in ("a", f"{number}")))


async def test_what_is_kept_does_not_tell_the_order(anywhere: Place) -> None:
    given: Given = []

    def define(*, asks: bool) -> None:
        words = counted(ap.io.python.read(Feed(*WORDS), schema=Word, name="feed"))
        ap.io.csv.write(words, anywhere / "counts.csv")
        if asks:
            ap.io.csv.write(history(words.select(ap.this.word), given), anywhere / "history.csv")

    await run(graph_of(lambda: define(asks=False)), anywhere.config())
    await refused(
        anywhere,
        lambda: define(asks=True),
        r"(?s)depends on the order of arrival, which the state of group_by.* does not tell",
    )
