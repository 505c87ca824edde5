"""Random rows in random files, and what happens to them between runs: files are added, lines appended."""

from __future__ import annotations

import gzip
import json
import math
import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import asyncpersist as ap
from asyncpersist.columnar.delta import ID
from asyncpersist.columnar.hashing import row_ids

Row = dict[str, Any]
FileKind = Literal["jsonlines", "csv", "plaintext"]

IDENTITY = "source.lines"
"""What a plan calls a source with `name="lines"`."""


class Line(ap.Schema):
    s: str
    os: str | None
    i: int
    oi: int | None
    big: int
    f: float
    of: float | None
    b: bool
    ob: bool | None
    d: datetime
    od: datetime | None
    u: ap.DateTimeUtc
    t: timedelta
    ot: timedelta | None
    items: list[int]
    pair: tuple[int, str]


_TEXTS = ["a", "b", "ä", "日本", "x y", 'say "hi"', "a,b", "two\nlines", "", "null", "NaN", "1", "\U0001f600"]
_LONG = "z" * 3000
_FLOATS = [0.0, -0.0, 0.1, 0.2, 1e16, -1e16, 1.5, -7.25, 1e-300, 3.0]
_SPECIAL = [math.nan, math.inf, -math.inf]
_BIG = [2**63 - 1, -(2**63), 0, 2**53 + 1, 2**53, -1]
_DAYS = [datetime(2024, 2, 29, 23, 59, 59, 999999), datetime(1969, 12, 31), datetime(2026, 1, 1, 12)]
_SPANS = [timedelta(0), timedelta(microseconds=1), timedelta(days=-3, seconds=7), timedelta(days=900)]


def random_row(rng: random.Random, kind: FileKind) -> Row:
    """Values that lie close together, so that groups meet, with the odd ones among them."""
    if kind == "plaintext":
        return {"data": rng.choice(["", " ", "\r", "a\rb", *(text.replace("\n", "") for text in _TEXTS)]).rstrip("\r")}
    floats = _FLOATS + (_SPECIAL if kind == "csv" else [])
    values: Row = {
        "s": rng.choice(_TEXTS) if rng.random() < 0.99 else _LONG,
        "os": rng.choice([None, *_TEXTS[:5]]),
        "i": rng.randint(-4, 4),
        "oi": rng.choice([None, 0, 1, 2, -(10**12)]),
        "big": rng.choice(_BIG),
        "f": rng.choice(floats),
        "of": rng.choice([None, *floats]),
        "b": rng.random() < 0.5,
        "ob": rng.choice([None, True, False]),
        "d": rng.choice(_DAYS),
        "od": rng.choice([None, *_DAYS]),
        "u": rng.choice(_DAYS).replace(tzinfo=UTC),
        "t": rng.choice(_SPANS),
        "ot": rng.choice([None, *_SPANS]),
        "items": [rng.randint(0, 2) for _ in range(rng.randint(0, 3))],
    }
    values["pair"] = (rng.randint(0, 1), rng.choice(["p", "q,", '"']))
    return values


class Inputs:
    """A folder of files, and every row in them with the id it must have. `broken`: some lines are none."""

    def __init__(self, folder: Path, kind: FileKind, rng: random.Random, *, broken: bool) -> None:
        self.folder = folder
        self.kind: FileKind = kind
        self._rng = rng
        self._broken = broken and kind != "plaintext"
        self._rows: dict[str, list[Row | None]] = {}
        self._open_ended: dict[str, bool] = {}
        self._headers: dict[str, list[str]] = {}
        folder.mkdir()
        for _ in range(rng.randint(1, 4)):
            self.add_file()

    @property
    def rows(self) -> list[Row]:
        """All rows, each with its `ID`."""
        found = []
        for name, rows in self._rows.items():
            ids = row_ids(IDENTITY, name.replace("%", "%25"), 0, len(rows)).to_list()
            found += [{**row, ID: id_} for row, id_ in zip(rows, ids, strict=True) if row is not None]
        return found

    def change(self) -> None:
        """Files are added, lines appended; or nothing happens."""
        for _ in range(self._rng.randint(0, 2)):
            self.add_file()
        for name in [name for name in self._rows if not name.endswith(".gz") and self._rng.random() < 0.4]:
            self.append(name)

    def add_file(self) -> None:
        rng = self._rng
        suffix = rng.choice(["", "", "", ".gz"])
        folder = rng.choice(["", "", "sub/", "sub/déeper/"])
        name = f"{folder}{rng.choice('amz')}{len(self._rows)}%.{self.kind}{suffix}"
        self._rows[name] = []
        self._open_ended[name] = False
        header = list(Line.column_names())
        rng.shuffle(header)
        self._headers[name] = header
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = b"\xef\xbb\xbf" if rng.random() < 0.1 else b""
        if self.kind == "csv":
            data += (",".join(header) + "\n").encode()
        data += self._lines(name, rng.choice([0, 1, 3, 15, 40]))
        path.write_bytes(gzip.compress(data) if suffix else data)

    def append(self, name: str) -> None:
        data = b"\n" if self._open_ended[name] else b""
        self._open_ended[name] = False
        data += self._lines(name, self._rng.choice([0, 1, 5, 20]))
        with (self.folder / name).open("ab") as file:
            file.write(data)

    def _lines(self, name: str, count: int) -> bytes:
        parts = []
        for _ in range(count):
            if self._broken and self._rng.random() < 0.1:
                self._rows[name].append(None)
                parts.append(self._rng.choice(["{]", "1,2", '{"s": 1}']))
                continue
            row = random_row(self._rng, self.kind)
            self._rows[name].append(row)
            parts.append(self._record(name, row))
            if self._rng.random() < 0.05 and self.kind != "plaintext":
                parts.append("")
        if not parts:
            return b""
        text = "\n".join(parts) + "\n"
        if parts[-1] and self._rng.random() < 0.3:
            self._open_ended[name] = True
            text = text[:-1]
        return text.encode()

    def _record(self, name: str, row: Row) -> str:
        if self.kind == "csv":
            return ",".join(self._field(row[column]) for column in self._headers[name])
        if self.kind == "plaintext":
            return str(row["data"])
        fields: Mapping[str, Any] = {column: _plain_json(row[column]) for column in self._headers[name]}
        if self._rng.random() < 0.3:
            fields = {column: value for column, value in fields.items() if value is not None}
        return json.dumps(fields, ensure_ascii=self._rng.random() < 0.3)

    def _field(self, value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, bool):
            return self._rng.choice(["true", "True", "1"] if value else ["false", "FALSE", "0"])
        plain = _plain_json(value)
        text = plain if isinstance(plain, str) else repr(plain)
        if isinstance(plain, list):
            text = json.dumps(plain)
        must = isinstance(value, str) and (not text or any(c in text for c in ',"\n'))
        if must or isinstance(value, (list, tuple)) or (isinstance(value, str) and self._rng.random() < 0.2):
            return '"' + text.replace('"', '""') + '"'
        return text


def _plain_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value // timedelta(microseconds=1) * 1000
    return list(value) if isinstance(value, tuple) else value
