"""What is measured: inputs made from a seed, the right answers, and whether an output is right."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

__all__ = ["WORKLOADS", "Workload", "WrongResult", "tally"]

ROWS_PER_FILE = 5_000_000
WORD = {"word": pl.String}
SALES = {"store": pl.String, "product": pl.String, "tier": pl.Int64, "quantity": pl.Int64, "price": pl.Float64}


class WrongResult(Exception):
    """A program's output is not the right table, so its time means nothing."""


def tally(kind: str, inputs: Path) -> pl.LazyFrame:
    """The answer as a query over the files, done in one go: also what the one-shot limit runs."""
    if kind == "words":
        return pl.scan_ndjson(inputs / "*.jsonl", schema=WORD).group_by("word").agg(count=pl.len().cast(pl.Int64))
    price = pl.col("price")
    return (
        pl.scan_csv(inputs / "*.csv", schema=SALES)
        .group_by("store", "product", "tier")
        .agg(n=pl.len().cast(pl.Int64), total=pl.col("quantity").sum(), mean=price.mean(), top=price.max())
    )


@dataclass(frozen=True, slots=True)
class Workload:
    """Files of rows. `kind` is "words" (JSON lines, drawn from `distinct` words) or "sales" (CSV, three keys)."""

    name: str
    kind: str
    rows: int
    distinct: int
    seed: int

    def scaled(self, factor: float) -> Workload:
        """The same groups with fewer or more rows."""
        return replace(self, name=f"{self.name} x{factor:g}", rows=max(1000, round(self.rows * factor)))

    def directory(self, cache: Path) -> Path:
        return cache / f"{self.kind}-{self.rows}-{self.distinct}-{self.seed}"

    def make(self, cache: Path) -> Path:
        """The directory of the input files, made if it is not there yet."""
        done = self.directory(cache)
        if done.exists():
            return done / "input"
        temporary = done.with_name(done.name + ".new")
        (temporary / "input").mkdir(parents=True, exist_ok=True)
        for number, start in enumerate(range(0, self.rows, ROWS_PER_FILE)):
            rows = min(ROWS_PER_FILE, self.rows - start)
            generator = np.random.default_rng([self.seed, number])
            if self.kind == "words":
                self._words(generator, rows).write_ndjson(temporary / "input" / f"part-{number:03}.jsonl")
            else:
                self._sales(generator, rows).write_csv(temporary / "input" / f"part-{number:03}.csv")
        tally(self.kind, temporary / "input").sort(self.keys).collect().write_ipc(temporary / "answer.arrow")
        temporary.rename(done)
        return done / "input"

    def _words(self, generator: np.random.Generator, rows: int) -> pl.DataFrame:
        letters = np.random.default_rng(self.seed).integers(ord("a"), ord("k"), (self.distinct, 6), dtype=np.uint8)
        suffixes = pl.Series(letters.reshape(-1).view("S6").astype("U6").tolist(), dtype=pl.String)
        vocabulary = pl.select(pl.format("word{}_{}", pl.int_range(self.distinct), suffixes)).to_series()
        picks = generator.integers(0, self.distinct, rows, dtype=np.uint32)
        return vocabulary.gather(pl.Series(picks)).alias("word").to_frame()

    def _sales(self, generator: np.random.Generator, rows: int) -> pl.DataFrame:
        """40 stores, `distinct` / 160 products, 3 tiers or none."""
        stores = pl.Series([f"store-{number:02}" for number in range(40)])
        products = pl.Series([f"product-{number:04}" for number in range(self.distinct // 160)])
        tier = pl.Series(generator.integers(0, 4, rows))
        return pl.DataFrame(
            {
                "store": stores.gather(pl.Series(generator.integers(0, stores.len(), rows, dtype=np.uint32))),
                "product": products.gather(pl.Series(generator.integers(0, products.len(), rows, dtype=np.uint32))),
                "tier": tier.replace({0: None}),
                "quantity": generator.integers(1, 20, rows),
                "price": np.round(generator.gamma(2.0, 15.0, rows), 2),
            }
        )

    @property
    def keys(self) -> list[str]:
        return ["word"] if self.kind == "words" else ["store", "product", "tier"]

    def answer(self, cache: Path) -> pl.DataFrame:
        return pl.read_ipc(self.directory(cache) / "answer.arrow")

    def verify(self, cache: Path, output: Path, form: str) -> None:
        """Raises `WrongResult` unless `output` amounts to the right table.

        `form`: "changes" (CSV with time and diff), "table" (CSV), or "running" (CSV without a header: the row after
        every input row; the last one under a key counts).
        """
        right = self.answer(cache)
        if form == "changes":
            text = pl.read_csv(output, infer_schema=False)
            columns = [name for name in text.columns if name not in ("time", "diff")]
            net = text.group_by(columns).agg(pl.col("diff").cast(pl.Int64).sum()).filter(pl.col("diff") != 0)
            if (net["diff"] != 1).any():
                raise WrongResult(f"{output.name}: retractions and insertions do not add up to a table")
            found = net.drop("diff")
        elif form == "table":
            found = pl.read_csv(output, infer_schema=False)
        else:
            text = pl.read_csv(output, has_header=False, new_columns=right.columns, infer_schema=False)
            found = text.unique(self.keys, keep="last")
        # An optional integer that a peer writes as text for none.
        found = found.with_columns(
            pl.col(name).replace({"": None, "None": None, "null": None}).cast(right.schema[name])
            for name in right.columns
        )
        found = found.select(right.columns).sort(self.keys)
        exact = [name for name, dtype in right.schema.items() if not dtype.is_float()]
        close = [name for name in right.columns if name not in exact]
        if not found.select(exact).equals(right.select(exact)) or any(
            not np.allclose(found[name].to_numpy(), right[name].to_numpy(), rtol=1e-9) for name in close
        ):
            raise WrongResult(f"{output.name}: not the right table ({found.height} groups, {right.height} are right)")


WORKLOADS = {
    "wordcount": Workload("wordcount", "words", 5_000_000, 10_000, 7),
    "cardinality": Workload("cardinality", "words", 2_000_000, 1_000_000, 8),
    "keys": Workload("keys", "sales", 3_000_000, 20_000, 9),
}
