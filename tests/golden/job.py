"""The job of the golden roots: it never changes, or the roots could not be gone on with.

A named source with one group-by over it, and a source without a name, its rows under a primary key. All paths are
relative, so that what it is does not depend on where it lies.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import asyncpersist as ap

__all__ = ["MODES", "OUTPUTS", "ROUNDS", "define", "expected", "write_round"]

MODES = {"persisting": "PERSISTING", "operators": "OPERATOR_PERSISTING"}
"""Directory -> the mode of the root in it."""

OUTPUTS = {"counts.csv": 1, "prices.csv": 1}
"""Output -> how many of its first fields are the key."""

ROUNDS = 3
"""How many runs made a golden root; a test goes on with the next round."""

_WORDS = ("ash", "birch", "élan", "oak", "pine")


class Line(ap.Schema):
    word: str
    n: int


class Price(ap.Schema):
    item: str = ap.column_definition(primary_key=True)
    cents: int


def define() -> ap.Graph:
    with ap.Graph() as graph:
        lines = ap.io.jsonlines.read("in/lines", schema=Line, mode="static", name="lines")
        counts = lines.groupby(ap.this.word).reduce(
            ap.this.word,
            count=ap.reducers.count(),
            total=ap.reducers.sum(ap.this.n),
            least=ap.reducers.min(ap.this.n),
            most=ap.reducers.max(ap.this.n),
            mean=ap.reducers.avg(ap.this.n),
            distinct=ap.reducers.count_distinct(ap.this.n),
        )
        ap.io.csv.write(counts, "out/counts.csv")
        prices = ap.io.csv.read("in/prices", schema=Price, mode="static")
        ap.io.csv.write(prices.select(ap.this.item, ap.this.cents), "out/prices.csv")
    return graph


def write_round(number: int) -> None:
    """The files that are new before run `number`, counted from 0, below the current directory."""
    Path("in/lines").mkdir(parents=True, exist_ok=True)
    Path("in/prices").mkdir(parents=True, exist_ok=True)
    lines = [{"word": _WORDS[(number * 3 + i * i) % 5], "n": 10 * number - i} for i in range(8)]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    Path(f"in/lines/{number}.jsonl").write_text(text, encoding="utf-8")
    # Each item is in one file, so that the files may come in any order.
    prices = [f"{number}{item},{100 * number + i}\n" for i, item in enumerate(("nut", "bolt"))]
    Path(f"in/prices/{number}.csv").write_text("item,cents\n" + "".join(prices), encoding="utf-8")


def expected() -> dict[str, set[tuple[str, ...]]]:
    """What every output holds in the end, from the inputs below the current directory alone."""
    numbers: dict[str, list[int]] = {}
    for path in Path("in/lines").iterdir():
        for line in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            numbers.setdefault(line["word"], []).append(line["n"])
    counts = {
        (word, str(len(ns)), str(sum(ns)), str(min(ns)), str(max(ns)), str(sum(ns) / len(ns)), str(len(set(ns))))
        for word, ns in numbers.items()
    }
    prices: Counter[tuple[str, ...]] = Counter()
    for path in Path("in/prices").iterdir():
        with path.open(newline="", encoding="utf-8") as file:
            prices.update(map(tuple, list(csv.reader(file))[1:]))
    return {"counts.csv": counts, "prices.csv": set(prices)}
