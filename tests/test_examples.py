"""The examples work as they stand, in a directory of their own."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import polars as pl

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(example: str, directory: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / example)],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def write_lines(path: Path, words: list[str]) -> None:
    path.write_text("".join(f'{{"word":"{word}"}}\n' for word in words), encoding="utf-8")


def final(changes: pl.DataFrame) -> dict[str, int]:
    """The table that a change stream amounts to."""
    rows = changes.group_by("word", "count").agg(pl.col("diff").sum()).filter(pl.col("diff") != 0)
    assert rows["diff"].to_list() == [1] * rows.height
    return dict(zip(rows["word"].to_list(), rows["count"].to_list(), strict=True))


def test_wordcount_goes_on_with_only_what_is_new(tmp_path: Path) -> None:
    inputs, output = tmp_path / "input", tmp_path / "counts.csv"
    inputs.mkdir()
    first = ["to", "be", "or", "not", "to", "be"]
    write_lines(inputs / "a.jsonl", first)
    run("wordcount.py", tmp_path)
    before = output.read_bytes()
    table = pl.read_csv(output)
    assert table.columns == ["word", "count", "time", "diff"]
    assert final(table) == Counter(first)

    second = ["to", "sleep"]
    write_lines(inputs / "b.jsonl", second)
    run("wordcount.py", tmp_path)
    after = output.read_bytes()
    assert after.startswith(before)
    assert final(pl.read_csv(output)) == Counter(first + second)
    new = pl.read_csv(output).slice(table.height).drop("time")
    assert sorted(new.rows()) == [("sleep", 1, 1), ("to", 2, -1), ("to", 3, 1)]
    assert new["diff"].to_list() == [-1, 1, 1]

    run("wordcount.py", tmp_path)
    assert output.read_bytes() == after
