"""Starting, ending, failing and being cancelled."""

from __future__ import annotations

import asyncio

import pytest

import asyncpersist as ap
from asyncpersist.errors import GraphError, RunStopped, StateInUse
from asyncpersist.graph.node import SourceNode
from asyncpersist.runtime import engine
from asyncpersist.table.table import Table
from tests.runtime.pieces import COLUMNS, Collected, Feed, counting


def memory(interval: int = 3_600_000) -> ap.persistence.Config:
    return ap.persistence.Config(ap.persistence.Backend.memory(), snapshot_interval_ms=interval)


async def test_a_run_without_persistence() -> None:
    collected = Collected()
    await ap.run(counting(Feed(["a", "b"], ["a"]), collected))
    assert collected.totals() == {"a": 2, "b": 1}
    assert collected.closed == 1


async def test_a_normal_end_takes_a_last_snapshot() -> None:
    feed, collected, config = Feed(["a", "b"], ["a"]), Collected(), memory()
    await ap.run(counting(feed, collected), persistence_config=config)
    feed.batches.append(["a"])
    await ap.run(counting(feed, collected), persistence_config=config)
    assert feed.opened_at == [0, 2]
    assert collected.totals() == {"a": 3, "b": 1}


async def test_a_run_with_nothing_new_writes_nothing() -> None:
    feed, collected, config = Feed(["a"]), Collected(), memory()
    await ap.run(counting(feed, collected), persistence_config=config)
    before = list(collected.written)
    async with ap.Runtime(counting(feed, collected), persistence_config=config) as runtime:
        await runtime.wait()
    assert collected.written == before
    assert runtime.statistics().snapshots == 0


async def test_cancelling_the_caller_takes_a_last_snapshot() -> None:
    feed, collected, config = Feed(["a"], ["b"], hold=True), Collected(), memory()
    task = asyncio.create_task(ap.run(counting(feed, collected), persistence_config=config))
    await feed.given.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert collected.closed == 1
    feed.batches.append(["c"])
    feed.hold = False
    await ap.run(counting(feed, collected), persistence_config=config)
    assert collected.totals() == {"a": 1, "b": 1, "c": 1}


async def test_leaving_in_another_task_than_entering() -> None:
    feed, collected = Feed(["a"], hold=True), Collected()
    runtime = ap.Runtime(counting(feed, collected), persistence_config=memory())
    await asyncio.create_task(runtime.__aenter__())
    await feed.given.wait()
    await asyncio.create_task(runtime.__aexit__(None, None, None))
    assert not runtime.ready


async def test_a_snapshot_on_demand_covers_what_came_before() -> None:
    feed, collected, config = Feed(["a", "a"], hold=True), Collected(), memory()
    async with ap.Runtime(counting(feed, collected), persistence_config=config) as runtime:
        await feed.given.wait()
        while runtime.statistics().rows_read < 2:
            await asyncio.sleep(0)
        manifest = await runtime.snapshot()
        assert manifest.epoch == runtime.statistics().epoch
        assert runtime.statistics().uncommitted_bytes == 0
        assert (await runtime.snapshot()).sequence > manifest.sequence


async def test_a_failing_sink_fails_the_run_and_not_the_body() -> None:
    feed, collected, config = Feed(["a"], hold=True), Collected(), memory()
    failure = RuntimeError("the sink is broken")

    def fail() -> None:
        raise failure

    collected.on_write = fail
    with pytest.raises(RuntimeError, match="the sink is broken"):
        async with ap.Runtime(counting(feed, collected), persistence_config=config) as runtime:
            with pytest.raises(RuntimeError, match="the sink is broken"):
                await runtime.wait()
            assert not runtime.ready
            with pytest.raises(RunStopped):
                await runtime.snapshot()
            await asyncio.sleep(0)
    collected.on_write = lambda: None
    feed.hold = False
    await ap.run(counting(feed, collected), persistence_config=config)
    assert feed.opened_at == [0, 0]
    assert collected.totals() == {"a": 1}


async def test_the_error_of_the_body_comes_through() -> None:
    feed, collected = Feed(["a"], hold=True), Collected()
    with pytest.raises(KeyError):
        async with ap.Runtime(counting(feed, collected), persistence_config=memory()):
            raise KeyError


async def test_one_graph_runs_once_at_a_time() -> None:
    feed = Feed(["a"], hold=True)
    graph = counting(feed, Collected())
    async with ap.Runtime(graph):
        with pytest.raises(GraphError, match="already running"):
            await ap.run(graph)


async def test_several_graphs_run_in_one_loop() -> None:
    collected = [Collected() for _ in range(5)]
    await asyncio.gather(*(ap.run(counting(Feed(["a"] * n), c)) for n, c in enumerate(collected, start=1)))
    assert [c.totals() for c in collected] == [{"a": n} for n in range(1, 6)]


