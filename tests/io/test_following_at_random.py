"""Files are written, grown, rewritten, renamed and deleted at random between scans and runs; what was given sums up to
what is there.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from asyncpersist.columnar.hashing import row_ids
from asyncpersist.io.formats.format import Format
from asyncpersist.io.source import Needs
from tests.io.following import Followed, Following, static_run
from tests.io.reading import TEXT, csv_format, json_format

OPERATIONS = [
    *["write", "append", "append", "append", "end", "half", "rewrite", "same-size"],
    *["truncate", "delete", "rename", "replace", "touch", "delete-all"],
]
NAMES = ["a", "b", "c", "sub/a", "sub/b", "sub/deep/c"]


@dataclass
class Tree:
    """A directory of files of numbered lines; `tails` are the paths whose unterminated last line a static run took."""

    root: Path
    random: random.Random
    header: bytes
    line: Any
    next: int = 1
    times: int = 10**18
    tails: set[Path] = field(default_factory=set)

    def files(self) -> list[Path]:
        return sorted(path for path in self.root.rglob("*") if path.is_file())

    def lines(self, count: int) -> bytes:
        data = b""
        for _ in range(count):
            self.next += self.random.randrange(2)  # lines may be equal
            data += self.line(self.next) + b"\n"
        return data

    def touched(self, path: Path) -> None:
        """Every change has a time of its own, however coarse the system's clock is."""
        self.times += 1
        os.utime(path, ns=(self.times, self.times))

    def fresh(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)
        self.touched(path)
        self.tails.discard(path)

    def change(self) -> None:
        files = self.files()
        operation = self.random.choice(OPERATIONS)
        new = self.root / self.random.choice(NAMES)
        new.parent.mkdir(parents=True, exist_ok=True)
        if operation == "write" or not files:
            half = self.random.choice([b"", b"", self.line(self.next)])
            return self.fresh(new, self.header + self.lines(self.random.randrange(6)) + half)
        path = self.random.choice(files)
        data = path.read_bytes()
        if operation in ("append", "half", "end"):
            more = {"append": self.lines(self.random.randrange(1, 4)), "half": self.line(self.next), "end": b"\n"}
            if data and not data.endswith(b"\n"):
                if b"{" in data:
                    more["half"] = b"  "
                more["append"] = b"\n" + more["append"]
            elif operation == "end":
                return None
            with path.open("ab") as file:
                file.write(more[operation])
            self.touched(path)
            if operation == "half":
                self.tails.discard(path)
        elif operation == "rewrite":
            self.fresh(path, self.header + self.lines(self.random.randrange(6)))
        elif operation == "same-size":
            self.fresh(path, data[: len(self.header)] + data[len(self.header) :].replace(b"1", b"2"))
        elif operation == "truncate":
            kept = data[: data.rfind(b"\n", 0, -1) + 1]
            self.fresh(path, kept if kept else data)
        elif operation == "delete":
            path.unlink()
            self.tails.discard(path)
        elif operation in ("rename", "replace"):
            # A file given another name is another file; what lay there is gone.
            if operation == "replace":
                shutil.copy2(path, self.root / ".hidden")
                os.replace(self.root / ".hidden", path)
                self.touched(path)
                self.tails.discard(path)
            elif new != path:
                os.replace(path, new)
                self.touched(new)
                self.tails -= {path, new}
        elif operation == "touch":
            self.touched(path)
            self.tails.discard(path)
        else:
            shutil.rmtree(self.root)
            self.root.mkdir()
            self.tails.clear()
        return None

    def expected(self, *, static: bool, ids: bool) -> Counter[tuple[Any, ...]]:
        counted: Counter[tuple[Any, ...]] = Counter()
        for path in self.files():
            data = path.read_bytes()
            lines = data[len(self.header) :].split(b"\n")
            last = lines.pop()
            if last and (static or path in self.tails):
                lines.append(last)
            if static and last:
                self.tails.add(path)
            name = str(path.relative_to(self.root))
            keys = row_ids("source", name, 0, len(lines)).to_list()
            for line, key in zip(lines, keys, strict=True):
                number = int(line.strip(b'{}"n: '))
                counted[(number, key) if ids else (number,)] += 1
        return counted


def plain(number: int) -> bytes:
    return b"%d" % number


def as_json(number: int) -> bytes:
    return b'{"n":%d}' % number


FORMATS: dict[str, tuple[Format, bytes, Any]] = {
    "text": (TEXT, b"", plain),
    "csv": (csv_format(n=int), b"n\n", plain),
    "json": (json_format(n=int), b"", as_json),
}


@pytest.mark.parametrize("kind", list(FORMATS))
@pytest.mark.parametrize(("ids", "order"), [(False, False), (True, False), (False, True)])
async def test_what_was_given_sums_up_to_what_is_there(tmp_path: Path, kind: str, ids: bool, order: bool) -> None:
    format, header, line = FORMATS[kind]
    needs = Needs(ids=ids, parts=True, order=order)
    for seed in range(6):
        chance = random.Random(f"{kind} {ids} {order} {seed}")
        root = tmp_path / str(seed)
        root.mkdir()
        tree = Tree(root, chance, header, line)
        followed = Followed()

        def check(static: bool, tree: Tree = tree, followed: Followed = followed) -> None:
            given = Counter({(int(row[0]), *row[1:]): count for row, count in followed.rows.items()})
            assert given == tree.expected(static=static, ids=ids)

        for _ in range(6):
            size = chance.choice([1, 7, 30, 1 << 20])
            if chance.randrange(2):
                for _ in range(chance.randrange(4)):
                    tree.change()
                await static_run(str(root), format, followed, needs=needs, chunk_bytes=size)
                check(static=True)
            else:
                async with Following(str(root), format, followed, needs=needs, chunk_bytes=size) as following:
                    check(static=False)
                    for _ in range(5):
                        for _ in range(chance.randrange(4)):
                            tree.change()
                        await following.scan()
                        check(static=False)
