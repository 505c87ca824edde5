"""The demo: what it makes, how it judges, and that it comes out exact."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from asyncpersist.cli.demo_data import judge, make_lines
from asyncpersist.cli.demo_process import JobFailed, run_job

HEADER = "word,count,time,diff\n"


def test_lines_are_made_from_the_seed(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        make_lines(tmp_path / name, 20_000, seed)
    first, again, other = ((tmp_path / name / "lines-0000.jsonl").read_bytes() for name in "abc")
    assert first == again != other
    assert first.count(b"\n") == 20_000
    words = pl.read_ndjson(tmp_path / "a" / "lines-0000.jsonl")["word"]
    assert words.null_count() == 0
    assert 5_000 < words.n_unique() <= 10_000


@pytest.mark.parametrize(
    ("changes", "faults"),
    [
        (["a,1,2,1", "b,1,2,1", "a,1,4,-1", "a,2,4,1"], []),
        (["a,2,2,1"], ["the sum of all changes is not the right table"]),
        (["a,2,2,1", "b,1,2,1", "b,1,4,1"], ["inserted", "the sum of all changes is not the right table"]),
        (["a,1,2,-1", "a,1,2,1", "a,2,4,1", "b,1,4,1"], ["retracted"]),
        (["a,1,2,1", "a,1,4,1", "a,1,6,-1", "a,1,8,-1", "a,2,8,1", "b,1,8,1"], ["inserted"]),
        (["a,2,4,1", "b,1,2,1"], ["time goes back"]),
        ([], ["the sum of all changes is not the right table"]),
    ],
)
def test_the_judge_sees(tmp_path: Path, changes: list[str], faults: list[str]) -> None:
    (tmp_path / "lines.jsonl").write_text('{"word":"a"}\n{"word":"b"}\n{"word":"a"}\n')
    (tmp_path / "counts.csv").write_text(HEADER + "".join(f"{change}\n" for change in changes))
    verdict = judge(tmp_path, tmp_path / "counts.csv")
    assert verdict.changes == len(changes)
    assert [any(fault in said for said in verdict.faults) for fault in faults] == [True] * len(faults)
    assert len(verdict.faults) == len(faults)


def test_a_job_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match=r"InputNotFound.*input"):
        run_job(tmp_path, 100, watch=lambda report: None)


def test_the_demo_is_exact(tmp_path: Path) -> None:
    place = tmp_path / "demo"
    command = [sys.executable, "-m", "asyncpersist.cli", "demo", "--rows", "1500000", "--json", "--keep", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["exact"] is True
    assert summary["faults"] == []
    assert summary["rows"] >= 1_500_000
    assert 0 < summary["rows_kept"] <= summary["killed_at_row"] + summary["rows_read_after_restart"]
    assert summary["rows_kept"] + summary["rows_read_after_restart"] == summary["rows"]
    assert summary["snapshots"] >= 2
    assert sorted(path.name for path in place.iterdir()) == ["counts.csv", "input", "state"]
    assert judge(place / "input", place / "counts.csv").faults == ()
