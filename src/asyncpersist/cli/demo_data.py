"""What the demo counts, and how its outcome is judged; neither uses the dataflow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

__all__ = ["Verdict", "judge", "make_lines"]

WORDS = 10_000
ROWS_PER_FILE = 1_000_000


def make_lines(directory: Path, rows: int, seed: int) -> None:
    """Writes `rows` lines such as {"word":"lamibo"} as files of about a million lines; equal seeds give equal files."""
    generator = np.random.default_rng(seed)
    syllables = np.array([a + b for a in "bdfgklmnprstvz" for b in "aeiou"])
    picks = np.stack([np.arange(WORDS) // syllables.size**place % syllables.size for place in range(3)])
    words = pl.Series("word", ["".join(word) for word in syllables[picks].T.tolist()])
    for number, start in enumerate(range(0, rows, ROWS_PER_FILE)):
        # Squared, so that some words are common and some are rare.
        drawn = generator.random(min(ROWS_PER_FILE, rows - start)) ** 2 * WORDS
        frame = words.gather(pl.Series(drawn.astype(np.uint32))).to_frame()
        frame.write_ndjson(directory / f"lines-{number:04}.jsonl")


@dataclass(frozen=True, slots=True)
class Verdict:
    """`faults` is empty if the change stream is exact; `changes` is its number of rows."""

    changes: int
    faults: tuple[str, ...]


def judge(inputs: Path, changes: Path) -> Verdict:
    """Compares a change stream of word counts with a count of the files in one go.

    Exact means: summed up it is the right table; at no place in the file is a row retracted that is not there, or
    inserted that is there already; time never goes back.
    """
    right = pl.scan_ndjson(inputs / "*.jsonl", schema={"word": pl.String}).group_by("word").agg(pl.len().alias("count"))
    stream = pl.read_csv(
        changes, schema={"word": pl.String, "count": pl.Int64, "time": pl.Int64, "diff": pl.Int64}
    ).with_columns(pl.col("diff").cum_sum().over("word", "count").alias("present"))
    summed = stream.group_by("word", "count").agg(pl.col("diff").sum()).filter(pl.col("diff") != 0)
    faults = []
    if stream.filter(pl.col("present") < 0).height:
        faults.append("a row was retracted that was not there")
    if stream.filter(pl.col("present") > 1).height:
        faults.append("a row was inserted that was there already")
    if not stream["time"].is_sorted():
        faults.append("time goes back")
    expected = right.select("word", pl.col("count").cast(pl.Int64), pl.lit(1, pl.Int64).alias("diff")).collect()
    if not summed.sort("word", "count").equals(expected.sort("word", "count")):
        faults.append("the sum of all changes is not the right table")
    return Verdict(stream.height, tuple(faults))
