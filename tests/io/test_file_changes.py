"""What a scan means, by literal lists."""

from __future__ import annotations

from dataclasses import replace

import pytest

from asyncpersist.io.file_changes import Change, Changes, Gone, Reading, changes_of
from asyncpersist.io.file_offset import FileOffset
from asyncpersist.io.scan import FileStatus, FoundFile, Listing, Unlisted

NOW = 10**18
THEN = NOW - 10**9
STATUS = FileStatus(inode=7, size=100, mtime_ns=THEN, ctime_ns=THEN)
READ = FileOffset(*STATUS, offset=100, done=True, part=3)


def found(name: str, status: FileStatus = STATUS) -> FoundFile:
    return FoundFile(name, f"/in/{name}", status)


def decided(
    *files: FoundFile,
    recorded: dict[str, FileOffset],
    appends: bool = True,
    waits: bool = True,
    unlisted: tuple[Unlisted, ...] = (),
) -> Changes:
    return changes_of(Listing(files, unlisted), recorded, appends=appends, waits=waits, now_ns=NOW)


@pytest.mark.parametrize(
    ("status", "known", "change"),
    [
        (STATUS, None, Change.NEW),
        (STATUS, READ, None),
        (STATUS, replace(READ, done=False), Change.REST),
        (STATUS, replace(READ, waiting=True), None),
        (STATUS, replace(READ, doubt="x"), Change.DOUBTFUL),
        (STATUS._replace(size=101), READ, Change.GREW),
        (STATUS._replace(size=101, mtime_ns=NOW), replace(READ, done=False), Change.GREW),
        (STATUS._replace(size=101, inode=8), READ, Change.REWRITTEN),
        (STATUS._replace(size=99), READ, Change.REWRITTEN),
        (STATUS._replace(mtime_ns=THEN + 1), READ, Change.REWRITTEN),
        (STATUS._replace(ctime_ns=THEN - 1), READ, Change.REWRITTEN),
    ],
)
def test_what_became_of_a_file(status: FileStatus, known: FileOffset | None, change: Change | None) -> None:
    changes = decided(found("a", status), recorded={} if known is None else {"a": known})
    assert [reading.change for reading in changes.readings] == ([] if change is None else [change])
    assert all(reading.recorded == known for reading in changes.readings)
    assert not changes.gone


def test_what_may_not_grow_is_rewritten() -> None:
    changes = decided(found("a", STATUS._replace(size=101)), recorded={"a": READ}, appends=False)
    assert [reading.change for reading in changes.readings] == [Change.REWRITTEN]


def test_a_last_line_that_waited_is_read_where_none_waits() -> None:
    known = replace(READ, waiting=True)
    assert decided(found("a"), recorded={"a": known}, waits=False).readings == [Reading(found("a"), Change.REST, known)]


@pytest.mark.parametrize("at", ["mtime_ns", "ctime_ns"])
def test_a_doubt_waits_until_the_clock_has_ticked(at: str) -> None:
    status = STATUS._replace(**{at: NOW - 1})
    known = FileOffset(*status, done=True, doubt="x")
    assert not decided(found("a", status), recorded={"a": known}).readings


def test_what_is_gone_comes_in_order_and_what_moved_goes_with_its_new_name() -> None:
    recorded = {"b": replace(READ, inode=1, part=1), "a": replace(READ, inode=2, part=2), "c": READ}
    new = found("d")
    changes = decided(found("0", STATUS._replace(inode=9)), new, recorded=recorded)
    assert changes.gone == [Gone("a", 2), Gone("b", 1)]
    assert changes.readings[1] == Reading(new, Change.NEW, renamed_from=Gone("c", 3))
    assert changes.readings[0].renamed_from is None


@pytest.mark.parametrize(
    ("hidden", "gone"), [("", []), ("sub/", ["a"]), ("sub/x", ["a", "sub/y"]), ("su", ["a", "sub/x", "sub/y"])]
)
def test_what_could_not_be_looked_at_is_not_gone(hidden: str, gone: list[str]) -> None:
    recorded = dict.fromkeys(["a", "sub/x", "sub/y"], READ)
    changes = decided(recorded=recorded, unlisted=(Unlisted(hidden, "/in", "reason"),))
    assert [one.partition for one in changes.gone] == gone
