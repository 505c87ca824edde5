"""Pieces of files into batches: the parsing, the counting of records, and what becomes of broken ones."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from asyncpersist.columnar.consolidate import consolidate, consolidate_if_smaller
from asyncpersist.columnar.delta import Delta, concat
from asyncpersist.columnar.hashing import row_ids
from asyncpersist.errors import MalformedInput
from asyncpersist.io.byte_counts import count_byte
from asyncpersist.io.chunks import Piece
from asyncpersist.io.dead_letters import DeadLetter
from asyncpersist.io.file_offset import FileOffset
from asyncpersist.io.formats.format import BadRecord, Broken, Examined, Format
from asyncpersist.io.formats.repeated_lines import distinct_lines
from asyncpersist.io.source import Batch

__all__ = ["FileParser", "ParsedChunk"]

_SHOWN = 200
"""Characters of a broken record that an error shows."""


@dataclass(frozen=True, slots=True)
class ParsedChunk:
    batch: Batch
    bad: Sequence[DeadLetter]


@dataclass(frozen=True, slots=True)
class _Group:
    """Neighbouring pieces that were parsed as one, the rows with how often each occurred, the records of each piece."""

    pieces: Sequence[Piece]
    data: bytes
    rows: pl.DataFrame
    records: Sequence[int]
    counts: npt.NDArray[np.int64] | None = None

    def delta(self) -> Delta:
        return Delta(self.rows, self.counts)


class FileParser:
    """Counts the records of each file as its pieces go through, in their order; used by one thread."""

    def __init__(self, format: Format, *, identity: str, ids: bool, skips: bool) -> None:
        self._format = format
        self._identity = identity
        self._ids = ids
        self._skips = skips
        self._rows = 0

    def parse(self, pieces: Sequence[Piece]) -> ParsedChunk:
        """One batch. Raises `MalformedInput` for a broken record unless they are skipped."""
        size = sum(len(piece.data) for piece in pieces)
        fast = self._parse_fast(pieces)
        if fast is not None:
            groups, delta = fast
            counted = ((p, n) for group in groups for p, n in zip(group.pieces, group.records, strict=True))
            offsets = {piece.partition: self._count(piece, n)[1].to_json() for piece, n in counted}
            return ParsedChunk(Batch(delta, offsets, size), ())
        return self._parse_carefully(pieces, size)

    def _parse_fast(self, pieces: Sequence[Piece]) -> tuple[list[_Group], Delta] | None:
        """Everything parsed in columns, None if something is wrong somewhere."""
        try:
            groups = [self._group(group) for group in self._neighbours(pieces)]
        except Broken:
            return None
        delta = concat([group.delta() for group in groups])
        if self._ids:
            delta = delta.with_rows(delta.rows.with_columns(self._ids_of(groups)))
        counted = any(group.counts is not None for group in groups)
        delta = consolidate(delta) if counted else consolidate_if_smaller(delta)
        if self._format.is_doubtful(delta.rows):
            try:
                for group in groups:
                    self._format.confirm(group.data, group.rows)
            except Broken:
                return None
        return groups, delta

    def _neighbours(self, pieces: Sequence[Piece]) -> list[list[Piece]]:
        if self._format.whole_files:
            return [[piece] for piece in pieces]
        return [list(group) for _, group in itertools.groupby(pieces, lambda piece: piece.layout)]

    def _group(self, pieces: Sequence[Piece]) -> _Group:
        data = pieces[0].data if len(pieces) == 1 else b"".join(piece.data for piece in pieces)
        if self._format.whole_files:
            rows = self._format.parse(data, None) if pieces[0].is_tail else self._empty()
            return _Group(pieces, data, rows, [rows.height])
        if not data:
            return _Group(pieces, data, self._empty(), [0] * len(pieces))
        if self._format.one_per_line and not self._ids and (distinct := distinct_lines(data)) is not None:
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

    def _ids_of(self, groups: Sequence[_Group]) -> pl.Series:
        rows = self._rows
        ids = []
        for group in groups:
            for piece, records in zip(group.pieces, group.records, strict=True):
                rows = rows if piece.rows is None else piece.rows
                ids.append(row_ids(self._identity, piece.partition, rows, records))
                rows += records
        return ids[0] if len(ids) == 1 else pl.concat(ids)

    def _count(self, piece: Piece, records: int, *, good: int | None = None) -> tuple[int, FileOffset]:
        """The ordinal of the piece's first record, and the offset after it."""
        first = self._rows if piece.rows is None else piece.rows
        self._rows = first + records
        if not piece.is_tail:
            return first, replace(piece.after, rows=self._rows)
        assert piece.after.tail_row is not None
        taken = replace(piece.after.tail_row, rows=records if good is None else good)
        return first, replace(piece.after, rows=first, tail_row=taken)

    def _parse_carefully(self, pieces: Sequence[Piece], size: int) -> ParsedChunk:
        frames: list[pl.DataFrame] = []
        offsets: dict[str, object] = {}
        letters: list[DeadLetter] = []
        for piece in pieces:
            examined = self._examine(piece)
            if examined.bad and not self._skips:
                raise self._malformed(piece, examined.bad[0])
            letters += [_letter(piece, record) for record in examined.bad]
            first, after = self._count(piece, examined.records, good=examined.rows.height)
            offsets[piece.partition] = after.to_json()
            rows = examined.rows
            if self._ids:
                ids = row_ids(self._identity, piece.partition, first, examined.records)
                good = np.ones(examined.records, bool)
                good[[record.ordinal for record in examined.bad]] = False
                rows = rows.with_columns(ids.filter(pl.Series(good)))
            frames.append(rows)
        delta = consolidate_if_smaller(Delta(pl.concat(frames)))
        batch = Batch(delta, offsets, size, len(letters))
        return ParsedChunk(batch, letters)

    def _examine(self, piece: Piece) -> Examined:
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
