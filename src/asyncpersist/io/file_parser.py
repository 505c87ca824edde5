"""Pieces of files into batches: the parsing, the counting of records, and what becomes of broken ones."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from asyncpersist.columnar.consolidate import consolidate, consolidate_if_smaller
from asyncpersist.columnar.delta import ID, PART, Delta, concat
from asyncpersist.columnar.hashing import row_ids
from asyncpersist.errors import MalformedInput
from asyncpersist.io.byte_counts import count_byte
from asyncpersist.io.chunks import Chunk, Piece
from asyncpersist.io.dead_letters import DeadLetter
from asyncpersist.io.file_labels import METADATA, Labels
from asyncpersist.io.file_offset import FileOffset
from asyncpersist.io.formats.format import BadRecord, Broken, Examined, Format
from asyncpersist.io.formats.repeated_lines import DistinctLines, distinct_lines
from asyncpersist.io.source import OWN, Batch, Needs

__all__ = ["FileParser", "ParsedChunk"]

_SHOWN = 200
"""Characters of a broken record that an error shows."""

_SMALL = 64 << 10
"""Bytes of a piece up to which it is parsed together with those of other files."""


@dataclass(frozen=True, slots=True)
class ParsedChunk:
    """`offsets` are those of the batch; `bad` is what was left out."""

    batch: Batch
    offsets: Mapping[str, FileOffset | None]
    bad: Sequence[DeadLetter]


@dataclass(frozen=True, slots=True)
class _Group:
    """Neighbouring pieces that were parsed as one, the rows with how often each occurred, the records of each piece.

    With `counts`, all pieces are of one part.
    """

    pieces: Sequence[Piece]
    data: bytes
    rows: pl.DataFrame
    records: Sequence[int]
    counts: npt.NDArray[np.int64] | None = None

    def delta(self) -> Delta:
        return Delta(self.rows, self.counts)


class FileParser:
    """Counts the records of each file as its pieces go through, in their order; used by one thread.

    The columns of a batch are those of the format, `METADATA` if asked for, and `ID` and `PART` where they are needed.
    """

    def __init__(self, format: Format, *, identity: str, needs: Needs, skips: bool, metadata: bool = False) -> None:
        self._format = format
        self._identity = identity
        self._ids = needs.ids
        self._skips = skips
        self._merges = not needs.order
        self._labels = Labels(metadata=metadata, parts=needs.parts)
        self._columns = [*format.columns, *([METADATA] if metadata else []), *([ID] if needs.ids else [])]
        self._columns += [PART] if needs.parts else []
        self._rows = 0

    def parse(self, chunk: Chunk) -> ParsedChunk:
        """One batch. Raises `MalformedInput` for a broken record unless they are skipped."""
        offsets: dict[str, FileOffset | None] = dict(chunk.settled)
        offsets.update(dict.fromkeys(chunk.retracts))
        parsed = self._parse_fast(chunk.pieces, offsets)
        delta, letters = parsed if parsed is not None else self._parse_carefully(chunk.pieces, offsets)
        offsets.update(chunk.left_out)
        plain = {partition: None if offset is None else offset.to_json() for partition, offset in offsets.items()}
        if chunk.last_part is not None:
            plain[OWN] = {"parts": chunk.last_part}
        letters = [*letters, *chunk.letters]
        batch = Batch(delta, plain, chunk.size, skipped=len(letters), retracts=chunk.retracts, open=chunk.open)
        return ParsedChunk(batch, offsets, letters)

    def _parse_fast(
        self, pieces: Sequence[Piece], offsets: dict[str, FileOffset | None]
    ) -> tuple[Delta, list[DeadLetter]] | None:
        """Everything parsed in columns, None if something is wrong somewhere."""
        try:
            groups = [self._group(group) for group in self._neighbours(pieces)]
            delta = self._together(groups)
            if self._format.is_doubtful(delta.rows):
                for group in groups:
                    self._format.confirm(group.data, group.rows)
        except Broken:
            return None
        for group in groups:
            for piece, records in zip(group.pieces, group.records, strict=True):
                offsets[piece.partition] = self._count(piece, records)[1]
        return delta, []

    def _together(self, groups: Sequence[_Group]) -> Delta:
        delta = concat([group.delta() for group in groups]) if groups else Delta(self._empty())
        if self._ids:
            delta = delta.with_rows(delta.rows.with_columns(self._ids_of(groups)))
        weighed = delta.weights is not None
        shared = self._labels.shared([piece for group in groups for piece in group.pieces])
        if shared is None:
            of_rows = ((group.pieces, group.records, group.rows.height) for group in groups)
            delta = delta.with_rows(delta.rows.with_columns(self._labels.columns(of_rows)))
        if self._merges:
            delta = consolidate(delta) if weighed else consolidate_if_smaller(delta)
        if shared:
            delta = Delta(delta.rows.with_columns(shared), delta.weights, delta.consolidated)
        rows = delta.rows
        return (
            delta
            if rows.columns == self._columns
            else Delta(rows.select(self._columns), delta.weights, delta.consolidated)
        )

    def _neighbours(self, pieces: Sequence[Piece]) -> list[list[Piece]]:
        if self._format.whole_files or self._format.by_rows:
            return [[piece] for piece in pieces]
        return [list(group) for _, group in itertools.groupby(pieces, _parsed_with)]

    def _group(self, pieces: Sequence[Piece]) -> _Group:
        data = pieces[0].data if len(pieces) == 1 else b"".join(piece.data for piece in pieces)
        if pieces[0].frame is not None:
            return _Group(pieces, data, pieces[0].frame, [pieces[0].frame.height])
        if self._format.whole_files:
            rows = self._format.parse(data, None) if pieces[0].is_tail else self._empty()
            return _Group(pieces, data, rows, [rows.height])
        if not data:
            return _Group(pieces, data, self._empty(), [0] * len(pieces))
        if pieces[0].weight < 0:
            rows = self._format.parse(data, pieces[0].layout)
            return _Group(pieces, data, rows, [rows.height], np.full(rows.height, -1, np.int64))
        if (distinct := self._distinct(pieces, data)) is not None:
            rows = self._format.parse(distinct.data, pieces[0].layout)
            if rows.height != len(distinct.counts):
                raise Broken
            lines = [count_byte(piece.data, b"\n") for piece in pieces]
            return _Group(pieces, distinct.data, rows, lines, distinct.counts)
        rows = self._format.parse(data, pieces[0].layout)
        if len(pieces) == 1:
            return _Group(pieces, data, rows, [rows.height])
        records = [count_byte(piece.data, b"\n") for piece in pieces]
        if sum(records) != rows.height:
            # Blank lines, or newlines within records: they have to be told apart.
            records = [len(self._format.records(piece.data)) for piece in pieces]
            if sum(records) != rows.height:
                raise Broken
        return _Group(pieces, data, rows, records)

    def _distinct(self, pieces: Sequence[Piece], data: bytes) -> DistinctLines | None:
        if not self._format.one_per_line or self._ids or not self._merges or self._labels.shared(pieces) is None:
            return None
        return distinct_lines(data)

    def _ids_of(self, groups: Sequence[_Group]) -> pl.Series:
        rows = self._rows
        ids = [pl.Series(ID, [], dtype=pl.UInt128)]
        for group in groups:
            for piece, records in zip(group.pieces, group.records, strict=True):
                rows = rows if piece.rows is None else piece.rows
                ids.append(row_ids(self._identity, piece.partition, rows, records))
                rows += records if piece.weight > 0 else 0
        return ids[1] if len(ids) == 2 else pl.concat(ids)

    def _count(self, piece: Piece, records: int, *, good: int | None = None) -> tuple[int, FileOffset]:
        """The ordinal of the piece's first record, and the offset after it."""
        first = self._rows if piece.rows is None else piece.rows
        self._rows = first + records if piece.weight > 0 else first
        if not piece.is_tail:
            return first, replace(piece.after, rows=self._rows)
        assert piece.after.tail_row is not None
        taken = replace(piece.after.tail_row, rows=records if good is None else good)
        return first, replace(piece.after, rows=first, tail_row=taken)

    def _parse_carefully(
        self, pieces: Sequence[Piece], offsets: dict[str, FileOffset | None]
    ) -> tuple[Delta, list[DeadLetter]]:
        frames: list[pl.DataFrame] = []
        weights: list[npt.NDArray[np.int64]] = []
        letters: list[DeadLetter] = []
        for piece in pieces:
            examined = self._examine(piece)
            if piece.weight > 0:
                if examined.bad and not self._skips:
                    raise self._malformed(piece, examined.bad[0])
                letters += [_letter(piece, record) for record in examined.bad]
            first, offsets[piece.partition] = self._count(piece, examined.records, good=examined.rows.height)
            rows = examined.rows.with_columns(self._labels.of(piece))
            if self._ids:
                ids = row_ids(self._identity, piece.partition, first, examined.records)
                good = np.ones(examined.records, bool)
                good[[record.ordinal for record in examined.bad]] = False
                rows = rows.with_columns(ids.filter(pl.Series(good)))
            frames.append(rows.select(self._columns))
            weights.append(np.full(rows.height, piece.weight, np.int64))
        weighed = any(piece.weight < 0 for piece in pieces)
        delta = Delta(pl.concat(frames), np.concatenate(weights) if weighed else None)
        if self._merges:
            delta = consolidate(delta) if weighed else consolidate_if_smaller(delta)
        return delta, letters

    def _examine(self, piece: Piece) -> Examined:
        if piece.frame is not None:
            return Examined(piece.frame, piece.frame.height, ())
        if self._format.whole_files and not piece.is_tail:
            return Examined(self._empty(), 0, ())
        return self._format.examine(piece.data, piece.layout)

    def _malformed(self, piece: Piece, record: BadRecord) -> MalformedInput:
        text = record.text.decode("utf-8", "backslashreplace")
        shown = repr(text[:_SHOWN]) + ("..." if len(text) > _SHOWN else "")
        return MalformedInput(
            f"{piece.path!r}, line {piece.line + record.line + 1}: {record.error}, in {shown}. "
            'Mend the line, or pass on_error="skip" to leave such lines out.'
        )

    def _empty(self) -> pl.DataFrame:
        return pl.DataFrame(schema={name: dtype.polars for name, dtype in self._format.columns.items()})


def _letter(piece: Piece, record: BadRecord) -> DeadLetter:
    return DeadLetter(piece.path, piece.line + record.line + 1, record.text, record.error)


def _parsed_with(piece: Piece) -> tuple[Any, int, int]:
    """Equal for pieces that are parsed as one: of a large piece equal lines are to be found, so it is by itself."""
    return piece.layout, piece.weight, piece.after.part if piece.size > _SMALL else 0
