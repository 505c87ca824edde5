"""Rows by slot, append-only: where the keys and values of arrangements lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["RowStore", "own_copy"]

Slots = npt.NDArray[np.int64]


class RowStore:
    """A table that only grows at its end; the slot of a row is its position.

    It owns its memory: rows are copied in, so that a few strings never keep alive the batch they came in. A chunk is
    merged into the one after it unless it is `ratio` times as long: with a large one gathers see few chunks, with a
    small one rows move less often.
    """

    def __init__(self, schema: Mapping[str, pl.DataType], *, ratio: int = 16) -> None:
        self._ratio = ratio
        self._schema = dict(schema)
        self._chunks: list[pl.DataFrame] = []
        self._all: pl.DataFrame | None = pl.DataFrame(schema=self._schema)
        self._height = 0

    def __len__(self) -> int:
        return self._height

    @property
    def schema(self) -> Mapping[str, pl.DataType]:
        return self._schema

    @property
    def chunks(self) -> Sequence[pl.DataFrame]:
        """The rows, in pieces."""
        return self._chunks

    def append(self, rows: pl.DataFrame) -> None:
        """Adds rows, which have exactly the store's columns, at the end."""
        if not rows.height:
            return
        self._height += rows.height
        chunk = own_copy(rows)
        merge = [chunk]
        while self._chunks and self._chunks[-1].height < self._ratio * sum(part.height for part in merge):
            merge.insert(0, self._chunks.pop())
        self._chunks.append(pl.concat(merge, rechunk=True) if len(merge) > 1 else chunk)
        self._all = None

    def gather(self, slots: Slots, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The rows in `slots`, in that order, with all columns or some; a row may be asked for more than once."""
        rows = self._rows() if columns is None else self._rows().select(columns)
        index = pl.Series(slots)
        return pl.DataFrame([column[index] for column in rows.get_columns()])

    def pick(self, slots: Slots) -> pl.DataFrame:
        """The rows in `slots`, in no particular order: at no cost that grows with the store, also for lists."""
        parts, start = [pl.DataFrame(schema=self._schema)], 0
        for chunk in self._chunks:
            end = start + chunk.height
            here = slots[(slots >= start) & (slots < end)]
            if len(here):
                parts.append(chunk[here - start])
            start = end
        return pl.concat(parts, rechunk=False)

    def equal(self, slots: Slots, rows: pl.DataFrame, positions: Slots) -> npt.NDArray[np.bool_]:
        """Whether the row in `slots[i]` equals row `positions[i]` of `rows` in all columns of these.

        None equals None, NaN equals NaN.
        """
        same = np.ones(len(slots), np.bool_)
        start = 0
        # Chunk by chunk: a gather from several at once costs ten times as much per row.
        for chunk in self._chunks:
            end = start + chunk.height
            here = np.flatnonzero((slots >= start) & (slots < end))
            start, first = end, start
            if not len(here):
                continue
            mine, theirs = pl.Series(slots[here] - first), rows
            if len(here) < rows.height or not _is_range(positions[here]):
                theirs = rows[positions[here]]
            for column in theirs.get_columns():
                same[here] &= chunk[column.name][mine].eq_missing(column).to_numpy()
        return same

    def keep(self, slots: Slots) -> None:
        """Keeps only the rows in `slots` (ascending), which move up to 0, 1, ..."""
        rows = self.gather(slots)
        self._chunks, self._height, self._all = [], 0, rows.clear()
        self.append(rows)

    def _rows(self) -> pl.DataFrame:
        if self._all is None:
            self._all = pl.concat(self._chunks, rechunk=False)
        return self._all


def _is_range(positions: Slots) -> bool:
    return bool((positions == np.arange(len(positions))).all())


def own_copy(rows: pl.DataFrame) -> pl.DataFrame:
    """The same rows in buffers of their own, in one chunk.

    Strings that were gathered or parsed are views that keep the whole buffer they point into alive.
    """
    kinds = set(rows.dtypes)
    if all(dtype.is_numeric() or dtype.is_temporal() or dtype == pl.Boolean for dtype in kinds):
        return rows.rechunk()
    if all(dtype == pl.String or dtype.is_numeric() or dtype.is_temporal() or dtype == pl.Boolean for dtype in kinds):
        strings = [name for name, dtype in rows.schema.items() if dtype == pl.String]
        # concat_str writes new strings, a cast or a rechunk would go on pointing at the old ones.
        return rows.with_columns(pl.concat_str(pl.col(name), pl.lit("")) for name in strings).rechunk()
    buffer = rows.write_ipc(None, compat_level=pl.CompatLevel.oldest())
    buffer.seek(0)
    return pl.read_ipc(buffer).rechunk()
