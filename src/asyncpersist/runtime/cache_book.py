"""What a run adds to the caches in its root, on the way from being captured to being named. No I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from asyncpersist.checkpoint.answers import Answers, added, is_named, with_facts
from asyncpersist.checkpoint.caches import cached, function_stream
from asyncpersist.checkpoint.manifest import CacheFacts, Manifest, ObjectRef
from asyncpersist.runtime.caches import Caches
from asyncpersist.runtime.segments import StateSegment

__all__ = ["CacheBook"]


class CacheBook:
    """What was `captured` is written from the front, one capture after the other, and then named by the next commit.

    `before`: what the root knows of caches as the run begins.
    """

    def __init__(self, caches: Caches | None, before: Mapping[str, CacheFacts]) -> None:
        self._caches = caches
        self._before = dict(before)
        self._written: list[Answers] = []
        self.captured: deque[list[StateSegment]] = deque()

    def capture(self, give: Callable[[], Sequence[StateSegment]] | None = None) -> None:
        """Captures what `give` gives, by default what is new in any cache; in a thread, never in two at once."""
        if give is None and self._caches is not None:
            give = self._caches.capture
        if give is not None and (segments := list(give())):
            self.captured.append(segments)

    def adopt(self, answers: Sequence[Answers]) -> None:
        """Takes what earlier runs wrote and no manifest names; before this run captures anything."""
        self._written += answers
        self._before = with_facts(self._before, answers)

    def wrote(self, answers: Answers) -> None:
        """Says that answers of this run are written."""
        self._written.append(answers)

    def unnamed(self, head: Manifest) -> list[Answers]:
        """What is written and what the head, or a manifest before it, does not name."""
        self._written = [answers for answers in self._written if not is_named(answers, head)]
        return list(self._written)

    def facts(self, streams: Iterable[str] | None = None) -> dict[str, CacheFacts]:
        """What is known of caches now: of all, or of those of `streams`."""
        known = dict(self._before)
        for stream in () if self._caches is None else self._caches.dropped():
            known.pop(stream, None)
        for stream, now in () if self._caches is None else self._caches.facts().items():
            before = known.get(stream, now)
            hits, calls = (0, 0) if before is now else (before.hits, before.calls)
            used = max(before.used, now.used)
            known[stream] = msgspec.structs.replace(now, hits=hits + now.hits, calls=calls + now.calls, used=used)
        if streams is None:
            return known
        return {stream: known[stream] for stream in map(function_stream, streams) if stream in known}

    def streams(self, head: Manifest) -> tuple[dict[str, list[ObjectRef]], dict[str, tuple[str, ...]], int]:
        """What the next manifest names of caches; the keys of what is new; up to which serial that has its answers."""
        answers = self.unnamed(head)
        streams, keys = added(cached(head.streams), answers)
        dropped = () if self._caches is None else self._caches.dropped()
        for stream in [stream for stream in streams if function_stream(stream) in dropped]:
            del streams[stream]
            keys.pop(stream, None)
        own = head.answers.get(head.generation)
        last = max((some.name.serial for some in answers if some.name.number == head.generation), default=0)
        return streams, keys, max(last, 0 if own is None else own.named)
