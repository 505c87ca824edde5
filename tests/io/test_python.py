"""Rows from Python: what a subject gives is what is read, and what it must not do is said."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

import asyncpersist as ap
from asyncpersist.columnar.delta import ID
from asyncpersist.columnar.hashing import row_ids
from asyncpersist.errors import GraphError, InputError, MalformedInput, RunStopped, Unsupported
from asyncpersist.io.python import ConnectorSubject
from tests.io.subjects import Does, Given, GivenInThread, Item, batches, opened, rows, source_of, weights

KINDS = [Given, GivenInThread]

any_read: Any = ap.io.python.read
"""Without its types, as it is also called wrongly."""


class Keyed(ap.Schema):
    k: str = ap.column_definition(primary_key=True)
    v: int


class Counting(Given):
    """Has offsets: how many rows it gave."""

    def offset(self) -> int:
        return self.given

    def seek(self, offset: int) -> None:
        assert self.given == 0
        self.given = offset
        self.rows = list(self.rows)[offset:]


class CountingInThread(GivenInThread, Counting):
    pass


def many(count: int) -> list[dict[str, Any]]:
    return [{"n": n, "word": f"w{n % 7}", "price": n / 2 if n % 3 else None} for n in range(count)]


# what is given is what is read


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [0, 1, 5_000, 50_000])
async def test_all_rows_in_their_order(kind: type[Given], count: int) -> None:
    subject = kind(many(count))
    found = await batches(subject)
    assert rows(found) == [tuple(row.values()) for row in many(count)]
    assert all(batch.delta.weights is None for batch in found)
    assert subject.stopped == 1


async def test_what_a_row_leaves_out_is_filled_in() -> None:
    assert rows(await batches(Given([{"n": 1}, {"price": 2, "n": 2}, {"word": "a", "n": 3, "price": None}]))) == [
        (1, "-", None),
        (2, "-", 2.0),
        (3, "a", None),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"n": "1"}, r"column 'n': expected int, got '1'. The row: \{'n': '1', 'word': '-', 'price': None\}"),
        ({"n": True}, "column 'n': expected int, got True"),
        ({"n": 1 << 63}, "column 'n': .* does not fit 64 bits"),
        ({"n": None}, "column 'n': expected int, got None"),
        ({"n": 1, "word": None}, "column 'word': expected str, got None"),
        ({"n": 1, "price": "x"}, r"column 'price': expected float\?, got 'x'"),
        ({"word": "a"}, r"lacks the column 'n', which has no default. .*\{'word': 'a'\}"),
        ({"n": 1, "ward": "a"}, "has 'ward', which is no column. There are: n, word, price"),
    ],
)
@pytest.mark.parametrize("kind", [*KINDS, Counting])
async def test_a_row_that_does_not_fit_ends_the_run(kind: type[Given], row: dict[str, Any], message: str) -> None:
    with pytest.raises(MalformedInput, match=f"subject 'items' \\({kind.__name__}\\): .*{message}"):
        await batches(kind([*many(3000), row]), name="items")


async def test_ids_follow_from_the_place_and_go_on_after_a_restart() -> None:
    first = await batches(Counting(many(5000)), ids=True)
    again = await batches(Counting(many(7000)), ids=True, offsets=dict(first[-1].offsets))
    ids = pl.concat([batch.delta.rows[ID] for batch in [*first, *again]])
    assert ids.equals(row_ids("source", "subject", 0, 7000))
    assert rows(first) + rows(again) == [tuple(row.values()) for row in many(7000)]


@pytest.mark.parametrize("kind", [Counting, CountingInThread])
async def test_every_batch_carries_the_offset_after_it(kind: type[Counting]) -> None:
    read = 0
    for batch in await batches(kind(many(30_000))):
        read += batch.delta.height
        assert batch.offsets == {"subject": {"rows": read, "offset": read}}


async def test_an_offset_is_what_it_was_when_its_row_was_given() -> None:
    class Positions(Given):
        def __init__(self) -> None:
            super().__init__(many(10))
            self.position = {"at": [0]}

        async def run(self) -> None:
            for row in self.rows:
                self.position["at"][0] += 1
                await self.next(**row)
            self.position["at"][0] = 99
            await asyncio.sleep(0)

        def offset(self) -> Any:
            return self.position

        def seek(self, offset: Any) -> None:
            raise AssertionError("it starts from nothing")

    (batch,) = await batches(Positions())
    assert batch.offsets == {"subject": {"rows": 10, "offset": {"at": [10]}}}


async def test_an_offset_that_is_no_json_is_refused() -> None:
    class Strange(Counting):
        def offset(self) -> Any:
            return object()

    with pytest.raises(TypeError, match=r"subject Strange: offset\(\) gave .*, which JSON cannot hold"):
        await batches(Strange(many(1)))


async def test_many_rows_at_once() -> None:
    frame = pl.DataFrame(many(100)).select("price", "n", "word")

    async def give(subject: ConnectorSubject) -> None:
        await subject.next(n=-1)
        await subject.next_batch(many(3000))
        await subject.next_batch([])
        await subject.next_batch(frame)
        await subject.next_batch(_Stream(frame))
        await subject.next_batch(frame.select(pl.col("n").cast(pl.Int16)))
        await subject.next(n=-2)

    found = rows(await batches(Does(give)))
    expected = [(-1, "-", None), *_tuples(3000), *_tuples(100), *_tuples(100)]
    expected += [(n, "-", None) for n in range(100)]
    assert found == [*expected, (-2, "-", None)]


def _tuples(count: int) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in many(count)]


class _Stream:
    """What any Arrow library gives."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._frame = frame

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._frame.__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (pl.DataFrame({"n": ["1"]}), MalformedInput, "column 'n': expected int, got '1'"),
        (pl.DataFrame({"n": [1, None]}), MalformedInput, "column 'n': expected int, got None"),
        (pl.DataFrame({"n": [1 << 63]}, schema={"n": pl.UInt64}), MalformedInput, "cannot be kept exactly"),
        (pl.DataFrame({"m": [1]}), MalformedInput, "has 'm', which is no column"),
        (pl.DataFrame({"word": ["a"]}), MalformedInput, "lacks the column 'n'"),
        ([{"n": 1}, {"n": 2.5}], MalformedInput, "column 'n': expected int, got 2.5"),
        ([{"n": 1}, None], TypeError, "a list of dicts; None is none"),
        ({"n": 1}, TypeError, "a list of dicts, a Polars DataFrame or an Arrow table, not {'n': 1}"),
        (pl.LazyFrame({"n": [1]}), TypeError, "not <LazyFrame"),
    ],
)
async def test_many_rows_that_do_not_fit(given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        await batches(Does(lambda subject: subject.next_batch(given)))


async def test_pathways_other_names() -> None:
    class Text(ap.Schema):
        data: str

    async def give(subject: ConnectorSubject) -> None:
        await subject.next_json({"data": "a"})
        await subject.next_json('{"data": "b"}')
        await subject.next_str("c")
        await subject.delete(data="a")

    found = await batches(Does(give), schema=Text)
    assert (rows(found), weights(found)) == ([("a",), ("b",), ("c",), ("a",)], [1, 1, 1, -1])
    with pytest.raises(TypeError, match=r"next_json takes an object, not \[1\]"):
        await batches(Does(lambda subject: subject.next_json("[1]")), schema=Text)


# taking back


async def test_a_removed_row_has_a_negative_weight() -> None:
    async def give(subject: ConnectorSubject) -> None:
        for n in range(5000):
            await subject.next(n=n)
            if n % 3 == 0:
                await subject.remove(n=n)

    found = await batches(Does(give))
    expected = [(n, weight) for n in range(5000) for weight in ((1, -1) if n % 3 == 0 else (1,))]
    assert [(row[0], weight) for row, weight in zip(rows(found), weights(found), strict=True)] == expected


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda subject: subject.next({"n": 1}), r"for a dict write next\(\*\*row\), and next_batch"),
        (lambda subject: subject.remove({"n": 1}), r"for a dict write remove\(\*\*row\)"),
        (lambda subject: subject.delete({"n": 1}), r"for a dict write remove\(\*\*row\)"),
        (lambda subject: subject.next(1, "a"), r"next\(column=value, \.\.\.\)"),
    ],
)
async def test_columns_are_given_by_name(call: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        await batches(Does(call))


async def test_with_a_primary_key_only_the_key_is_needed_to_remove() -> None:
    async def give(subject: ConnectorSubject) -> None:
        await subject.next(k="a", v=1)
        await subject.remove(k="a")
        await subject.remove(k="b", v=2)

    found = await batches(Does(give), schema=Keyed)
    assert weights(found) == [1, -1, -1]
    assert [row[0] for row in rows(found)] == ["a", "a", "b"]

    async def lacking(subject: ConnectorSubject) -> None:
        await subject.remove(k="a")
        await subject.next(k="a", v=None)

    with pytest.raises(MalformedInput, match="column 'v': expected int, got None"):
        await batches(Does(lacking), schema=Keyed)
    with pytest.raises(MalformedInput, match="lacks the column 'k'"):
        await batches(Does(lambda subject: subject.remove(v=1)), schema=Keyed)


async def test_where_rows_cannot_be_removed() -> None:
    class Growing(Does):
        deletions_enabled = False

    with pytest.raises(Unsupported, match=r"Growing\.deletions_enabled is False"):
        await batches(Growing(lambda subject: subject.remove(n=1)))
    with pytest.raises(Unsupported, match="Give the schema a primary key"):
        await batches(Does(lambda subject: subject.remove(n=1)), ids=True)
    retracts = [
        source_of(ap.io.python.read(subject, schema=Item)).source.retracts(persistent=persistent)
        for subject in (Growing(print), Does(print))
        for persistent in (True, False)
    ]
    assert retracts == [False, False, True, True]


# the beginning and the end


async def test_a_subject_seeks_before_it_runs() -> None:
    calls: list[str] = []

    class Seeking(Given):
        def __init__(self) -> None:
            super().__init__([])

        async def seek(self, offset: Any) -> None:
            calls.append(f"seek {offset}")

        def offset(self) -> Any:
            return None

        async def run(self) -> None:
            calls.append("run")

        def on_stop(self) -> None:
            calls.append("stop")

    subject = Seeking()
    await batches(subject)
    await batches(subject, offsets={"subject": {"rows": 3, "offset": [1, "a"]}})
    await batches(subject, offsets={"subject": {"rows": 3, "offset": 7}}, resume="live")
    assert calls == ["run", "stop", "seek [1, 'a']", "run", "stop", "run", "stop"]


@pytest.mark.parametrize("kind", KINDS)
async def test_what_run_raises_is_what_read_raises(kind: type[Given]) -> None:
    def failing() -> Any:
        yield {"n": 1}
        raise KeyError("feed")

    subject = kind(failing())
    with pytest.raises(KeyError, match="feed") as raised:
        await batches(subject, name="feeds")
    assert raised.value.__notes__ == [f"the subject 'feeds' ({kind.__name__}): raised in its run()"]
    assert subject.stopped == 1
    subject.rows = many(2)
    assert len(rows(await batches(subject))) == 2


@pytest.mark.parametrize("method", ["seek", "on_stop", "offset"])
@pytest.mark.parametrize("kind", [Counting, CountingInThread])
async def test_an_error_of_a_subject_says_whose_it_is(kind: type[Counting], method: str) -> None:
    def fail(*_: Any) -> None:
        raise KeyError("mine")

    class Failing(kind):  # type: ignore[valid-type, misc]
        pass

    setattr(Failing, method, fail)
    with pytest.raises(KeyError, match="mine") as raised:
        await batches(Failing(many(2)), offsets={"subject": {"rows": 0, "offset": 0}})
    where = "run" if method == "offset" else method
    assert raised.value.__notes__ == [f"the subject Failing: raised in its {where}()"]


async def test_a_run_that_is_cancelled_by_itself_is_an_error() -> None:
    async def cancel(subject: ConnectorSubject) -> None:
        raise asyncio.CancelledError

    with pytest.raises(InputError, match=r"its run\(\) was cancelled"):
        await batches(Does(cancel))


async def test_after_close_no_row_is_taken_and_those_before_count() -> None:
    refused: list[str] = []

    async def give(subject: ConnectorSubject) -> None:
        await subject.next(n=1)
        subject.close()
        for late in (subject.next, subject.remove):
            with pytest.raises(RunStopped) as caught:
                await late(n=2)
            refused.append(str(caught.value))
        with pytest.raises(RunStopped):
            await subject.next_batch([{"n": 2}])
        await asyncio.Event().wait()

    assert rows(await batches(Does(give))) == [(1, "-", None)]
    assert refused == ["the subject Does: no row is taken any more, because the subject was closed"] * 2


async def test_rows_are_only_taken_while_the_subject_runs() -> None:
    subject = Given(many(1))
    calls: list[Callable[[], Any]] = [
        lambda: subject.next(n=1),
        lambda: subject.next_batch([]),
        lambda: subject.remove(n=1),
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match="while the subject runs"):
            call()
    await batches(subject)
    with pytest.raises(RuntimeError, match="while the subject runs"):
        subject.next(n=1)


async def test_one_run_at_a_time() -> None:
    subject = Given(many(1))
    async with opened(subject):
        with pytest.raises(GraphError, match="the subject runs already"):
            async with opened(subject):
                pass
    assert len(await batches(subject)) == 1


async def test_a_coroutine_is_cancelled_when_the_run_stops() -> None:
    ended: list[str] = []

    class Waiting(Given):
        async def run(self) -> None:
            try:
                await self.next(n=1)
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ended.append("cancelled")
                with pytest.raises(RunStopped):
                    self.next(n=2)
                raise

        async def on_stop(self) -> None:  # type: ignore[override]
            ended.append("stop")

    async with opened(Waiting([])) as reader:
        assert rows([await _read(reader)]) == [(1, "-", None)]
    assert ended == ["cancelled", "stop"]


async def test_a_thread_is_told_to_stop_and_waited_for() -> None:
    class Waiting(ConnectorSubject):
        def __init__(self) -> None:
            self.wake = threading.Event()
            self.ended: list[str] = []

        def run(self) -> None:
            self.next(n=1)
            self.wake.wait()
            try:
                self.next(n=2)
            except RunStopped as exc:
                self.ended.append(str(exc))
                raise

        def on_stop(self) -> None:
            self.ended.append("stop")
            self.wake.set()

    subject = Waiting()
    async with opened(subject) as reader:
        await reader.read()
    assert subject.ended == ["stop", "the subject Waiting: no row is taken any more, because the run has stopped"]
    assert not [thread for thread in threading.enumerate() if thread.name == "the subject Waiting"]


async def test_a_thread_that_does_not_end_is_left_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    class Deaf(ConnectorSubject):
        stop_timeout = 0.01

        def __init__(self) -> None:
            self.wake = threading.Event()

        def run(self) -> None:
            self.next(n=1)
            self.wake.wait()

    subject = Deaf()
    async with opened(subject) as reader:
        await reader.read()
    assert "the subject Deaf: run() has not ended 0.01 seconds after" in caplog.text
    subject.wake.set()
    for thread in threading.enumerate():
        if thread.name == "the subject Deaf":
            thread.join()


async def test_what_on_stop_raises(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(GivenInThread):
        def on_stop(self) -> None:
            raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        await batches(Failing(many(1)))

    class Waiting(Failing):
        wake = threading.Event()

        def run(self) -> None:  # type: ignore[override]
            self.next(n=1)
            self.wake.wait()

        def on_stop(self) -> None:
            self.wake.set()
            super().on_stop()

    with caplog.at_level(logging.WARNING):
        async with opened(Waiting([])) as reader:
            await reader.read()
    assert "on_stop() raised" in caplog.text


# back-pressure and delay


@pytest.mark.parametrize("kind", KINDS)
async def test_a_subject_waits_for_its_reader(kind: type[Given]) -> None:
    bound, read = 50, 0
    subject = kind(many(2000))
    async with opened(subject, max_backlog_size=bound) as reader:
        while (batch := await reader.read()) is not None:
            assert batch.delta.height <= bound + 1
            read += batch.delta.height
            assert subject.given <= read + bound + 2
    assert read == 2000


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stop_releases_a_subject_that_waits_for_room(kind: type[Given]) -> None:
    subject = kind(many(2000))
    async with opened(subject, max_backlog_size=10) as reader:
        await reader.read()
    assert subject.given < 2000
    assert subject.stopped == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_pending_is_bounded_in_bytes(kind: type[Given]) -> None:
    text = "x" * 100_000
    subject = kind({"n": n, "word": text} for n in range(400))
    most = 0
    async with opened(subject) as reader:
        while (batch := await reader.read()) is not None:
            most = max(most, batch.size)
    assert subject.given == 400
    assert most < 30 << 20


async def test_a_coroutine_that_never_waits_lets_the_loop_go_on() -> None:
    turns = 0

    async def tick() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    count = 0
    async with opened(Given({"n": n} for n in range(200_000))) as reader:
        while (batch := await reader.read()) is not None:
            count += batch.delta.height
    ticking.cancel()
    assert count == 200_000
    assert turns > 30


@pytest.mark.parametrize("how", ["commit", "close", "bound", "return"])
async def test_rows_wait_for_others_until_something_ends_the_delay(how: str) -> None:
    async def give(subject: ConnectorSubject) -> None:
        subject.commit()  # of nothing: means nothing
        await subject.next(n=1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await subject.next(n=2)
        if how == "commit":
            subject.commit()
        elif how == "close":
            subject.close()
        elif how == "bound":
            await subject.next(n=3)
        if how != "return":
            await asyncio.Event().wait()

    async with opened(Does(give), autocommit_duration_ms=3_600_000, max_backlog_size=3) as reader:
        assert rows([await _read(reader)]) == [(n, "-", None) for n in range(1, 4 if how == "bound" else 3)]


async def test_a_delay_ends_by_itself() -> None:
    async def give(subject: ConnectorSubject) -> None:
        await subject.next(n=1)
        await asyncio.Event().wait()

    async with opened(Does(give), autocommit_duration_ms=1) as reader:
        assert rows([await _read(reader)]) == [(1, "-", None)]


async def test_rows_from_several_threads_are_neither_lost_nor_doubled() -> None:
    class Threads(ConnectorSubject):
        def run(self) -> None:
            threads = [threading.Thread(target=self.give, args=(number,)) for number in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        def give(self, number: int) -> None:
            for n in range(20_000):
                self.next(n=number * 20_000 + n, word=str(number))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        found = rows(await batches(Threads()))
    finally:
        sys.setswitchinterval(before)
    assert sorted(row[0] for row in found) == list(range(80_000))
    for number in range(4):
        mine = [row[0] for row in found if row[1] == str(number)]
        assert mine == sorted(mine)


async def test_rows_may_come_from_threads_of_a_coroutine() -> None:
    async def give(subject: ConnectorSubject) -> None:
        for n in range(20):
            await asyncio.to_thread(subject.next, n=n)

    assert [row[0] for row in rows(await batches(Does(give)))] == list(range(20))


async def _read(reader: Any) -> Any:
    batch = await reader.read()
    assert batch is not None
    return batch


# what is refused before anything runs


async def test_persistence_needs_offsets_or_a_word_about_restarts() -> None:
    source = source_of(any_read(Given([]), schema=Item, name="items")).source
    with pytest.raises(InputError, match=r"subject 'items' \(Given\).*offset\(\) and seek.*restart.*live"):
        await source.check(None, persistent=True)
    with pytest.raises(InputError, match="count once more after every restart"):
        await source.check(None, persistent=True)
    with pytest.raises(InputError, match="which the primary key makes harmless"):
        await source_of(any_read(Given([]), schema=Keyed)).source.check(None, persistent=True)
    await source.check(None, persistent=False)
    for settings in ({"resume": "restart"}, {"resume": "live"}):
        await source_of(any_read(Given([]), schema=Item, **settings)).source.check(None, persistent=True)
    await source_of(any_read(Counting([]), schema=Item)).source.check(None, persistent=True)


class OnlyOffset(Given):
    def offset(self) -> int:
        return 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: any_read(print, schema=Item), TypeError, "derived from ConnectorSubject"),
        (lambda: any_read(Given([]), schema=int), TypeError, "schema must be a subclass of Schema"),
        (lambda: any_read(Given([]), schema=ap.Schema), ValueError, "the schema has no columns"),
        (lambda: any_read(Given([]), schema=Item, name=1), TypeError, "name must be a str"),
        (lambda: any_read(Given([]), schema=Item, resume="x"), ValueError, "resume must be None"),
        (lambda: any_read(Given([]), schema=Item, max_backlog_size=0), ValueError, "at least 1"),
        (lambda: any_read(Given([]), schema=Item, autocommit_duration_ms=1.5), TypeError, "an int or None"),
        (lambda: any_read(OnlyOffset([]), schema=Item), TypeError, r"has offset\(\) but no seek\(\)"),
    ],
)
def test_wrong_arguments(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_subject_is_known_by_its_class_and_schema() -> None:
    tables = [any_read(Given(many(n)), schema=Item, resume=resume) for n, resume in ((1, None), (2, "live"))]
    first, second = (source_of(table).definition for table in tables)
    assert first == second
    assert source_of(any_read(GivenInThread([]), schema=Item)).definition != first
    assert source_of(any_read(Given([]), schema=Keyed)).definition != first
