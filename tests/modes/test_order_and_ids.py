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


async def test_the_order_of_arrival_is_kept(in_memory: Place) -> None:
    given: Given = []
    words: list[str] = []
    for number in range(5):
        words += ["a", f"{number}", "a"]
        await run(graph_of(ordered(in_memory, given, *words)), in_memory.config())
    refs = (await in_memory.head()).streams["log/source.feed"]
    assert sum(ref.rows for ref in refs) == len(words)
    assert not any(ref.compacted for ref in refs)
    given.clear()
    await run(graph_of(ordered(in_memory, given, *words, mark="+", output="other.csv")), in_memory.config())
    assert rows_in(in_memory / "other.csv") == Counter({("+".join(words),): 1})
    assert sum(given) == len(words)


async def test_files_that_went_are_part_of_the_history(in_memory: Place) -> None:
    given: Given = []

    def define(mark: str, output: str) -> None:
        ap.io.csv.write(history(file_words(in_memory / "in", name="files"), given, mark=mark), in_memory / output)

    path = in_memory.write("in/1.jsonl", "a", "b")
    await run(graph_of(lambda: define(" ", "one.csv")), in_memory.config())
    path.unlink()
    in_memory.write("in/2.jsonl", "c")
    await run(graph_of(lambda: define(" ", "one.csv")), in_memory.config())
    ((told, _),) = [(row, n) for row, n in rows_in(in_memory / "one.csv").items()]
    assert sorted(told[0].split()) == ["-a", "-b", "a", "b", "c"]
    await run(graph_of(lambda: define("+", "two.csv")), in_memory.config())
    assert rows_in(in_memory / "two.csv") == Counter({(told[0].replace(" ", "+"),): 1})


async def test_a_history_that_is_gone(in_memory: Place) -> None:
    given: Given = []

    def compact(head: Manifest) -> Manifest:
        refs = [msgspec.structs.replace(ref, compacted=True) for ref in head.streams["log/source.feed"]]
        return msgspec.structs.replace(head, streams={**head.streams, "log/source.feed": refs})

    await run(graph_of(ordered(in_memory, given, *WORDS)), in_memory.config())
    await rewrite_head(in_memory, compact)
    given.clear()
    says = r"(?s)depends on the order of arrival, and the history of source 'feed'.* is gone"
    await refused(in_memory, ordered(in_memory, given, *WORDS, mark="+", output="other.csv"), says)
    # What is unchanged does not need it, nor does what does not depend on the order.
    await run(graph_of(ordered(in_memory, given, *WORDS, "x")), in_memory.config())
    assert rows_in(in_memory / "history.csv") == Counter({(" ".join([*WORDS, "x"]),): 1})
    assert given == [1]

    def define() -> None:
        feed = ap.io.python.read(Feed(*WORDS, "x"), schema=Word, name="feed")
        ap.io.csv.write(history(feed, given), in_memory / "history.csv")
        ap.io.csv.write(counted(feed), in_memory / "counts.csv")

    await run(graph_of(define), in_memory.config())
    assert rows_in(in_memory / "counts.csv") == counts(*WORDS, "x")


# Ids


@pytest.mark.parametrize("what", ["subscribe", "tuple", "argmin"])
async def test_ids_that_nobody_asked_for_before(in_memory: Place, what: str) -> None:
    told = Told()

    def define(words: tuple[str, ...], *, asks: bool) -> None:
        lines = file_words(in_memory / "in", name="files")
        feed = ap.io.python.read(Feed(*words), schema=Word, name="feed")
        both = lines.concat_reindex(feed)
        ap.io.csv.write(counted(both), in_memory / "counts.csv")
        if asks and what == "subscribe":
            ap.io.subscribe(lines, told)
            ap.io.subscribe(feed, Told())
        elif asks:
            reducer = ap.reducers.tuple(ap.this.word) if what == "tuple" else ap.reducers.argmin(ap.this.word)
            ap.io.subscribe(lines.groupby(ap.this.word).reduce(ap.this.word, value=reducer), told)

    in_memory.write("in/1.jsonl", *WORDS)
    in_memory.write("in/2.jsonl", "a")
    await run(graph_of(lambda: define(("x",), asks=False)), in_memory.config())
    await run(graph_of(lambda: define(("x",), asks=True)), in_memory.config())

    def right(*words: str) -> None:
        if what == "subscribe":
            assert told.rows == each(*words)
        elif what == "tuple":
            assert told.rows == Counter((word, str([word] * n)) for word, n in Counter(words).items())
        else:
            assert Counter(row[0] for row in told.rows) == Counter(set(words))

    right(*WORDS, "a")
    assert rows_in(in_memory / "counts.csv") == counts(*WORDS, "a", "x")
    # Rows that are taken back have the ids that were told.
    (in_memory / "in/1.jsonl").unlink()
    await run(graph_of(lambda: define(("x", "y"), asks=True)), in_memory.config())
    right("a")
    assert rows_in(in_memory / "counts.csv") == counts("a", "x", "y")
    assert (await in_memory.head()).logs["source.files"].ids


async def test_ids_that_were_asked_for_on_and_off(in_memory: Place) -> None:
    """A log of which only a part has ids: they are made anew for all of it."""
    told = Told()

    def define(*, asks: bool) -> None:
        lines = file_words(in_memory / "in", name="files")
        ap.io.csv.write(counted(lines), in_memory / "counts.csv")
        if asks:
            ap.io.subscribe(lines, told)

    for number, asks in enumerate([True, False, True, False, True]):
        told.changes.clear()
        in_memory.write(f"in/{number}.jsonl", "a", f"{number}")
        await run(graph_of(lambda asks=asks: define(asks=asks)), in_memory.config())
        assert (await in_memory.head()).logs["source.files"].ids == asks
    assert told.rows == each(*(word for number in range(5) for word in ("a", f"{number}")))
    (in_memory / "in/1.jsonl").unlink()
    await run(graph_of(lambda: define(asks=True)), in_memory.config())
    assert told.rows == each(*(word for number in (0, 2, 3, 4) for word in ("a", f"{number}")))


async def test_what_is_kept_does_not_tell_the_order(in_memory: Place) -> None:
    given: Given = []

    def define(*, asks: bool) -> None:
        words = counted(ap.io.python.read(Feed(*WORDS), schema=Word, name="feed"))
        ap.io.csv.write(words, in_memory / "counts.csv")
        if asks:
            ap.io.csv.write(history(words.select(ap.this.word), given), in_memory / "history.csv")

    await run(graph_of(lambda: define(asks=False)), in_memory.config())
    await refused(
        in_memory,
        lambda: define(asks=True),
        r"(?s)depends on the order of arrival, which the state of group_by.* does not tell",
    )
