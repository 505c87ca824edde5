"""What a change stream in a file must be, checked line by line."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path


def read_changes(path: Path) -> list[tuple[tuple[str, ...], int, int]]:
    """(row, time, diff) of every change in a CSV file, in the order of the file. A torn line fails."""
    text = path.read_text(encoding="utf-8")
    assert text == "" or text.endswith("\n"), f"{path} ends in a torn line"
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        header = next(reader)
        assert header[-2:] == ["time", "diff"]
        return [(tuple(row[:-2]), int(row[-2]), int(row[-1])) for row in reader]


def final_rows(path: Path, *, keys: int) -> set[tuple[str, ...]]:
    """The rows that are there at the end, having checked every step on the way.

    At no point is a row retracted that was not there, or one inserted while another of the same key (the first `keys`
    fields) is there after its epoch; epochs only grow; retractions come first in an epoch.
    """
    live: Counter[tuple[str, ...]] = Counter()
    last_time, inserted = 0, False
    for row, time, diff in read_changes(path):
        assert time >= last_time, f"epoch {time} after {last_time}"
        if time > last_time:
            _one_row_per_key(live, keys)
            last_time, inserted = time, False
        assert diff in (1, -1)
        if diff == 1:
            inserted = True
            assert live[row] == 0, f"{row} inserted twice"
        else:
            assert not inserted, f"{row} retracted after an insertion in epoch {time}"
            assert live[row] == 1, f"{row} retracted, but it was not there"
        live[row] += diff
    _one_row_per_key(live, keys)
    return {row for row, count in live.items() if count}


def _one_row_per_key(live: Counter[tuple[str, ...]], keys: int) -> None:
    rows = [row[:keys] for row, count in live.items() if count]
    assert len(rows) == len(set(rows)), "two rows of one key are there"


def word_counts(folder: Path) -> set[tuple[str, ...]]:
    """The right answer for a folder of JSON lines with the field `word`."""
    counts: Counter[str] = Counter()
    for path in sorted(folder.rglob("*.jsonl")):
        counts.update(json.loads(line)["word"] for line in path.read_text(encoding="utf-8").splitlines())
    return {(word, str(count)) for word, count in counts.items()}
