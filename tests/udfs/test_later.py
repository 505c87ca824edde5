"""Functions that no epoch waits for: rows are pending at first, and updated when their answers are there."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import asyncpersist as ap
from asyncpersist.errors import FunctionFailed, GraphError, SchemaError
from asyncpersist.persistence import Backend, Config
from tests.udfs.later import Asked, Given, Row, Seen, seen
from tests.udfs.later_job import COUNT

PENDING = ap.PENDING


class Keyed(ap.Schema):
    k: int = ap.column_definition(primary_key=True)
    a: int
    x: str


def later(asked: Any, **options: Any) -> ap.UDF:
    executor = ap.udfs.fully_async_executor(autocommit_duration_ms=options.pop("autocommit_duration_ms", None))
    return ap.udf(return_type=int, executor=executor, version=1, **options)(asked)


def row(k: int, a: int, x: str = "") -> Row:
    return {"k": k, "a": a, "x": x}


class Job:
    """A graph over rows given by hand, with a column `f` that `asked` answers."""

    def __init__(self, given: Given, asked: Asked, **options: Any) -> None:
        self.given = given
        with ap.Graph() as self.graph:
            table = ap.io.python.read(given, schema=Keyed, name="rows")
            self.out = table.select(table.k, table.x, f=later(asked, **options)(table.a))
            self.awaited = self.out.await_futures()
            self.seen = seen(self.out, name="pending")
            self.answered = seen(self.awaited, name="answered")
            totals = self.awaited.groupby(self.awaited.x).reduce(ap.this.x, total=ap.reducers.sum(ap.this.f))
            self.totals = seen(totals, name="totals")


async def test_a_row_is_pending_at_first_and_updated_when_its_answer_is_there() -> None:
    asked = Asked()
    job = Job(Given(), asked)
    assert str(job.out) == "Table(k: int, x: str, f: future[int])"
    assert str(job.awaited) == "Table(k: int, x: str, f: int)"
    async with ap.Runtime(job.graph):
        job.given.give(row(1, 10, "x"), row(2, 20, "x"))
        await job.seen.until({"k": 1, "x": "x", "f": PENDING}, {"k": 2, "x": "x", "f": PENDING})
        assert not job.answered.changes
        asked.answer(20, 200)
        await job.answered.until({"k": 2, "x": "x", "f": 200})
        await job.totals.until({"x": "x", "total": 200})
        asked.answer(10, 100)
        await job.totals.until({"x": "x", "total": 300})
        await job.seen.until({"k": 2, "x": "x", "f": 200}, {"k": 1, "x": "x", "f": 100})
        # What changes beside the arguments while there is an answer, and before.
        job.given.give(row(1, 10, "y"), row(3, 30))
        await job.seen.until(
            {"k": 2, "x": "x", "f": 200}, {"k": 1, "x": "y", "f": 100}, {"k": 3, "x": "", "f": PENDING}
        )
        job.given.give(row(3, 30, "z"))
        await job.seen.until(
            {"k": 2, "x": "x", "f": 200}, {"k": 1, "x": "y", "f": 100}, {"k": 3, "x": "z", "f": PENDING}
        )
        asked.answer(30, 300)
        await job.totals.until({"x": "x", "total": 200}, {"x": "y", "total": 100}, {"x": "z", "total": 300})
    assert asked.calls == [10, 20, 30]
    assert repr(PENDING) == str(PENDING) == "Pending"


async def test_a_call_that_nobody_waits_for_any_more_is_cancelled() -> None:
    asked = Asked()
    job = Job(Given(), asked)
    async with ap.Runtime(job.graph):
        job.given.give(row(1, 10), row(2, 20))
        await job.seen.until({"k": 1, "x": "", "f": PENDING}, {"k": 2, "x": "", "f": PENDING})
        await asked.until(lambda: len(asked.calls) == 2)
        job.given.give(row(1, 11), removed=(row(2, 20),))
        await asked.until(lambda: sorted(asked.cancelled) == [10, 20])
        await job.seen.until({"k": 1, "x": "", "f": PENDING})
        asked.answer(11, 110)
        await job.seen.until({"k": 1, "x": "", "f": 110})
        job.given.give(removed=(row(1, 11),))
        await job.seen.until()
    assert sorted(asked.calls) == [10, 11, 20]


async def test_a_run_ends_when_all_answers_are_there_and_their_order_does_not_matter() -> None:
    async def last_epoch(*order: int) -> list[tuple[Row, bool]]:
        asked, given = Asked(), Given()
        job = Job(given, asked, autocommit_duration_ms=600_000)
        given.give(*(row(k, 10 * k) for k in range(5)))
        given.end()
        run = asyncio.create_task(ap.run(job.graph))
        await asked.until(lambda: len(asked.calls) == 5)
        for k in order:
            asked.answer(10 * k, k)
            await asyncio.sleep(0)
        await run
        return job.seen.epochs[-1]

    # They are gathered, but the last one waits for no others.
    changes = await last_epoch(4, 2, 0, 1, 3)
    assert [(change["f"] is PENDING, added) for change, added in changes] == [(True, False)] * 5 + [(False, True)] * 5
    assert await last_epoch(0, 1, 2, 3, 4) == changes


async def test_stopping_waits_for_no_answer() -> None:
    asked = Asked()
    job = Job(Given(), asked)
    async with ap.Runtime(job.graph) as runtime:
        job.given.give(row(1, 10), row(2, 20))
        await asked.until(lambda: len(asked.calls) == 2)
        asked.answer(10, 100)
        await job.answered.until({"k": 1, "x": "", "f": 100})
        await runtime.stop()
    assert asked.cancelled == [20]
    assert {"k": 2, "x": "", "f": PENDING} in job.seen.rows


async def test_a_call_that_fails_fails_the_run() -> None:
    asked = Asked()
    job = Job(Given(), asked)
    with pytest.raises(FunctionFailed, match=r"failed for \(10\): ValueError: no"):
        async with ap.Runtime(job.graph) as runtime:
            job.given.give(row(1, 10))
            await asked.until(lambda: asked.calls == [10])
            asked.answer(10, ValueError("no"))
            await runtime.wait()


def config(path: Path, interval: int = 0) -> Config:
    return Config(Backend.filesystem(path / "state"), snapshot_interval_ms=interval)


async def test_what_is_pending_is_called_again_by_the_next_run_and_nothing_else(tmp_path: Path) -> None:
    given, first, second = Given(), Asked(), Asked()
    job = Job(given, first)
    async with ap.Runtime(job.graph, persistence_config=config(tmp_path)):
        given.give(row(1, 10), row(2, 20))
        await first.until(lambda: len(first.calls) == 2)
        first.answer(10, 100)
        await job.seen.until({"k": 2, "x": "", "f": PENDING}, {"k": 1, "x": "", "f": 100})
    assert first.cancelled == [20]
    before, job = job, Job(given, second)
    for now, then in ((job.seen, before.seen), (job.answered, before.answered), (job.totals, before.totals)):
        now.goes_on(then)
    async with ap.Runtime(job.graph, persistence_config=config(tmp_path)) as runtime:
        # Nothing comes from the source.
        await second.until(lambda: second.calls == [20])
        second.answer(20, 200)
        await job.seen.until({"k": 1, "x": "", "f": 100}, {"k": 2, "x": "", "f": 200})
        assert [change for _, change, _ in job.answered.changes] == [{"k": 2, "x": "", "f": 200}]
        await runtime.snapshot()
        given.give(removed=(row(1, 0), row(2, 0)))
        await job.seen.until()
    assert (first.calls, second.calls) == ([10, 20], [20])


async def test_a_static_run_without_new_input_ends_with_the_answers_that_were_outstanding(tmp_path: Path) -> None:
    lines = tmp_path / "in.jsonl"
    lines.write_text("".join(json.dumps(row(k, 10 * k, "ü")) + "\n" for k in range(3)))

    def graph(asked: Asked) -> tuple[ap.Graph, Seen]:
        with ap.Graph() as made:
            table = ap.io.jsonlines.read(lines, schema=Keyed, mode="static", name="lines")
            out = table.select(table.k, f=later(asked)(table.a))
            ap.io.csv.write(out, tmp_path / "out.csv", name="csv")
            told = seen(out.await_futures(), name="answered")
        return made, told

    asked = Asked()
    made, told = graph(asked)
    asked.answer(10, 1)
    async with ap.Runtime(made, persistence_config=config(tmp_path)) as runtime:
        await told.until({"k": 1, "f": 1})
        await runtime.stop()
    again = Asked()
    for a in (0, 20):
        again.answer(a, a)
    made, told = graph(again)
    await ap.run(made, persistence_config=config(tmp_path))
    assert sorted(again.calls) == [0, 20]
    assert told.in_order == ["{'k': 0, 'f': 0}", "{'k': 2, 'f': 20}"]
    assert held(tmp_path / "out.csv") == {"0,0": 1, "1,1": 1, "2,20": 1}
    await ap.run(graph(Asked())[0], persistence_config=config(tmp_path))


async def test_a_new_output_is_told_what_is_pending_and_what_is_not(tmp_path: Path) -> None:
    given, asked = Given(), Asked()
    job = Job(given, asked)
    async with ap.Runtime(job.graph, persistence_config=config(tmp_path)):
        given.give(row(1, 10), row(2, 20))
        await asked.until(lambda: len(asked.calls) == 2)
        asked.answer(10, 100)
        await job.answered.until({"k": 1, "x": "", "f": 100})
    again = Asked()
    before, job = job, Job(given, again)
    for now, then in ((job.seen, before.seen), (job.answered, before.answered), (job.totals, before.totals)):
        now.goes_on(then)
    with job.graph:
        told = seen(job.out, name="new")
    async with ap.Runtime(job.graph, persistence_config=config(tmp_path)):
        await told.until({"k": 1, "x": "", "f": 100}, {"k": 2, "x": "", "f": PENDING})
        await again.until(lambda: again.calls == [20])
        again.answer(20, 200)
        await told.until({"k": 1, "x": "", "f": 100}, {"k": 2, "x": "", "f": 200})


async def test_rows_that_wait_for_several_answers_go_on_waiting(tmp_path: Path) -> None:
    def graph(one: Asked, two: Asked) -> tuple[ap.Graph, Seen]:
        with ap.Graph() as made:
            table = ap.io.python.read(given, schema=Keyed, name="rows")
            told = seen(table.select(table.k, f=later(one)(table.a), g=later(two)(table.x)), name="out")
        return made, told

    given, one, two = Given(), Asked(), Asked()
    made, told = graph(one, two)
    async with ap.Runtime(made, persistence_config=config(tmp_path)):
        given.give(row(1, 10, "x"), row(2, 20, "y"))
        one.answer(10, 100)
        two.answer("y", 5)
        await told.until({"k": 1, "f": 100, "g": PENDING}, {"k": 2, "f": PENDING, "g": 5})
    one, two = Asked(), Asked()
    before, (made, told) = told, graph(one, two)
    told.goes_on(before)
    async with ap.Runtime(made, persistence_config=config(tmp_path)):
        two.answer("x", 6)
        await told.until({"k": 1, "f": 100, "g": 6}, {"k": 2, "f": PENDING, "g": 5})
        one.answer(20, 200)
        await told.until({"k": 1, "f": 100, "g": 6}, {"k": 2, "f": 200, "g": 5})
    assert (one.calls, two.calls) == ([20], ["x"])


async def test_killed_while_calls_are_outstanding(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"k": k, "a": k}) + "\n" for k in range(COUNT))
    (tmp_path / "in.jsonl").write_text(lines)

    async def start(*arguments: str) -> asyncio.subprocess.Process:
        command = (sys.executable, "-m", "tests.udfs.later_job", str(tmp_path), *arguments)
        root = Path(__file__).parents[2]
        return await asyncio.create_subprocess_exec(*command, cwd=root, stdout=asyncio.subprocess.PIPE)

    process = await start()
    assert process.stdout is not None
    assert await process.stdout.readline() == b"saved\n"
    process.kill()
    await process.wait()
    before = (tmp_path / "calls").read_text().split()
    assert sorted(map(int, before)) == list(range(COUNT))
    process = await start("all")
    assert await process.wait() == 0
    again = (tmp_path / "calls").read_text().split()[COUNT:]
    assert sorted(map(int, again)) == [a for a in range(COUNT) if a % 3]
    assert held(tmp_path / "out.csv") == Counter(f"{k},{10 * k}" for k in range(COUNT))
    assert held(tmp_path / "total.csv") == {str(10 * sum(range(COUNT))): 1}


def held(path: Path) -> Counter[str]:
    """What an output holds in the end; what was taken back must have been there."""
    rows: Counter[str] = Counter()
    for line in path.read_text().splitlines()[1:]:
        row, _, diff = line.rsplit(",", 2)
        rows[row] += int(diff)
        assert rows[row] >= 0
    return +rows


class Plain(ap.Schema):
    a: int | None
    b: str


async def run_plain(build: Any, *rows: Row, **options: Any) -> Seen:
    given = Given()
    with ap.Graph() as graph:
        told = seen(build(ap.io.python.read(given, schema=Plain, name="rows")))
    given.give(*rows)
    given.end()
    await ap.run(graph, **options)
    return told


async def test_rows_without_a_key_may_be_removed_by_their_values() -> None:
    given, asked = Given(), Asked()
    with ap.Graph() as graph:
        table = ap.io.python.read(given, schema=Plain, name="rows")
        told = seen(table.select(table.b, f=later(asked)(table.a)))
    one, other = {"a": 1, "b": "x"}, {"a": 1, "b": "y"}
    async with ap.Runtime(graph):
        given.give(one, one, other)
        await asked.until(lambda: len(asked.calls) == 3)
        given.give(removed=(one,))
        await told.until({"b": "x", "f": PENDING}, {"b": "y", "f": PENDING})
        asked.answer(1, 10)
        await told.until({"b": "x", "f": 10}, {"b": "y", "f": 10})
        given.give(removed=(one, other))
        await told.until()
    assert asked.cancelled == [1]


async def test_several_columns_and_what_comes_before_them() -> None:
    one, two = Asked(), Asked()
    one.answer(2, 20)
    two.answer(20, 200)
    one.answer(3, 30)
    two.answer(30, 300)

    @ap.udf(deterministic=True)
    def more(a: int) -> int:
        return a + 1

    def build(t: ap.Table) -> ap.Table:
        first = t.select(t.b, x=later(one)(more(ap.unwrap(t.a))), y=later(one)(more(ap.unwrap(t.a))), z=t.a)
        return (
            first.await_futures().select(ap.this.b, ap.this.z, y=later(two)(ap.this.x), same=ap.this.y).await_futures()
        )

    told = await run_plain(build, {"a": 1, "b": "p"}, {"a": 2, "b": "q"})
    assert told.in_order == ["{'b': 'p', 'z': 1, 'y': 200, 'same': 20}", "{'b': 'q', 'z': 2, 'y': 300, 'same': 30}"]


async def test_equal_arguments_of_a_deterministic_function_are_one_call() -> None:
    asked = Asked()
    asked.answer(1, 10)
    rows = [{"a": 1, "b": str(n)} for n in range(5)]
    told = await run_plain(lambda t: t.select(t.b, f=later(asked, deterministic=True)(t.a)).await_futures(), *rows)
    assert told.in_order == [f"{{'b': '{n}', 'f': 10}}" for n in range(5)]
    assert asked.calls == [1]


async def test_none_is_passed_on_without_a_call() -> None:
    asked = Asked()
    told = await run_plain(lambda t: t.select(f=later(asked, propagate_none=True)(t.a)), {"a": None, "b": "x"})
    assert told.rows == [{"f": None}]
    assert [change for _, change, _ in told.changes] == [{"f": None}]
    assert not asked.calls


async def test_plain_functions_run_in_threads() -> None:
    def double(a: int) -> int:
        return 2 * a

    told = await run_plain(lambda t: t.select(f=later(double)(ap.unwrap(t.a))).await_futures(), {"a": 4, "b": ""})
    assert told.rows == [{"f": 8}]


async def test_outputs_write_a_pending_value_as_none(tmp_path: Path) -> None:
    asked, given = Asked(), Given()
    with ap.Graph() as graph:
        table = ap.io.python.read(given, schema=Keyed, name="rows")
        out = table.select(table.k, f=later(asked)(table.a), v=ap.make_tuple(table.x, table.a))
        out = out.with_columns(g=later(asked, deterministic=True)(ap.this.v.get(1)))
        ap.io.csv.write(out, tmp_path / "out.csv")
        ap.io.jsonlines.write(out, tmp_path / "out.jsonl")
        ap.io.parquet.write(out.without("v"), tmp_path / "out")
        told = seen(out)
    given.give(row(1, 10, "x"))
    given.end()
    run = asyncio.create_task(ap.run(graph))
    await told.until({"k": 1, "f": PENDING, "v": ("x", 10), "g": PENDING})
    asked.answer(10, 100)
    await run
    lines = [line.rsplit(",", 2) for line in (tmp_path / "out.csv").read_text().splitlines()[1:]]
    assert (lines[0][0], lines[0][2]) == ('1,,"[""x"",10]",', "1")
    assert (lines[-1][0], lines[-1][2]) == ('1,100,"[""x"",10]",100', "1")
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert (records[0]["f"], records[-1]["f"], records[-1]["g"]) == (None, 100, 100)
    parts = pl.concat(pl.read_parquet(part) for part in sorted((tmp_path / "out").glob("*.parquet")))
    assert parts.schema["f"] == pl.Int64
    assert parts["f"].to_list()[:: len(parts) - 1] == [None, 100]


def test_nothing_is_computed_with_what_may_be_pending() -> None:
    f, g = later(Asked()), ap.udf(return_type=int)(abs)
    with ap.Graph():
        t = ap.io.python.read(Given(), schema=Keyed)
        u = t.select(t.a, t.x, f=f(t.a))
        refused: list[Any] = [
            lambda: u.select(n=u.f + 1),
            lambda: u.select(n=pl.col("f").struct.field("value")),
            lambda: u.select(n=ap.coalesce(u.f, 0)),
            lambda: u.select(n=ap.if_else(u.a > 0, u.f, u.f)),
            lambda: u.select(n=u.f.is_none()),
            lambda: u.select(n=ap.declare_type(int, u.f)),
            lambda: u.select(n=g(u.f)),
            lambda: u.select(n=f(u.f)),
            lambda: u.filter(u.f),
            lambda: u.filter(f(u.a)),
            lambda: u.groupby(u.f).reduce(u.f),
            lambda: u.reduce(m=ap.reducers.max(u.f)),
            lambda: u.reduce(m=ap.reducers.max(f(u.a))),
            lambda: t.select(n=f(t.a) + 1),
            lambda: t.select(n=g(f(t.a))),
        ]
        for build in refused:
            with pytest.raises(GraphError, match=r"await_futures\(\)"):
                build()
        with pytest.raises(GraphError, match=r"'f' has different types: future\[int\], int"):
            u.concat(u.await_futures())
        with pytest.raises(SchemaError, match=r"\['f'\] are futures"):
            ap.io.python.read(Given(), schema=u.schema)
        assert str(u.concat(u.copy())) == str(u.select(pl.col("a"), pl.col("x"), pl.col("f"))) == str(u)
        assert str(u.groupby(u.x).reduce(u.x, n=ap.reducers.count())) == "Table(x: str, n: int)"
        assert t.await_futures().node is t.node