async def test_a_second_run_on_the_root_of_a_running_one_is_refused() -> None:
    config = memory()
    feed = Feed(["a"], hold=True)
    async with ap.Runtime(counting(feed, Collected()), persistence_config=config):
        with pytest.raises(StateInUse):
            await ap.run(counting(Feed(["a"]), Collected()), persistence_config=config)
    feed.hold = False


async def test_an_empty_graph_is_refused() -> None:
    with pytest.raises(GraphError, match="nothing to run"):
        await ap.run(ap.Graph())


@pytest.mark.parametrize("turns", range(0, 60, 2))
async def test_cancelled_at_every_await_of_a_snapshot(turns: int) -> None:
    feed, collected, config = Feed(["a"], ["b"], ["a"], hold=True), Collected(), memory(interval=0)
    task = asyncio.create_task(ap.run(counting(feed, collected), persistence_config=config))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    if turns % 4:
        for _ in range(turns // 4):
            await asyncio.sleep(0)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    feed.hold = False
    await ap.run(counting(feed, collected), persistence_config=config)
    assert collected.totals() == {"a": 2, "b": 1}


async def test_a_snapshot_asked_for_at_the_very_end_is_answered() -> None:
    feed, config = Feed(["a"], hold=True), memory()
    async with ap.Runtime(counting(feed, Collected()), persistence_config=config) as runtime:
        await feed.given.wait()
        stopping = asyncio.create_task(runtime.stop())
        asked = []
        while not stopping.done():
            asked.append(asyncio.create_task(runtime.snapshot()))
            await asyncio.sleep(0)
        answers = await asyncio.gather(*asked, return_exceptions=True)
    assert len(answers) > 10
    assert all(isinstance(answer, RunStopped) or answer.kind == "snapshot" for answer in answers)


async def test_too_much_that_is_uncommitted_makes_a_snapshot_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_UNCOMMITTED_BYTES", 2)
    monkeypatch.setattr(engine, "_INTAKE_BYTES", 1)
    feed, collected = Feed(*(["a"] for _ in range(20))), Collected()
    async with ap.Runtime(counting(feed, collected), persistence_config=memory()) as runtime:
        await runtime.wait()
        assert runtime.statistics().snapshots > 5
    assert collected.totals() == {"a": 20}


async def test_waiting_for_a_run_that_was_cut_off_says_so() -> None:
    feed, collected = Feed(["a"], hold=True), Collected()
    runtime = ap.Runtime(counting(feed, collected), persistence_config=memory())
    await runtime.__aenter__()
    await feed.given.wait()
    stopping = asyncio.create_task(runtime.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    for ending in (runtime.wait, runtime.stop):
        with pytest.raises(RunStopped, match="without a last snapshot"):
            await ending()


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"takeover": "no"}, TypeError),
        ({"shutdown_timeout": "30"}, TypeError),
        ({"shutdown_timeout": None}, TypeError),
        ({"shutdown_timeout": -1}, ValueError),
        ({"shutdown_timeout": float("nan")}, ValueError),
    ],
)
async def test_wrong_settings_are_refused_before_anything_is_read(
    settings: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error, match=next(iter(settings))):
        ap.Runtime(counting(Feed(["a"]), Collected()), **settings)  # type: ignore[arg-type]


def told(feed: Feed, calls: list[object]) -> ap.Graph:
    """A graph that tells of the words of `feed`, of the end and of what holds."""
    with ap.Graph() as graph:
        words = Table(SourceNode(kind="source", definition={"type": "feed"}, columns=COLUMNS, source=feed))
        ap.io.subscribe(
            words.groupby(ap.this.word).reduce(ap.this.word, count=ap.reducers.count()),
            lambda *, key, row, time, is_addition: calls.append(row["word"]),
            on_end=lambda: calls.append("end"),
            on_recovery=lambda time: calls.append(("recovery", time)),
        )
    return graph


@pytest.mark.parametrize("persistent", [True, False])
async def test_only_the_end_of_the_input_is_told_as_the_end(persistent: bool) -> None:
    feed, calls = Feed(["a"], hold=True), []
    config = memory() if persistent else None
    async with ap.Runtime(told(feed, calls), persistence_config=config) as runtime:
        await feed.given.wait()
        while not calls:
            await asyncio.sleep(0)
        await runtime.stop()
    assert calls == ["a"]
    feed.hold = False
    await ap.run(told(feed, calls), persistence_config=config)
    assert calls[-1] == "end"


async def test_after_a_run_that_committed_nothing_it_is_told_that_nothing_holds() -> None:
    feed, calls, config = Feed(["a"], hold=True), [], memory()
    runtime = ap.Runtime(told(feed, calls), persistence_config=config)
    await runtime.__aenter__()
    while not calls:
        await asyncio.sleep(0)
    stopping = asyncio.create_task(runtime.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    feed.hold = False
    await ap.run(told(feed, calls), persistence_config=config)
    assert calls == ["a", ("recovery", 0), "a", "end"]
