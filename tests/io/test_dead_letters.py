"""The file of records that were left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asyncpersist.io.dead_letters import DeadLetter, DeadLetters


@pytest.mark.parametrize("length", [0, 10, 65_535, 65_536, 200_000])
def test_each_letter_is_a_line(tmp_path: Path, length: int) -> None:
    dead = DeadLetters(str(tmp_path / "dead"))
    text = ('"é\\\n€' * length)[:length].encode()[: length or 1]
    letters = [DeadLetter('a "text":"b', i, text + b"\xff\xe2\x82" + b"%d" % i, f'why "{i}"') for i in range(3)]
    dead.append(letters[:1])
    dead.append(letters[1:])
    dead.append([])
    found = [json.loads(line) for line in (tmp_path / "dead").read_text().splitlines()]
    assert found == [
        {
            "file": 'a "text":"b',
            "line": letter.line,
            "text": letter.text.decode("utf-8", "backslashreplace"),
            "error": letter.error,
        }
        for letter in letters
    ]
    assert all(list(letter) == ["file", "line", "text", "error"] for letter in found)


def test_many_letters(tmp_path: Path) -> None:
    DeadLetters(str(tmp_path / "dead")).append([DeadLetter("a", i, b"x" * (i % 1500), "why") for i in range(1234)])
    found = [json.loads(line) for line in (tmp_path / "dead").read_text().splitlines()]
    assert [(letter["line"], len(letter["text"])) for letter in found] == [(i, i % 1500) for i in range(1234)]
