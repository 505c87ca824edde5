"""What a path names."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from asyncpersist.errors import InputError, InputNotFound
from asyncpersist.io.scan import Listing, covers, not_found, scan


def partitions(path: Path | str) -> list[str]:
    return [file.partition for file in scan(str(path)).files]


def fill(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x\n")


def test_a_file_is_itself_whatever_its_name(tmp_path: Path) -> None:
    for name in ("a.txt", ".hidden", "a[1]*.tmp"):
        fill(tmp_path, name)
        assert partitions(tmp_path / name) == [name]


def test_a_directory_is_read_recursively_and_sorted_by_bytes(tmp_path: Path) -> None:
    fill(tmp_path, "b/z", "b.txt", "a/2/q", "a/10", "B", "é", "c/d/e/f")
    (tmp_path / "empty").mkdir()
    names = ["b/z", "b.txt", "a/2/q", "a/10", "B", "é", "c/d/e/f"]
    assert partitions(tmp_path) == sorted(names, key=str.encode)
    assert partitions(f"{tmp_path}/") == partitions(tmp_path)


def test_hidden_and_temporary_names_are_left_out_below_a_directory(tmp_path: Path) -> None:
    out = [".a", ".git/b", "c~", "d.tmp", "e.SWP", "#f#", "g.part", "h.crdownload", "i.temp", "j.partial", "k.tmp/in"]
    fill(tmp_path, "kept", "#", "part", *out)
    os.mkfifo(tmp_path / "pipe")
    assert partitions(tmp_path) == ["#", "kept", "part"]


def test_a_glob_matches_files_and_directories(tmp_path: Path) -> None:
    fill(tmp_path, "in/a.csv", "in/b.csv", "in/c.txt", "in/d.csv/e.txt", "in/.h.csv", "in/t.csv~", "in/t.csv.tmp")
    assert partitions(tmp_path / "in/*.csv") == ["a.csv", "b.csv", "d.csv/e.txt"]
    assert partitions(tmp_path / "*/*.tmp") == ["in/t.csv.tmp"]
    assert partitions(tmp_path / "in/**") == ["a.csv", "b.csv", "c.txt", "d.csv/e.txt"]
    assert partitions(tmp_path / "**/e.txt") == ["in/d.csv/e.txt"]


def test_a_relative_glob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "in/a", "b")
    monkeypatch.chdir(tmp_path)
    assert partitions("*") == ["b", "in/a"]
    assert [file.path for file in scan("i*/a").files] == [str(tmp_path / "in/a")]


def test_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "empty").mkdir()
    for name in ("nowhere", "*.csv", "dangling", "nowhere/*", "dangling/*.csv", "empty/*", "empty/**/*.csv"):
        assert scan(str(tmp_path / name)) == Listing([], (), exists=False), name
        with pytest.raises(InputNotFound, match=re.escape(name)):
            raise not_found(str(tmp_path / name))


def test_an_empty_directory_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    assert partitions(tmp_path) == []


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="neither a regular file nor a directory"):
        scan(str(tmp_path / "pipe"))


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    fill(tmp_path, "in/a/x", "elsewhere/y")
    (tmp_path / "in/a/up").symlink_to("..")
    (tmp_path / "in/self").symlink_to("self")
    (tmp_path / "in/other").symlink_to("../elsewhere")
    (tmp_path / "in/file").symlink_to("a/x")
    assert partitions(tmp_path / "in") == ["a/x", "file", "other/y"]


def test_names_that_are_no_unicode_have_partitions_that_are(tmp_path: Path) -> None:
    for name in (b"caf\xe9", b"caf%E9", "café".encode()):
        (Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))).write_text("x\n")
    found = scan(str(tmp_path)).files
    assert sorted(file.partition for file in found) == ["caf%25E9", "caf%E9", "café"]
    assert all(os.path.exists(file.path) for file in found)


@pytest.mark.parametrize(
    ("path", "file"),
    [
        ("in", "in/o.csv"),
        ("in/", "in/deep/er/o.csv"),
        ("in", "in/.o.csv"),
        ("in", "in/o.tmp"),
        ("in", "in.csv"),
        ("in/f.csv", "in/f.csv"),
        ("in/f.csv", "in/o.csv"),
        ("in/*.csv", "in/o.csv"),
        ("in/*.csv", "in/o.jsonl"),
        ("in/*.csv", "in/deep/o.csv"),
        ("in/**/*.csv", "in/deep/er/o.csv"),
        ("in/**/*.csv", "in/o.csv"),
        ("in/**", "in/deep/o"),
        ("i?", "in/deep/o"),
        ("in/[ab].csv", "in/b.csv"),
        ("in/[ab].csv", "in/c.csv"),
        ("./*", "o"),
    ],
)
def test_a_file_is_covered_if_it_is_found_once_it_is_there(tmp_path: Path, path: str, file: str) -> None:
    fill(tmp_path, "in/f.csv", "in/a.csv", "in/g.jsonl", "other")
    root = tmp_path.resolve()
    said = covers(f"{root}/{path}", f"{root}/{file}")
    fill(root, file)
    assert said == (f"{root}/{file}" in [os.path.normpath(found.path) for found in scan(f"{root}/{path}").files])
