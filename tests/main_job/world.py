"""A world that moves: directories of files that are added, appended to, rewritten, cut, renamed and deleted at random,
and what they amount to.
"""

from __future__ import annotations

import csv
import io
import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Rows = Counter[tuple[str, ...]]
"""A table as CSV has it: its rows, and how often each is there."""

KINDS = ("json", "csv", "text")
OUTPUTS = ("counts", "doubled", "lines")
_WORDS = [f"w{n}" for n in range(25)] + ["ä, ö", 'say "hi"', "", " white "]
_HEADER = b"word,n\n"
_MOST_FILES = 25


@dataclass(frozen=True, slots=True)
class World:
    """One directory for each of `KINDS` below `folder`, changed by `rng`.

    `halves`: lines may be left half written. Without it what a file ends in is a whole line, perhaps unterminated.
    """

    folder: Path
    rng: random.Random
    rests: dict[Path, bytes]
    halves: bool

    @staticmethod
    def make(folder: Path, rng: random.Random, *, halves: bool) -> World:
        world = World(folder, rng, {}, halves)
        for kind in KINDS:
            (folder / kind / "deep" / "er").mkdir(parents=True)
            world._add(kind)
        return world

    def change(self) -> None:
        """One change of one file, or of a directory with all in it."""
        kind = self.rng.choice(KINDS)
        files = self._files(kind)
        if not files:
            return self._add(kind)
        if len(files) > _MOST_FILES:
            return self._delete(self.rng.choice(files))
        many, some = 6, 3
        operations: list[tuple[Callable[[Path], None], int]] = [
            (lambda _: self._add(kind), some),
            (self._append, many),
            (self._rewrite_in_place, some),
            (self._rewrite_by_rename, some),
            (self._edit_in_place, some),
            (self._truncate, some),
            (self._rename, some),
            (self._delete, some),
            (self._touch, 1),
            (lambda _: self._delete_directory(kind), 1),
            (lambda _: self._add_many(kind), 1),
        ]
        weights = [weight for _, weight in operations]
        operation = self.rng.choices([operation for operation, _ in operations], weights)[0]
        return operation(self.rng.choice(files))

    def mark(self) -> None:
        """A new line of each kind that was never there, by which it can be seen that all before it was read."""
        for kind in KINDS:
            path = self.folder / kind / f"mark{self.rng.randrange(10**9)}"
            word = f"mark {path.name}"
            line = {"json": json.dumps({"word": word, "n": 1}), "csv": f"{_HEADER.decode()}{word},1", "text": word}[
                kind
            ]
            path.write_text(line + "\n")

    # what there is

    def truth(self) -> dict[str, Rows]:
        """What each of `OUTPUTS` has to amount to, recomputed from the files that are there."""
        records = [record for path in self._files("json") for record in self._json(path)]
        records += [record for path in self._files("csv") for record in self._csv(path)]
        groups: dict[str, list[int]] = {}
        for word, n in records:
            groups.setdefault(word, []).append(n)
        counts: Rows = Counter((word, str(len(ns)), str(sum(ns)), str(max(ns))) for word, ns in groups.items())
        doubled: Rows = Counter((word, str(2 * n)) for word, n in records)
        lines = Counter(line for path in self._files("text") for line in self._lines(path))
        return {
            "counts": counts,
            "doubled": doubled,
            "lines": Counter((line.decode(), str(count)) for line, count in lines.items()),
        }

    def _files(self, kind: str) -> list[Path]:
        return sorted(path for path in (self.folder / kind).rglob("*") if path.is_file() and path.name[0] != ".")

    def _lines(self, path: Path) -> list[bytes]:
        *lines, rest = path.read_bytes().split(b"\n")
        return [*lines, rest] if rest and not self.halves else lines

    def _json(self, path: Path) -> list[tuple[str, int]]:
        return [(row["word"], row["n"]) for row in map(json.loads, self._lines(path))]

    def _csv(self, path: Path) -> list[tuple[str, int]]:
        text = b"".join(line + b"\n" for line in self._lines(path)).decode()
        return [(row["word"], int(row["n"])) for row in csv.DictReader(io.StringIO(text, newline=""))]

    # what happens to it

    def _some(self, kind: str, most: int = 40) -> bytes:
        return b"".join(self._line(kind) for _ in range(self.rng.choice([0, 1, 3, most])))

    def _line(self, kind: str) -> bytes:
        word, n = self.rng.choice(_WORDS), self.rng.randrange(10, 100)
        if kind == "json":
            return json.dumps({"word": word, "n": n}, ensure_ascii=False).encode() + b"\n"
        if kind == "text":
            return f"{word or '-'} {n % 5}\n".encode()
        made = io.StringIO()
        csv.writer(made, lineterminator="\n").writerow([word, n])
        return made.getvalue().encode()

    def _content(self, kind: str) -> bytes:
        return _HEADER * (kind == "csv") + self._some(kind)

    def _kind(self, path: Path) -> str:
        return path.relative_to(self.folder).parts[0]

    def _new(self, kind: str) -> Path:
        directory = self.folder / kind / self.rng.choice(["", "deep", "deep/er"])
        directory.mkdir(parents=True, exist_ok=True)
        return directory / f"f{self.rng.randrange(60):02}"

    def _put(self, path: Path, content: bytes, flags: str) -> None:
        """Writes in up to three pieces, the last line of which may stay half written until the next append."""
        kind, rest = self._kind(path), b""
        if self.rng.random() < 0.4:
            line = self._line(kind)
            cut = self.rng.randrange(1, len(line)) if self.halves else len(line) - 1
            content, rest = content + line[:cut], line[cut:]
        with path.open(flags, buffering=0) as file:
            for piece in self._pieces(content):
                file.write(piece)
        self.rests.pop(path, None)
        if rest:
            self.rests[path] = rest

    def _pieces(self, content: bytes) -> list[bytes]:
        cuts = sorted(self.rng.randrange(len(content) + 1) for _ in range(self.rng.choice([0, 1, 2])))
        return [content[start:end] for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True)]

    def _add(self, kind: str) -> None:
        path = self._new(kind)
        self._put(path, self._content(kind), "wb")

    def _add_many(self, kind: str) -> None:
        for _ in range(12):
            path = self._new(kind)
            path.write_bytes(_HEADER * (kind == "csv") + self._line(kind))
            self.rests.pop(path, None)

    def _append(self, path: Path) -> None:
        kind = self._kind(path)
        begun = self.rests.get(path, b"")
        if kind == "csv" and not begun and path.stat().st_size == 0:
            begun = _HEADER
        self._put(path, begun + self._some(kind), "ab")

    def _rewrite_in_place(self, path: Path) -> None:
        self._put(path, self._content(self._kind(path)), "wb")

    def _rewrite_by_rename(self, path: Path) -> None:
        beside = path.with_name(".new")
        beside.write_bytes(self._content(self._kind(path)))
        os.replace(beside, path)
        self.rests.pop(path, None)

    def _edit_in_place(self, path: Path) -> None:
        """Other digits: same size, same inode, perhaps the same second; whatever a reader sees of it is whole lines."""
        old = path.read_bytes()
        new = bytearray(old)
        digits = [at for at, byte in enumerate(old) if byte in b"123456789"]
        for at in self.rng.sample(digits, min(3, len(digits))):
            new[at] = self.rng.choice(b"123456789")
        with path.open("r+b", buffering=0) as file:
            file.write(new)

    def _truncate(self, path: Path) -> None:
        content = path.read_bytes()
        ends = [at + 1 for at, byte in enumerate(content) if byte == 10]
        end = self.rng.choice([0, *ends])
        os.truncate(path, end)
        self.rests.pop(path, None)

    def _rename(self, path: Path) -> None:
        target = self._new(self._kind(path))
        if target == path:
            return
        os.replace(path, target)
        rest = self.rests.pop(path, None)
        self.rests.pop(target, None)
        if rest is not None:
            self.rests[target] = rest

    def _delete(self, path: Path) -> None:
        path.unlink()
        self.rests.pop(path, None)

    def _touch(self, path: Path) -> None:
        path.touch()

    def _delete_directory(self, kind: str) -> None:
        directory = self.folder / kind / "deep"
        for path in [path for path in self.rests if path.is_relative_to(directory)]:
            del self.rests[path]
        shutil.rmtree(directory, ignore_errors=True)


