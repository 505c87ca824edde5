"""Where records that do not fit are kept: a file of JSON lines `{"file", "line", "text", "error"}`.

A record is appended before the batch that left it out is given out, without fsync. A run that is killed and
goes on from its last snapshot reads again what came after that, and so may append a record again: at least
once.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

__all__ = ["DeadLetter", "DeadLetters"]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that was left out. `line` counts from 1; `text` is as it was in the file, without its newline."""

    file: str
    line: int
    text: bytes
    error: str


class DeadLetters:
    """The file, opened anew for every append and made if it is missing. Blocks; raises `OSError`."""

    def __init__(self, path: str) -> None:
        self.path = path

    def append(self, letters: Sequence[DeadLetter]) -> None:
        """Appends one line for each; bytes that are not UTF-8 are written as `\\xNN`."""
        lines = [
            {
                "file": _readable(os.fsencode(letter.file)),
                "line": letter.line,
                "text": _readable(letter.text),
                "error": letter.error,
            }
            for letter in letters
        ]
        with open(self.path, "ab") as file:
            file.write(msgspec.json.Encoder().encode_lines(lines))


def _readable(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
