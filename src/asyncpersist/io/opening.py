"""How the files of a source are opened: from their beginning, or where they were left. Blocks; one thread."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from asyncpersist.clock import Clock
from asyncpersist.io.compression import InputFile
from asyncpersist.io.file_changes import difference
from asyncpersist.io.file_offset import SMALL, FileOffset, continue_grown, is_fresh
from asyncpersist.io.formats.format import Format
from asyncpersist.io.open_file import LEAST, ByteFile, OpenFile, Start
from asyncpersist.io.open_rows import SlicedFile
from asyncpersist.io.scan import FileStatus, FoundFile

__all__ = ["Opening"]


@dataclass(frozen=True, slots=True)
class Opening:
    """`size`: of a chunk, in bytes. `parts`: what was given can be taken back; `tail_rows`: a single row of it, too.

    `waits`: a last line without a newline is left for later.
    """

    format: Format
    size: int
    parts: bool
    tail_rows: bool
    waits: bool
    clock: Clock

    @property
    def appends(self) -> bool:
        """Whether a file may grow."""
        return not (self.format.whole_files or self.format.by_rows)

    def now_ns(self) -> int:
        """The time on the wall."""
        return int(self.clock.wall() * 1e9)

    def anew(self, found: FoundFile, part: int) -> OpenFile:
        """The file from its beginning. Raises `MalformedInput`, `OSError`."""
        if self.format.by_rows:
            status = FileStatus.of(os.stat(found.path))
            doubt = ""
            if self._may_be_doubtful(status):
                with InputFile(found.path) as file:
                    doubt = file.digest_on_disk(status.size)
            return SlicedFile(found, Start(FileOffset(*status, part=part, doubt=doubt)), self.format)
        file = InputFile(found.path)
        try:
            status = FileStatus.of(file.status())
            doubt = file.digest_on_disk(status.size) if self._may_be_doubtful(status) else ""
            return self._by_bytes(found, file, Start(FileOffset(*status, part=part, doubt=doubt)))
        except BaseException:
            file.close()
            raise

    def further(self, found: FoundFile, recorded: FileOffset) -> OpenFile | FileOffset | str:
        """The file where it was left; its offset, if it is as it was and nothing is left; why not, if it has changed.

        Raises `MalformedInput`, `OSError`.
        """
        file = InputFile(found.path)
        try:
            status = FileStatus.of(file.status())
            start: Start | FileOffset | str
            if recorded.is_of(status):
                start = self._rest(recorded, file, status)
            else:
                start = self._grown(recorded, file, status)
            if isinstance(start, Start) and not self.format.by_rows:
                return self._by_bytes(found, file, start)
        except BaseException:
            file.close()
            raise
        file.close()
        return SlicedFile(found, start, self.format) if isinstance(start, Start) else start

    def _rest(self, recorded: FileOffset, file: InputFile, status: FileStatus) -> Start | FileOffset | str:
        if recorded.doubt:
            if file.digest_on_disk(status.size) != recorded.doubt:
                return "it was modified (without another mtime or ctime)"
            if not is_fresh(status, self.now_ns()):
                recorded = replace(recorded, doubt="")
        if recorded.done and (self.waits or not recorded.waiting):
            return recorded
        return Start(replace(recorded, done=False, waiting=False), resumed=True)

    def _grown(self, recorded: FileOffset, file: InputFile, status: FileStatus) -> Start | str:
        why = difference(recorded, status)
        if why is None and not self.appends:
            why = "it grew, which changes what was read of it"
        if why is not None:
            return why
        found = continue_grown(recorded, file, status)
        if isinstance(found, str):
            return found
        if found.taken_back is not None and not self.tail_rows:
            return "it grew, and its last line, which had been read without a newline at its end, is another now"
        offset = found.offset
        if self._may_be_doubtful(status):
            offset = replace(offset, doubt=file.digest_on_disk(status.size))
        return Start(offset, True, found.taken_back)

    def _by_bytes(self, found: FoundFile, file: InputFile, start: Start) -> ByteFile:
        return ByteFile(
            found, file, start, self.format, least=min(self.size, LEAST), waits=self.waits, doubts=self.parts
        )

    def _may_be_doubtful(self, status: FileStatus) -> bool:
        return self.parts and status.size <= SMALL and is_fresh(status, self.now_ns())
