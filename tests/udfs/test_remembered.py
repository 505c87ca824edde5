"""Results of functions that never return the same: kept while their row lives, over restarts and other graphs."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import asyncpersist as ap
from asyncpersist.persistence import Backend, Config, PersistenceMode
from tests.udfs.pieces import Change, Outcome, minus, outcome, plus

M = PersistenceMode


class Item(ap.Schema):
    a: int
    b: str


class Keyed(ap.Schema):
    a: int = ap.column_definition(primary_key=True)
    b: str


class Drawn:
    """Never returns the same, and notes what it was called with."""

    def __init__(self, first: int = 0) -> None:
        self.calls: list[Any] = []
        self._next = itertools.count(first)

    def draw(self, b: str) -> int:
        self.calls.append(b)
        return next(self._next)


ROW = st.fixed_dictionaries({"a": st.integers(0, 3), "b": st.sampled_from(["", "x", "ü"])})


@st.composite
def histories(draw: st.DrawFn) -> list[list[Change]]:
    """Steps of rows that come, and of rows that are there and go; each changes how many rows there are."""
    held: list[dict[str, Any]] = []
    steps: list[list[Change]] = []
    for _ in range(draw(st.integers(1, 6))):
        step: list[Change] = []
        for _ in range(draw(st.integers(1, 5))):
            if held and draw(st.booleans()):
                step.append(("-", held.pop(draw(st.integers(0, len(held) - 1)))))
            else:
                step.append(("+", draw(ROW)))
                held.append(step[-1][1])
        signs = Counter(sign for sign, _ in step)
        if signs["+"] == signs["-"]:
            step.append(("+", {"a": 9, "b": "more"}))
            held.append(step[-1][1])
        steps.append(step)
    return steps


@settings(max_examples=25, deadline=None)
@given(history=histories())
async def test_what_is_taken_back_is_what_was_given_out(history: list[list[Change]]) -> None:
    drawn = Drawn()
    found = await outcome(lambda t: t.select(t.a, t.b, n=ap.udf(drawn.draw)(t.b)), Item, *history, removes=True)
    # `rows` checks that whatever goes was there.
    assert {row["copies"] for row in found.rows} <= {1}
    live: Counter[str] = Counter()
    calls = 0
    for step in history:
        net: Counter[str] = Counter()
        for sign, row in step:
            net[json.dumps(row, sort_keys=True)] += 1 if sign == "+" else -1
        live.update(net)
        # What a row was given that goes is given to one that comes with the same argument in the same epoch.
        comes, goes = Counter[str](), Counter[str]()
        for text, count in net.items():
            (comes if count > 0 else goes)[json.loads(text)["b"]] += abs(count)
        calls += (comes - goes).total()
    assert len(drawn.calls) == calls
    assert Counter(json.dumps({"a": row["a"], "b": row["b"]}, sort_keys=True) for row in found.rows) == +live


def config(tmp_path: Path, mode: PersistenceMode = M.PERSISTING) -> Config:
    return Config(Backend.filesystem(tmp_path / "state"), persistence_mode=mode)


class Files:
    """A directory of JSON lines, read as it stands by each run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "in"
        self.folder.mkdir()

    def write(self, name: str, *texts: str) -> None:
        lines = (json.dumps({"a": i, "b": text}) for i, text in enumerate(texts))
        (self.folder / name).write_text("".join(f"{line}\n" for line in lines))

    async def run(
        self, function: Any, config: Config | None, *, second: bool = False, schema: Any = Item
    ) -> tuple[Outcome, Outcome]:
        first, other = Outcome(), Outcome()
        with ap.Graph() as graph:
            table = ap.io.jsonlines.read(self.folder, schema=schema, mode="static", name="files")
            out = table.select(table.b, n=function(table.b))
            ap.io.subscribe(out, first.take)
            if second:
                ap.io.subscribe(out.filter(out.n >= 0), other.take, name="second")
        await ap.run(graph, persistence_config=config)
        return first, other


@pytest.mark.parametrize("mode", [M.PERSISTING, M.OPERATOR_PERSISTING])
async def test_a_restart_calls_nothing_again_and_takes_back_what_was_given(tmp_path: Path, mode: Any) -> None:
    files, drawn = Files(tmp_path), Drawn()
    files.write("a.jsonl", "x", "y")
    files.write("b.jsonl", "x", "z")
    before, _ = await files.run(ap.udf(drawn.draw), config(tmp_path, mode))
    assert sorted(drawn.calls) == ["x", "x", "y", "z"]
    again = Drawn(100)
    files.write("b.jsonl", "x", "other", "more")
    (files.folder / "a.jsonl").unlink()
    after, _ = await files.run(ap.udf(again.draw), config(tmp_path, mode))
    assert sorted(again.calls) == ["more", "other"], "x is where it was, with the same argument"
    before.changes.extend(after.changes)
    assert sorted(row["b"] for row in before.rows) == ["more", "other", "x"]


