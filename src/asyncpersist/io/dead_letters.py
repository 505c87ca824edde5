"""Where records that do not fit are kept: a file of JSON lines `{"file", "line", "text", "error"}`.

A record is appended before the batch that left it out is given out, without fsync. A run that is killed and
goes on from its last snapshot reads again what came after that, and so may append a record again: at least
once.
"""

from __future__ import annotations

import codecs
import itertools
import os
from collections.abc import Iterator, Sequence

import msgspec
from msgspec.structs import replace

__all__ = ["DeadLetter", "DeadLetters"]

_AT_ONCE = 100
"""Letters that are encoded in one call, because that holds the interpreter lock."""

_BYTES = 64 << 10
"""Bytes of text that are encoded in one call."""

_json = msgspec.json.Encoder()


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """A record that was left out. `line` counts from 1; `text` is as it was in the file, without its newline.

    There may be a million of them, which the garbage collector need not look at.
    """

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
        with open(self.path, "ab", buffering=1 << 20) as file:
            for start in range(0, len(letters), _AT_ONCE):
                some = letters[start : start + _AT_ONCE]
                if sum(len(letter.text) for letter in some) <= _BYTES:
                    file.write(_json.encode_lines([_fields(letter) for letter in some]))
                else:
                    file.writelines(itertools.chain.from_iterable(map(_parts, some)))


def _fields(letter: DeadLetter) -> dict[str, str | int]:
    return {
        "file": _readable(os.fsencode(letter.file)),
        "line": letter.line,
        "text": _readable(letter.text),
        "error": letter.error,
    }


def _parts(letter: DeadLetter) -> Iterator[bytes]:
    """The line, in parts, for a text of any length."""
    before, _, after = _json.encode(_fields(replace(letter, text=b""))).partition(b'"text":"')
    yield before + b'"text":"'
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
    for start in range(0, len(letter.text), _BYTES):
        yield _json.encode(decoder.decode(letter.text[start : start + _BYTES]))[1:-1]
    yield _json.encode(decoder.decode(b"", True))[1:-1] + after + b"\n"


def _readable(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