def summed(path: Path, *, torn: bool = False) -> Rows:
    """The table a change stream in a CSV file amounts to, every step of it checked.

    Epochs only grow, retractions come first in an epoch, and no row is retracted that was not there. `torn`: the file
    is being written, so its last line may be unfinished.
    """
    text = path.read_bytes().decode(errors="replace") if path.exists() else ""
    assert torn or text == "" or text.endswith("\n"), f"{path} ends in a torn line"
    reader = csv.reader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
    live: Rows = Counter()
    if (header := next(reader, None)) is None:
        return live
    assert header[-2:] == ["time", "diff"]
    last, inserted = 0, False
    for *row, time, diff in reader:
        epoch, weight, values = int(time), int(diff), tuple(row)
        assert epoch >= last, f"{path}: epoch {epoch} after {last}"
        if epoch > last:
            last, inserted = epoch, False
        assert weight in (1, -1)
        assert weight == 1 or not inserted, f"{path}: {values} retracted after an insertion in epoch {epoch}"
        inserted = inserted or weight == 1
        live[values] += weight
        assert live[values] >= 0, f"{path}: {values} retracted in epoch {epoch}, but it was not there"
    return +live


def differences(found: Rows, wanted: Rows) -> str:
    """How two tables differ, in a few words."""
    missing, beyond = wanted - found, found - wanted
    return f"missing {dict(missing.most_common(5))}, beyond {dict(beyond.most_common(5))}"