async def test_lines_that_move_and_files_that_are_renamed_keep_what_they_were_given(tmp_path: Path) -> None:
    files, drawn = Files(tmp_path), Drawn()
    texts = [f"text {number}" for number in range(20)]
    files.write("a.jsonl", *texts, "twice", "twice")
    first, _ = await files.run(ap.udf(drawn.draw), config(tmp_path))
    before = {row["b"]: row["n"] for row in first.rows}
    assert len(drawn.calls) == 22
    files.write("a.jsonl", *texts[1:], "twice")
    (files.folder / "a.jsonl").rename(files.folder / "b.jsonl")
    again = Drawn(100)
    second, _ = await files.run(ap.udf(again.draw), config(tmp_path))
    assert again.calls == []
    first.changes.extend(second.changes)
    assert {row["b"]: row["n"] for row in first.rows if row["b"] != "twice"} == {
        text: before[text] for text in texts[1:]
    }


async def test_a_change_in_several_passes_keeps_what_rows_were_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncpersist.runtime.stepping._PASS_BYTES", 500)
    files, drawn = Files(tmp_path), Drawn()
    texts = [f"text {number}" for number in range(50)]
    files.write("a.jsonl", *texts)
    await files.run(ap.udf(drawn.draw), config(tmp_path))
    again = Drawn(100)
    files.write("a.jsonl", *texts[1:], "new")
    await files.run(ap.udf(again.draw), config(tmp_path))
    assert again.calls == ["new"]


async def test_rows_that_come_and_go_in_one_epoch_never_were() -> None:
    row = {"a": 1, "b": "x"}
    calls: list[str] = []

    def told(b: str) -> str:
        calls.append(b)
        return b

    found = await outcome(
        lambda t: t.select(b=ap.if_else(t.a > 0, ap.udf(told)(ap.udf(told)(t.b)), "")),
        Item,
        [*plus(row), *minus(row), *plus({"a": 2, "b": "y"})],
        removes=True,
    )
    assert (calls, [each["b"] for each in found.rows]) == (["y", "y"], ["y"])


@pytest.mark.parametrize("schema", [Item, Keyed])
async def test_what_is_new_below_gets_what_the_others_got(tmp_path: Path, schema: Any) -> None:
    files, drawn = Files(tmp_path), Drawn()
    files.write("a.jsonl", "x", "y", "x")
    first, _ = await files.run(ap.udf(drawn.draw), config(tmp_path), schema=schema)
    again = Drawn(100)
    more, second = await files.run(ap.udf(again.draw), config(tmp_path), second=True, schema=schema)
    assert (again.calls, more.changes) == ([], [])
    assert second.counted() == first.counted()


async def test_rows_without_ids_are_remembered_too(tmp_path: Path) -> None:
    rows = [{"a": 1, "b": "x"}] * 3
    drawn, again = Drawn(), Drawn(100)
    steps = [plus(*rows)]
    build = lambda function: lambda t: t.select(t.b, n=function(t.b))  # noqa: E731
    first = await outcome(build(ap.udf(drawn.draw)), Item, *steps, config=config(tmp_path), removes=True)
    steps.append([("-", rows[0]), ("-", rows[0])])
    second = await outcome(build(ap.udf(again.draw)), Item, *steps, config=config(tmp_path), removes=True)
    assert (len(drawn.calls), again.calls) == (3, [])
    first.changes.extend(second.changes)
    assert [row["n"] for row in first.rows] == [0], "those that came last are taken back"


async def test_another_version_is_another_function(tmp_path: Path) -> None:
    files, drawn = Files(tmp_path), Drawn()
    files.write("a.jsonl", "x")
    await files.run(ap.udf(version=1)(drawn.draw), config(tmp_path))
    await files.run(ap.udf(version=1)(drawn.draw), config(tmp_path))
    assert drawn.calls == ["x"]
    found, _ = await files.run(ap.udf(version=2)(drawn.draw), config(tmp_path))
    assert (drawn.calls, found.rows) == (["x", "x"], [{"b": "x", "n": 1}])


async def test_deterministic_functions_are_called_again_to_take_back(tmp_path: Path) -> None:
    files, drawn = Files(tmp_path), Drawn()
    files.write("a.jsonl", "x", "y")

    def length(b: str) -> int:
        drawn.calls.append(b)
        return len(b)

    first, _ = await files.run(ap.udf(deterministic=True)(length), config(tmp_path))
    files.write("a.jsonl", "x", "yy")
    second, _ = await files.run(ap.udf(deterministic=True)(length), config(tmp_path))
    first.changes.extend(second.changes)
    assert sorted(row["n"] for row in first.rows) == [1, 2]
    assert len(drawn.calls) > 2
