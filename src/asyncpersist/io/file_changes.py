"""What a scan means: from the files that are there and those that were read, what is to be done. Pure.

| of a partition | then it |
|---|---|
| is there, was not read | is read: `NEW` |
| is as it was, but was not read to its end | is read on: `REST` |
| grew, the same inode, in a format that allows it | is read on if it only was appended to: `GREW` |
| is as it was, and may have changed without a trace | is read on if it has changed: `DOUBTFUL` |
| is another now in any other way | is taken back and read anew: `REWRITTEN` |
| is not there any more | is taken back: `Gone` |

What could not be looked at is taken to be as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from asyncpersist.io.file_offset import FileOffset, is_fresh
from asyncpersist.io.scan import FileStatus, FoundFile, Listing

__all__ = ["Change", "Changes", "Gone", "Reading", "changes_of", "difference"]


class Change(Enum):
    """What became of a file."""

    NEW = "new"
    REST = "rest"
    GREW = "grew"
    DOUBTFUL = "doubtful"
    REWRITTEN = "rewritten"


@dataclass(frozen=True, slots=True)
class Gone:
    """A partition that is not there any more, and the part to take back."""

    partition: str
    part: int


@dataclass(frozen=True, slots=True)
class Reading:
    """A file to read. `recorded` is where it was left, None if it is new.

    `why` says for a rewritten one what differs. `renamed_from`: what is taken back in the same change.
    """

    file: FoundFile
    change: Change
    recorded: FileOffset | None = None
    why: str = ""
    renamed_from: Gone | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """What to do, in this order."""

    gone: Sequence[Gone]
    readings: Sequence[Reading]


def changes_of(
    listing: Listing, recorded: Mapping[str, FileOffset], *, appends: bool, waits: bool, now_ns: int
) -> Changes:
    """What is to be done; the files in the order of the listing.

    `appends`: files of this format may grow. `waits`: last lines without a newline are left for later. `now_ns` is the
    time on the wall, before which all changes are to be seen.
    """
    readings: list[Reading] = []
    there: set[str] = set()
    for file in listing.files:
        there.add(file.partition)
        known = recorded.get(file.partition)
        if known is None:
            readings.append(Reading(file, Change.NEW))
        elif known.is_of(file.status):
            if not known.done or (known.waiting and not waits):
                readings.append(Reading(file, Change.REST, known))
            elif known.doubt and not is_fresh(file.status, now_ns):
                readings.append(Reading(file, Change.DOUBTFUL, known))
        else:
            readings.append(_changed(file, known, appends))
    left = [
        Gone(partition, offset.part)
        for partition, offset in recorded.items()
        if partition not in there and not any(unlisted.hides(partition) for unlisted in listing.unlisted)
    ]
    if not left:
        return Changes((), readings)
    return _with_renamed(sorted(left, key=lambda gone: gone.partition), readings, recorded)


def _changed(file: FoundFile, known: FileOffset, appends: bool) -> Reading:
    why = difference(known, file.status)
    if why is None and appends:
        return Reading(file, Change.GREW, known)
    return Reading(file, Change.REWRITTEN, known, why or "it grew, which changes what was read of it")


def difference(known: FileOffset, status: FileStatus) -> str | None:
    """Why a changed file is not the recorded one with something appended; None if it may be."""
    if status.inode != known.inode:
        return "another file is in its place (the inode differs)"
    if status.size < known.size:
        return f"it was truncated from {known.size} to {status.size} bytes"
    if status.size == known.size:
        which = "mtime" if status.mtime_ns != known.mtime_ns else "ctime"
        return f"it was modified (its {which} differs, its size does not)"
    return None


def _with_renamed(gone: list[Gone], readings: list[Reading], recorded: Mapping[str, FileOffset]) -> Changes:
    by_inode = {recorded[one.partition].inode: one for one in gone}
    paired: list[Reading] = []
    for reading in readings:
        known = by_inode.pop(reading.file.status.inode, None) if reading.change is Change.NEW else None
        paired.append(reading if known is None else Reading(reading.file, Change.NEW, renamed_from=known))
    renamed = {reading.renamed_from.partition for reading in paired if reading.renamed_from is not None}
    return Changes([one for one in gone if one.partition not in renamed], paired)
