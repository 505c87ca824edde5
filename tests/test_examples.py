"""The examples work as they stand, in a directory of their own."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from tests.amounts import PATIENCE

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(example: str, directory: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / example)],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


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


@contextlib.contextmanager
def running(example: str, directory: Path) -> Iterator[None]:
    """The example, ended by Ctrl-C."""
    process = subprocess.Popen([sys.executable, "-W", "error", str(EXAMPLES / example)], cwd=directory)
    try:
        yield
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()


def becomes(output: Path, wanted: dict[str, int]) -> None:
    """Waits until the output amounts to that."""
    late = time.monotonic() + PATIENCE
    while (found := final(whole(output))) != wanted:
        assert time.monotonic() < late, f"{found} instead of {wanted}"
        time.sleep(0.02)


def whole(output: Path) -> pl.DataFrame:
    """The changes in an output that may be unfinished at its end."""
    text = output.read_bytes() if output.exists() else b""
    lines = text[: text.rfind(b"\n") + 1] or b"word,count,time,diff\n"
    return pl.read_csv(lines, schema={"word": pl.String, "count": pl.Int64, "time": pl.Int64, "diff": pl.Int64})


def test_live_files_are_followed(tmp_path: Path) -> None:
    inputs, output = tmp_path / "input", tmp_path / "counts.csv"
    inputs.mkdir()
    write_lines(inputs / "a.jsonl", ["to", "be"])
    with running("live_files.py", tmp_path):
        becomes(output, {"to": 1, "be": 1})
        write_lines(inputs / "b.jsonl", ["or", "not"])
        becomes(output, {"to": 1, "be": 1, "or": 1, "not": 1})
        with (inputs / "a.jsonl").open("a") as file:
            file.write('{"word":"to"}\n{"wor')
            file.flush()
            becomes(output, {"to": 2, "be": 1, "or": 1, "not": 1})
            file.write('d":"be"}\n')
        becomes(output, {"to": 2, "be": 2, "or": 1, "not": 1})
        write_lines(inputs / "b.jsonl", ["or", "nit"])
        becomes(output, {"to": 2, "be": 2, "or": 1, "nit": 1})
        (inputs / "b.jsonl").rename(inputs / "c.jsonl")
        (inputs / "a.jsonl").unlink()
        becomes(output, {"or": 1, "nit": 1})
    write_lines(inputs / "c.jsonl", ["to", "sleep"])
    before = output.read_bytes()
    with running("live_files.py", tmp_path):
        becomes(output, {"to": 1, "sleep": 1})
    assert output.read_bytes().startswith(before)
    assert (whole(output).group_by("word", "count").agg(pl.col("diff").sum())["diff"] >= 0).all()


def test_answers_are_paid_for_once(tmp_path: Path) -> None:
    first = run("paid_answers.py", tmp_path)
    more = (
        '{"title": "more", "text": "One more. With an end."}\n'
        '{"title": "again", "text": "Document 7 is short. It ends."}\n'
    )
    (tmp_path / "documents" / "more.jsonl").write_text(more, encoding="utf-8")
    paid = Counter((first + run("paid_answers.py", tmp_path)).splitlines())
    assert len(paid) == paid.total() == 101
    summaries = pl.read_ndjson(tmp_path / "summaries.jsonl")
    assert dict(zip(summaries["title"], summaries["summary"], strict=True))["again"] == "Document 7 is short"
