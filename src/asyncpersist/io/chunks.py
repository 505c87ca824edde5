"""What is read of input files at once: pieces, which are whole records of one file, and what else changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from asyncpersist.io.dead_letters import DeadLetter
from asyncpersist.io.file_offset import FileOffset

__all__ = ["Chunk", "Piece"]


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole records of one file: `data`, each with its newline; or `frame`, in a format that is read by rows.

    `line` counts the newlines before them in the file. `after` is the offset after them, but for its `rows`
    (those before the piece if `rows` is set, else the ones of the piece before of this file): only the parser
    can count. `is_tail`: it is the last record, which had no newline in the file. `weight` is -1 for a last record that
    was taken before and is another now. `size` is in bytes.
    """

    partition: str
    path: str
    data: bytes
    layout: Any
    line: int
    after: FileOffset
    rows: int | None
    is_tail: bool = False
    weight: int = 1
    frame: pl.DataFrame | None = None
    frame_bytes: int = 0

    @property
    def size(self) -> int:
        return len(self.data) + self.frame_bytes


@dataclass(slots=True)
class Chunk:
    """Neighbouring pieces, and the parts that are taken back before them.

    `settled` holds offsets without rows, older than those of the pieces; `left_out` those of whole files that were left
    out, with their letters. `last_part` is the last number given to a part, if it moved. `open`: the next chunk goes on
    with the same change.
    """

    pieces: list[Piece] = field(default_factory=list)
    retracts: dict[str, int] = field(default_factory=dict)
    settled: Mapping[str, FileOffset] = field(default_factory=dict)
    left_out: dict[str, FileOffset] = field(default_factory=dict)
    letters: list[DeadLetter] = field(default_factory=list)
    last_part: int | None = None
    open: bool = False

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(piece.size for piece in self.pieces)

    def is_empty(self) -> bool:
        """Whether there is nothing that a run would have to know soon."""
        return not (self.pieces or self.retracts or self.left_out)

    def take_back(self, partition: str, part: int) -> None:
        """Retracts a part; nothing of it is among the pieces. One that was begun after it in this chunk never was."""
        self.retracts.setdefault(partition, part)

    def drop(self, partition: str) -> None:
        """Forgets the pieces of a partition."""
        self.pieces = [piece for piece in self.pieces if piece.partition != partition]
