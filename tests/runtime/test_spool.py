"""What a run without a state root keeps on disk for retractions."""

from __future__ import annotations

from contextlib import AsyncExitStack

import numpy as np
import polars as pl
import pytest

from asyncpersist.columnar import codec
from asyncpersist.columnar.delta import ID, PART, Delta
from asyncpersist.runtime.scratch import Scratch
from asyncpersist.runtime.segments import LogSegment
from asyncpersist.runtime.spool import Spool


def delta(words: list[str], *, ids: bool) -> Delta:
    rows = pl.DataFrame({"word": words}).with_columns(pl.lit(1, dtype=pl.Int64).alias(PART))
    return Delta(rows.with_columns(pl.Series(ID, np.arange(len(words))).cast(pl.UInt128)) if ids else rows)


@pytest.mark.parametrize(("ids", "rows"), [(False, 2), (True, 2400)])
async def test_a_segment_counts_the_rows_that_are_in_it(ids: bool, rows: int) -> None:
    deltas = [([(epoch, 800)], delta(["a"] * 500 + ["b"] * 300, ids=ids)) for epoch in (2, 4, 6)]
    async with AsyncExitStack() as closing:
        spool = Spool(Scratch(closing))
        ref = await spool.put(LogSegment("log/words", deltas, consolidated=not ids), 6)
        found = Delta.from_weighted(codec.decode(await spool.get(ref)).drop(codec.EPOCH))
    assert ref.rows == found.height == rows
    weights = found.weighted().group_by("word").agg(pl.col("__weight").sum()).sort("word")
    assert weights.rows() == [("a", 1500), ("b", 900)]
