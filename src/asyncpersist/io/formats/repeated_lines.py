"""Lines that occur many times, found before they are parsed: each is parsed once and counted.

Finding them costs a third of what parsing JSON does, and real streams repeat themselves: words, levels, states. Whether
they do is judged by the first lines of the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from asyncpersist.columnar.consolidate import promises_fewer
from asyncpersist.io.byte_counts import count_byte
from asyncpersist.io.formats.exact_csv import read_csv
from asyncpersist.io.formats.format import Broken

__all__ = ["DistinctLines", "distinct_lines", "lines_of"]

_SAMPLE_BYTES = 128 << 10


@dataclass(frozen=True, slots=True)
class DistinctLines:
    """Each different line once, end to end with a newline, and how often it occurred."""

    data: bytes
    counts: npt.NDArray[np.int64]


def distinct_lines(data: bytes) -> DistinctLines | None:
    """None where it would not pay, or where lines are blank or cannot be told apart this way."""
    sample = lines_of(data[: data.rfind(b"\n", 0, _SAMPLE_BYTES) + 1])
    if sample is None or not promises_fewer(sample, total=count_byte(data, b"\n")):
        return None
    lines = lines_of(data)
    if lines is None or lines.height != count_byte(data, b"\n"):
        return None
    counted = lines.group_by("line").len()
    text = counted["line"].str.join("\n").item()
    return DistinctLines(f"{text}\n".encode(), counted["len"].cast(pl.Int64).to_numpy())


def lines_of(data: bytes) -> pl.DataFrame | None:
    """The lines as the column `line`; None if one is blank, not UTF-8, or holds the control character 1."""
    try:
        lines = read_csv(data, {"line": pl.String()}, separator="\x01", quote=None)
    except Broken:
        return None
    return None if lines["line"].null_count() else lines
