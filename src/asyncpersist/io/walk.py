"""What is left of the files of a source, a chunk at a time: scan after scan, and what was taken back between them.

Everything here blocks and is called by one thread.
"""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import replace

from asyncpersist.errors import InputChanged, InputError, MalformedInput
from asyncpersist.io.chunks import Chunk
from asyncpersist.io.dead_letters import DeadLetter
from asyncpersist.io.file_changes import Change, Gone, Reading, changes_of
from asyncpersist.io.file_offset import FileOffset, changed
from asyncpersist.io.open_file import OpenFile
from asyncpersist.io.opening import Opening
from asyncpersist.io.scan import FileStatus, FoundFile, Listing

__all__ = ["Walk"]

logger = logging.getLogger("asyncpersist")

_ATTEMPTS = 5
"""How often a file is read again in one scan because it changed meanwhile."""

_SETTLING_NS = 5_000_000_000
"""For so long after its last change a file that cannot be read may be one that is still being written."""


class Walk:
    """`stays`: there will be another scan, so that what cannot be read now is left for it; else it is an error.

    `recorded` is where the files were left before; `skips`: whole files that cannot be read are left out.
    """

    def __init__(
        self, opening: Opening, recorded: Mapping[str, FileOffset], last_part: int, *, stays: bool, skips: bool
    ) -> None:
        self._opening = opening
        self._recorded = dict(recorded)
        self._last_part = last_part
        self._told_part = last_part
        self._stays = stays
        self._skips = skips
        self._gone: Sequence[Gone] = ()
        self._readings: deque[Reading] = deque()
        self._file: OpenFile | None = None
        self._chunk = Chunk()
        self._within = False
        self._settled: dict[str, FileOffset] = {}
        self._attempts: Counter[str] = Counter()
        self._warned: set[str] = set()

    def begin(self, listing: Listing) -> None:
        """Takes up what a scan found; the one before is at its end, and everything it gave was `took`.

        Raises `InputChanged` for changes that cannot be followed.
        """
        for unlisted in listing.unlisted:
            self._warn(unlisted.path, unlisted.reason)
        opening = self._opening
        changes = changes_of(
            listing, self._recorded, appends=opening.appends, waits=opening.waits, now_ns=opening.now_ns()
        )
        self._gone, self._readings = changes.gone, deque(changes.readings)
        self._attempts.clear()
        if not opening.parts:
            self._refuse()

    def took(self, offsets: Mapping[str, FileOffset | None]) -> None:
        """Says where partitions are after a chunk."""
        for partition, offset in offsets.items():
            if offset is None:
                self._recorded.pop(partition, None)
            else:
                self._recorded[partition] = offset

    def next(self) -> Chunk | None:
        """The next chunk, of about the size set; None at the end of what the scan found.

        Raises `InputError`.
        """
        chunk = self._chunk = Chunk()
        for gone in self._gone:
            chunk.take_back(gone.partition, gone.part)
        self._gone = ()
        size = self._opening.size
        left = size
        while left > 0 and (self._file is not None or self._open_next()):
            assert self._file is not None
            try:
                found = self._file.read(left)
            except (InputError, OSError) as exc:
                self._fail(self._file, exc)
                left = size - chunk.size
                continue
            chunk.pieces += found
            left -= sum(piece.size for piece in found)
            if self._file.ended:
                self._leave()
        chunk.open = self._file is not None and self._file.atomic
        if chunk.is_empty() and not self._within:
            return None
        self._within = chunk.open
        if self._file is not None:
            self._file.given = True
        chunk.settled, self._settled = self._settled, {}
        if self._last_part != self._told_part:
            chunk.last_part = self._told_part = self._last_part
        return chunk

    def close(self) -> None:
        """Idempotent."""
        self._readings.clear()
        self._leave()

    def _leave(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    # opening

    def _open_next(self) -> bool:
        while self._readings:
            reading = self._readings.popleft()
            try:
                self._file = self._open(reading)
            except (FileNotFoundError, NotADirectoryError):
                self._vanished(reading)
            except MalformedInput as exc:
                if not self._is_settling(reading.file.path, reading.file.status, exc):
                    if not (self._skips and self._opening.format.by_rows):
                        raise
                    self._begin_part(reading)
                    self._leave_out(reading.file, reading.file.status, self._last_part, exc)
            except InputChanged as exc:
                if self._is_to_be_read_again(reading.file.path, exc):
                    self._readings.appendleft(reading)
            except OSError as exc:
                self._unreadable(reading.file.path, exc)
                self._take_renamed(reading)
            if self._file is not None:
                self._warned.discard(reading.file.path)
                return True
        return False

    def _open(self, reading: Reading) -> OpenFile | None:
        file, recorded, change = reading.file, reading.recorded, reading.change
        if change in (Change.REST, Change.GREW, Change.DOUBTFUL):
            assert recorded is not None
            found = self._opening.further(file, recorded)
            if isinstance(found, OpenFile):
                return found
            if isinstance(found, FileOffset):
                self._recorded[file.partition] = self._settled[file.partition] = found
                return None
            if not self._opening.parts:
                raise changed(file.path, found)
            reading = replace(reading, change=Change.REWRITTEN)
        opened = self._opening.anew(file, self._last_part + 1 if self._opening.parts else 0)
        # Only now: as long as it cannot be read, its rows stay.
        self._begin_part(reading)
        opened.atomic = reading.change is Change.REWRITTEN or reading.renamed_from is not None
        return opened

    def _begin_part(self, reading: Reading) -> None:
        """Takes back what the new part replaces."""
        if self._opening.parts:
            self._last_part += 1
        if reading.recorded is not None:
            self._chunk.take_back(reading.file.partition, reading.recorded.part)
        self._take_renamed(reading)

    def _take_renamed(self, reading: Reading) -> None:
        if reading.renamed_from is not None:
            self._chunk.take_back(reading.renamed_from.partition, reading.renamed_from.part)

    def _vanished(self, reading: Reading) -> None:
        """Gone since it was found."""
        if reading.recorded is not None:
            if not self._opening.parts:
                raise changed(reading.file.path, "it was deleted")
            self._chunk.take_back(reading.file.partition, reading.recorded.part)
        self._take_renamed(reading)

    # what goes wrong

    def _fail(self, file: OpenFile, exc: InputError | OSError) -> None:
        """The file that is being read cannot be read further; raises what is to be raised."""
        path = file.found.path
        self._leave()
        if isinstance(exc, MalformedInput):
            if self._is_another(path, file.status):
                exc = changed(path, "it was modified while it was read")
            elif self._is_settling(path, file.status, exc):
                return
            elif self._skips and self._opening.format.by_rows and (self._opening.parts or not file.given):
                self._chunk.drop(file.found.partition)
                if file.given:
                    self._chunk.take_back(file.found.partition, file.part)
                self._leave_out(file.found, file.status, file.part, exc)
                return
        if isinstance(exc, InputChanged):
            if self._is_to_be_read_again(path, exc):
                self._chunk.drop(file.found.partition)
                part = FileOffset(*file.status, part=file.part)
                self._readings.appendleft(Reading(file.found, Change.REWRITTEN, part if file.given else None))
            return
        if isinstance(exc, InputError):
            raise exc
        self._unreadable(path, exc)

    def _is_to_be_read_again(self, path: str, exc: InputChanged) -> bool:
        """Whether a file that was changed while it was read is read again at once; else a later scan finds it changed.

        Raises `InputChanged` if it cannot be.
        """
        if not self._opening.parts:
            raise exc
        self._attempts[path] += 1
        if self._stays:
            return False
        if self._attempts[path] >= _ATTEMPTS:
            raise InputChanged(
                f"the input file {path!r} was changed again and again while it was read. Run again when it is at rest."
            ) from exc
        return True

    def _leave_out(self, found: FoundFile, status: FileStatus, part: int, exc: MalformedInput) -> None:
        self._chunk.left_out[found.partition] = FileOffset(*status, part=part, done=True)
        self._chunk.letters.append(DeadLetter(found.path, 1, b"", str(exc)))

    def _is_another(self, path: str, status: FileStatus) -> bool:
        try:
            return FileStatus.of(os.stat(path)) != status
        except OSError:
            return True

    def _is_settling(self, path: str, status: FileStatus, exc: MalformedInput) -> bool:
        """Whether a broken file may be one that is still being written, so that it is left for a later scan."""
        if not self._stays or self._opening.now_ns() - max(status.mtime_ns, status.ctime_ns) > _SETTLING_NS:
            return False
        logger.info("%s: left for a while, it may still be being written: %s", path, exc)
        return True

    def _unreadable(self, path: str, exc: OSError) -> None:
        if not self._stays:
            raise InputError(f"cannot read the input file {path!r}: {exc.strerror or exc}") from exc
        self._warn(path, exc.strerror or str(exc))

    def _warn(self, path: str, reason: str) -> None:
        if path not in self._warned:
            self._warned.add(path)
            logger.warning("the input %s cannot be read for now (%s); what was read of it stays", path, reason)

    def _refuse(self) -> None:
        for gone in self._gone:
            more = f", and {len(self._gone) - 1} more" if len(self._gone) > 1 else ""
            raise changed(gone.partition, f"it was deleted or is left out now{more}")
        for reading in self._readings:
            if reading.renamed_from is not None:
                raise changed(reading.renamed_from.partition, "it was deleted or is left out now")
            if reading.change is Change.REWRITTEN:
                raise changed(reading.file.path, reading.why)
