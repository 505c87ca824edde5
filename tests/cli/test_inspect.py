"""`asyncpersist inspect`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import asyncpersist as ap
from asyncpersist.cli.state_rows import key_of, owner_and_name
from asyncpersist.columnar.delta import ID, Delta
from asyncpersist.graph.plan import plan_graph
from asyncpersist.runtime.dataflow import Dataflow
from tests.cli.conftest import Command, Job
from tests.main_job.job import Line
from tests.main_job.stream import word_counts


def operator(command: Command, state: Path, kind: str) -> str:
    facts = command("inspect", state, "--json").json
    (identity,) = [entry["identity"] for entry in facts["operators"] if entry["identity"].startswith(kind)]
    return str(identity)


def test_what_is_kept(command: Command, job: Job) -> None:
    before = job.files()
    done = command("inspect", job.state)
    facts = command("inspect", job.state, "--json").json
    assert job.files() == before
    assert done.code == 0
    group_by = operator(command, job.state, "group_by")
    assert [stream["stream"] for stream in facts["streams"]] == [
        "log/source.lines",
        "offsets/source.lines",
        f"state/{group_by}/groups",
    ]
    assert all(stream["objects"] and stream["bytes"] and stream["rows"] for stream in facts["streams"])
    (source,) = facts["sources"]
    assert source == {
        "identity": "source.lines",
        "description": f"source 'lines' ({job.folder})",
        "partitions": 3,
    }
    (sink,) = facts["sinks"]
    assert sink["position"]["length"] == job.output.stat().st_size
    assert str(job.output) in sink["description"]
    assert (facts["mode"], facts["access"], facts["rows_read"]) == ("PERSISTING", "FULL", 450)
    for said in ("source.lines", group_by, str(job.output), "450 rows read", "log/source.lines"):
        assert said in done.out


def test_the_rows_of_an_operator(command: Command, job: Job) -> None:
    before = job.files()
    (state,) = command("inspect", job.state, "group", "--limit", 1000, "--json").json["states"]
    assert (state["name"], state["key"]) == ("groups", ["word"])
    assert state["rows"] == len(state["first"])
    assert {(row["word"], str(row["__weight"])) for row in state["first"]} == word_counts(job.folder)
    few = command("inspect", job.state, "group", "--limit", 3, "--json").json["states"][0]
    assert few["rows"] == state["rows"]
    assert few["first"] == state["first"][:3]
    told = command("inspect", job.state, "group", "--limit", 3)
    assert f"{state['rows']} rows by word; the first 3" in told.out
    assert len(told.out.splitlines()) == 4 + 3
    assert job.files() == before


def test_the_partitions_of_a_source_and_the_position_of_a_sink(command: Command, job: Job) -> None:
    (offsets,) = command("inspect", job.state, "source.lines", "--json").json["states"]
    assert [row["partition"] for row in offsets["first"]] == ["001.jsonl", "002.jsonl", "003.jsonl"]
    sink = command("inspect", job.state, "sink", "--json").json
    assert sink["states"] == []
    assert sink["position"]["length"] == job.output.stat().st_size
    assert "position: " in command("inspect", job.state, "sink").out


def test_an_older_snapshot(command: Command, own_job: Job) -> None:
    job = own_job
    listed = command("snapshots", job.state, "--json").json["snapshots"]
    first = next(entry for entry in listed if entry["rows_read"] == 150)
    facts = command("inspect", job.state, "--at", first["sequence"], "--json").json
    assert (facts["sequence"], facts["epoch"], facts["rows_read"]) == (first["sequence"], first["epoch"], 150)
    assert sum(stream["bytes"] for stream in facts["streams"]) == first["bytes"]
    assert facts["sources"][0]["partitions"] == 1
    (state,) = command("inspect", job.state, "group", "--at", first["sequence"], "--limit", 1000, "--json").json[
        "states"
    ]
    (job.folder / "002.jsonl").unlink()
    (job.folder / "003.jsonl").unlink()
    assert {(row["word"], str(row["__weight"])) for row in state["first"]} == word_counts(job.folder)
    missing = command("inspect", job.state, "--at", 999)
    assert missing.code == 1
    assert "has no snapshot 999; it has" in missing.err


def test_a_name_that_fits_none_or_several(command: Command, job: Job) -> None:
    none, several = command("inspect", job.state, "join"), command("inspect", job.state, "s")
    assert none.code == several.code == 1
    assert "no operator 'join'" in none.err
    assert "several that begin with 's': source.lines, sink-" in several.err


def test_damage_is_an_error(command: Command, job: Job) -> None:
    for path in (job.state / "objects").iterdir():
        path.write_bytes(path.read_bytes()[:1])
    done = command("inspect", job.state, "group")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert "is damaged" in done.err


class Reading(ap.Schema):
    place: str
    data: bytes
    value: float
    at: ap.DateTimeUtc


def test_values_of_every_kind(command: Command, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(
        "place,data,value,at\nä,aGk=,1.5,2024-05-01T10:00:00+00:00\nb,aGk=,nan,2024-05-01T10:00:00+00:00\n"
    )
    with ap.Graph() as graph:
        rows = ap.io.csv.read(tmp_path / "in.csv", schema=Reading, mode="static", name="in")
        kept = rows.filter(ap.this.place != "?")
        table = kept.groupby(ap.this.place, ap.this.data).reduce(
            ap.this.place,
            ap.this.data,
            total=ap.reducers.sum(ap.this.value),
            last=ap.reducers.max(ap.this.at),
            which=ap.reducers.argmax(ap.this.at),
        )
        whole = kept.reduce(n=ap.reducers.count())
        ap.io.jsonlines.write(table.select(ap.this.place, ap.this.total), tmp_path / "out.jsonl")
        ap.io.jsonlines.write(whole, tmp_path / "n.jsonl")
    backend = ap.persistence.Backend.filesystem(tmp_path / "state")
    asyncio.run(ap.run(graph, persistence_config=ap.persistence.Config(backend)))
    facts = command("inspect", tmp_path / "state", "--json").json
    states: dict[str, Any] = {}
    for entry in facts["operators"]:
        done = command("inspect", tmp_path / "state", entry["identity"], "--json")
        assert done.code == 0
        assert command("inspect", tmp_path / "state", entry["identity"]).code == 0
        if not done.json["states"]:
            assert "keeps no state" in command("inspect", tmp_path / "state", entry["identity"]).out
        for state in done.json["states"]:
            states[",".join(state["key"])] = state
    assert {row["place"]: row["data"] for row in states["place,data"]["first"]} == {"ä": b"hi".hex(), "b": b"hi".hex()}
    text = str(states["place,data"]["first"])
    assert "2024-05-01T10:00:00+00:00" in text
    assert "'^" in text
    assert states[""]["first"] == [{"__weight": 2}]


def test_rows_that_are_gone_are_not_shown(command: Command, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for text in ("a a b c", "a b b c", "a"):
        number = len(list((tmp_path / "in").iterdir()))
        (tmp_path / "in" / f"{number}.jsonl").write_text("".join(f'{{"word":"{w}"}}\n' for w in text.split()))
        with ap.Graph() as graph:
            lines = ap.io.jsonlines.read(tmp_path / "in", schema=Line, mode="static", name="lines")
            counts = lines.groupby(ap.this.word).reduce(ap.this.word, count=ap.reducers.count())
            often = counts.groupby(ap.this["count"], name="often").reduce(n=ap.reducers.count())
            ap.io.csv.write(often, tmp_path / "out.csv")
        backend = ap.persistence.Backend.filesystem(tmp_path / "state")
        asyncio.run(ap.run(graph, persistence_config=ap.persistence.Config(backend)))
    (state,) = command("inspect", tmp_path / "state", "group_by.often", "--json").json["states"]
    assert state["first"] == [{"count": 2, "__weight": 1}, {"count": 3, "__weight": 1}, {"count": 4, "__weight": 1}]


@pytest.mark.parametrize(
    ("stream", "owner", "name"),
    [
        ("state/a/groups", "a", "groups"),
        ("state/a/b/groups", "a/b", "groups"),
        ("state/a/values:x/y", "a", "values:x/y"),
        ("state/gone/groups", "gone", "groups"),
        ("offsets/source.in/out", "source.in/out", "offsets"),
        ("log/a", "a", "log"),
    ],
)
def test_whose_stream_it_is(stream: str, owner: str, name: str) -> None:
    assert owner_and_name(stream, ["a", "a/b"]) == (owner, name)


def test_the_key_of_a_state_is_that_of_its_operator() -> None:
    with ap.Graph() as graph:
        rows = ap.io.csv.read("in.csv", schema=Reading, mode="static", name="in")
        changing = rows.groupby(ap.this.place).reduce(ap.this.place, value=ap.reducers.sum(ap.this.value))
        again = changing.groupby(ap.this.place).reduce(
            ap.this.place,
            a=ap.reducers.avg(ap.this.value),
            b=ap.reducers.min(ap.this.value),
            c=ap.reducers.argmin(ap.this.value),
            d=ap.reducers.count_distinct(ap.this.value),
            e=ap.reducers.tuple(ap.this.value),
            f=ap.reducers.unique(ap.this.value),
        )
        ap.io.csv.write(again, "out.csv")
    dataflow = Dataflow(plan_graph(graph, persistent=True))
    (source,) = [
        vertex.identity
        for vertex in plan_graph(graph, persistent=True).vertices
        if vertex.identity.startswith("source")
    ]
    frame = pl.DataFrame(
        {"place": ["a"], "data": [b""], "value": [1.0], "at": [None], ID: [7]},
        schema={
            "place": pl.String(),
            "data": pl.Binary(),
            "value": pl.Float64(),
            "at": pl.Datetime("us", "UTC"),
            ID: pl.UInt128(),
        },
    )
    dataflow.step({source: [Delta(frame, np.ones(1, np.int64))]})
    states = dict(dataflow.states())
    assert len(states) >= 3
    for stream, state in states.items():
        captured = state.capture()
        assert captured is not None
        assert key_of(owner_and_name(stream, [])[1], captured.rows.columns) == state.key
