"""`asyncpersist diff`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import asyncpersist as ap
from asyncpersist.cli.points import split_point
from asyncpersist.cli.row_changes import compare
from tests.cli.conftest import Command, Job
from tests.main_job.job import Line
from tests.main_job.stream import read_changes


def ends(command: Command, job: Job) -> tuple[dict[str, Any], dict[str, Any]]:
    """The snapshots at the end of the first run and of the last."""
    listed = command("snapshots", job.state, "--json").json["snapshots"]
    return next(entry for entry in listed if entry["rows_read"] == 150), listed[0]


def words_at(job: Job, epoch: int) -> dict[str, str]:
    """The counts after an epoch, from the output."""
    words: dict[str, str] = {}
    for (word, count), time, diff in read_changes(job.output):
        if time <= epoch and diff == 1:
            words[word] = count
    return words


def test_it_is_what_the_output_says(command: Command, job: Job) -> None:
    before = job.files()
    first, last = ends(command, job)
    facts = command("diff", job.state, first["sequence"], last["sequence"], "--limit", 1000, "--json").json
    told = command("diff", job.state, first["sequence"], last["sequence"])
    assert job.files() == before
    assert told.code == 0
    then, now = words_at(job, first["epoch"]), words_at(job, last["epoch"])
    (groups,) = [state for state in facts["states"] if state["name"] == "groups"]
    changed = {word for word in then if now[word] != then[word]}
    assert (groups["added"], groups["removed"], groups["changed"]) == (len(now.keys() - then.keys()), 0, len(changed))
    rows = [
        (
            change["kind"],
            *((row and (row["word"], str(row["__weight"]))) for row in (change["before"], change["after"])),
        )
        for change in groups["sample"]
    ]
    assert sorted(rows, key=str) == sorted(
        [
            *(("added", None, (word, now[word])) for word in now.keys() - then.keys()),
            *(("changed", (word, then[word]), (word, now[word])) for word in changed),
        ],
        key=str,
    )
    (offsets,) = [state for state in facts["states"] if state["name"] == "offsets"]
    # A file that was read as soon as it was written is looked at once more by a later run, and then trusted.
    added = [change["after"]["partition"] for change in offsets["sample"] if change["kind"] == "added"]
    assert added == ["002.jsonl", "003.jsonl"]
    assert (facts["rows_read"], facts["graph"]) == (300, [])
    assert facts["epoch_milliseconds"] == last["epoch"] - first["epoch"] > 0
    assert {state["name"] for state in facts["states"]} == {"groups", "offsets"}, "logs are no state"
    (sink,) = facts["sinks"]
    assert sink["before"]["length"] < sink["after"]["length"] == job.output.stat().st_size
    sizes = {stream["stream"]: stream["after"] for stream in facts["streams"]}
    for stream in command("inspect", job.state, "--json").json["streams"]:
        assert sizes.pop(stream.pop("stream")) == stream
    assert sizes == {}
    for said in (
        "+300 rows read",
        f"{groups['added']} added, 0 removed, {groups['changed']} changed",
        "log/source.lines",
    ):
        assert said in told.out


def test_how_points_are_named(command: Command, job: Job) -> None:
    first, last = ends(command, job)
    number = first["sequence"]
    assert command("snapshots", job.state, "--keep", "then", "--number", number).code == 0
    right = command("diff", job.state, number, last["sequence"], "--json").json
    for arguments in (
        (job.state, "then", last["sequence"]),
        (f"{job.state}@{number}", f"{job.state}@{last['sequence']}"),
        (f"{job.state}@then", f"{job.state}@{last['sequence']}"),
    ):
        assert command("diff", *arguments, "--json").json == right
    newest = command("diff", f"{job.state}@then", job.state, "--json").json
    assert newest["after"]["sequence"] == last["sequence"] + 1
    assert newest["states"] == right["states"]
    unknown = command("diff", f"{job.state}@now", job.state)
    assert (unknown.code, unknown.out) == (1, "")
    assert "keeps no snapshot by the name 'now'; its names are: then." in unknown.err


def test_the_other_way_round_what_was_added_is_removed(command: Command, job: Job) -> None:
    first, last = ends(command, job)
    there = command("diff", job.state, first["sequence"], last["sequence"], "--json").json
    back = command("diff", job.state, last["sequence"], first["sequence"], "--json").json
    assert [(s["added"], s["removed"], s["changed"]) for s in there["states"]] == [
        (s["removed"], s["added"], s["changed"]) for s in back["states"]
    ]
    assert back["rows_read"] == -300


def test_a_copy_does_not_differ(command: Command, job: Job) -> None:
    copied = job.state.parent / "copied"
    assert command("copy", job.state, copied).code == 0
    facts = command("diff", job.state, copied, "--json").json
    assert all(not (s["added"] or s["removed"] or s["changed"]) for s in facts["states"])
    assert "no row differs" in command("diff", job.state, copied).out
    assert f" of {copied}" in command("diff", job.state, copied).out


def test_another_graph(command: Command, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"word":"a"}\n{"word":"b"}\n{"word":"a"}\n')
    for state, filtered in (("one", False), ("two", True)):
        with ap.Graph() as graph:
            lines = ap.io.jsonlines.read(tmp_path / "in.jsonl", schema=Line, mode="static", name="lines")
            chosen = lines.filter(ap.this.word != "b") if filtered else lines
            counts = chosen.groupby(ap.this.word, name="words").reduce(ap.this.word, count=ap.reducers.count())
            ap.io.csv.write(counts, tmp_path / f"{state}.csv")
        backend = ap.persistence.Backend.filesystem(tmp_path / state)
        asyncio.run(ap.run(graph, persistence_config=ap.persistence.Config(backend)))
    facts = command("diff", tmp_path / "one", tmp_path / "two", "--json").json
    assert any(line.startswith("added: filter") for line in facts["graph"])
    (words,) = [state for state in facts["states"] if state["identity"] == "group_by.words"]
    assert (words["added"], words["removed"], words["changed"]) == (0, 1, 0)
    assert words["sample"] == [{"kind": "removed", "before": {"word": "b", "__weight": 1}, "after": None}]
    assert "graph: added: filter" in command("diff", tmp_path / "one", tmp_path / "two").out


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("state", ("state", None)),
        ("state@3", ("state", "3")),
        ("a@b/state", ("a@b/state", None)),
        ("a@b/state@name", ("a@b/state", "name")),
        ("s3://bucket/prefix@3", ("s3://bucket/prefix", "3")),
        ("state@", ("state@", None)),
        ("there@3", ("there@3", None)),
    ],
)
def test_where_a_point_begins(text: str, parts: tuple[str, str | None], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there@3").mkdir()
    assert split_point(text) == parts


keys = st.tuples(st.sampled_from([None, "a", "b"]), st.sampled_from([None, 0, 1]))
values = st.tuples(st.sampled_from([None, 0.0, float("nan"), 1.0]), st.sampled_from([None, [], [1], [1, 2]]))
frames = st.dictionaries(keys, values)
SCHEMA = {"word": pl.String(), "n": pl.Int64(), "__value": pl.Float64(), "__list": pl.List(pl.Int64())}


@given(frames, frames, st.integers(0, 3), st.booleans())
def test_rows_are_compared_by_their_key(before: Any, after: Any, limit: int, wider: bool) -> None:
    one, other = (
        pl.DataFrame([(*key, *value) for key, value in rows.items()], schema=SCHEMA, orient="row")
        for rows in (before, after)
    )
    if wider:
        other = other.with_columns(__new=pl.lit(None, pl.Int64))
    found = compare(one, other, ("word", "n"), limit=limit)
    changed = [key for key in before.keys() & after.keys() if repr(before[key]) != repr(after[key])]
    added, removed = after.keys() - before.keys(), before.keys() - after.keys()
    assert (found.added, found.removed, found.changed) == (len(added), len(removed), len(changed))
    for kind, which in (("added", added), ("removed", removed), ("changed", changed)):
        sample = [change for change in found.sample if change.kind == kind]
        assert len(sample) == min(limit, len(which))
        for change in sample:
            row = change.after or change.before
            assert row is not None
            assert (row["word"], row["n"]) in which


def test_rows_without_a_key_and_of_other_keys() -> None:
    one, two = pl.DataFrame({"__weight": [1]}), pl.DataFrame({"__weight": [2]})
    assert [(c.kind, c.before, c.after) for c in compare(one, two, (), limit=5).sample] == [
        ("changed", {"__weight": 1}, {"__weight": 2})
    ]
    assert (compare(one, one, (), limit=5).changed, compare(one.clear(), two, (), limit=5).added) == (0, 1)
    ints, texts = pl.DataFrame({"k": [1, 2]}), pl.DataFrame({"k": ["1"]})
    found = compare(ints, texts, ("k",), limit=5)
    assert (found.added, found.removed, found.changed) == (1, 2, 0)
