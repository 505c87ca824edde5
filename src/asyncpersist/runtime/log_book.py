"""What is known of the logs of a root while a run goes on, and what takes the place of their objects. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from asyncpersist.checkpoint.manifest import LogFacts, ObjectRef
from asyncpersist.columnar.log_merging import Counting
from asyncpersist.runtime import log_plans
from asyncpersist.runtime.log_plans import Bounds
from asyncpersist.runtime.log_rule import LogRule

__all__ = ["Job", "LogBook", "Replacement"]


@dataclass(frozen=True, slots=True)
class Job:
    """Objects of a log to be made fewer: each of `spans` apart from the others.

    `counting`: which of their rows count. `compacts`: it is the whole log, of so many `rows`; `sure`: in any case, else
    where it saves a quarter of the rows. `whole`: the first span begins where the log begins.
    """

    stream: str
    spans: tuple[tuple[ObjectRef, ...], ...]
    counting: Counting | None
    compacts: bool = False
    sure: bool = True
    whole: bool = False

    @property
    def rows(self) -> int:
        return sum(ref.rows for span in self.spans for ref in span)


@dataclass(frozen=True, slots=True)
class Replacement:
    """Objects that take the place of neighbours in a log; `retracted` counts how many fewer rows of negative weight."""

    stream: str
    old: tuple[ObjectRef, ...]
    new: tuple[ObjectRef, ...]
    retracted: int = 0


class LogBook:
    """`rules` by stream, `facts` by source: how logs are kept, and what is known of them."""

    def __init__(self, rules: Mapping[str, LogRule], facts: Mapping[str, LogFacts], bounds: Bounds) -> None:
        self.bounds = bounds
        self.facts = dict(facts)
        """By source, of what the next manifest names."""
        self._rules = dict(rules)
        self._retracted: dict[ObjectRef, int] = {}
        self._waiting: list[Replacement] = []
        self._busy: frozenset[ObjectRef] = frozenset()
        self._left: set[str] = set()

    def wrote(self, ref: ObjectRef, retracted: int) -> None:
        """Says how many rows of an object that will be named have a negative weight."""
        if retracted:
            self._retracted[ref] = retracted

    def extend(self, stream: str, new: Sequence[ObjectRef], *, complete: bool) -> list[ObjectRef]:
        """Says that the next manifest names new objects at the end of a log, or of nothing else if `complete`.

        Returns what was to take the place of objects that it names no more.
        """
        if complete:
            self._set(stream, msgspec.structs.replace(self._of(stream), retracted=0, settled=0))
        for ref in new:
            self._count(stream, self._retracted.pop(ref, 0))
        if not complete:
            return []
        lost = [waiting for waiting in self._waiting if waiting.stream == stream]
        self._waiting = [waiting for waiting in self._waiting if waiting.stream != stream]
        return [ref for waiting in lost for ref in waiting.new]

    @property
    def waiting(self) -> list[str]:
        """The logs of which objects wait to be replaced."""
        return list({waiting.stream: None for waiting in self._waiting})

    def replace(self, replacement: Replacement, refs: Sequence[ObjectRef]) -> bool:
        """Takes what is to be spliced in at the next snapshot; not if `refs`, which are named, have moved on."""
        if _found(self._planned(replacement.stream, refs), replacement.old) is None:
            return False
        self._waiting.append(replacement)
        return True

    def splice(self, stream: str, refs: Sequence[ObjectRef]) -> tuple[list[ObjectRef], list[ObjectRef]]:
        """The objects of a log after what waited has taken its place, and those that are named no more."""
        spliced = list(refs)
        gone: list[ObjectRef] = []
        for waiting in self._waiting:
            if waiting.stream == stream:
                spliced = self.spliced(waiting, spliced)
                gone += waiting.old
        self._waiting = [waiting for waiting in self._waiting if waiting.stream != stream]
        return spliced, gone

    def spliced(self, replacement: Replacement, refs: Sequence[ObjectRef]) -> list[ObjectRef]:
        """The objects of a log, which are there, after a replacement that the next manifest names."""
        at = _found(refs, replacement.old)
        assert at is not None
        self._count(replacement.stream, -replacement.retracted)
        return [*refs[:at], *replacement.new, *refs[at + len(replacement.old) :]]

    def inline(self, stream: str, refs: Sequence[ObjectRef]) -> Job | None:
        """What of a log has to be merged while the snapshot is written."""
        rule = self._rules.get(stream)
        run = log_plans.merge(refs, rule, self.bounds.policy, self._busy)
        if run is None:
            return None
        small = sum(ref.length for ref in refs[run]) <= self.bounds.inline
        return self._merge(stream, refs, run) if small or log_plans.crowded(refs, self.bounds) else None

    def begin(self, streams: Mapping[str, Sequence[ObjectRef]]) -> Job | None:
        """What is due, if anything: one thing at a time. What it replaces is left alone until `end`."""
        for stream, rule in self._rules.items():
            if stream in self._left or stream not in streams:
                continue
            refs = self._planned(stream, streams[stream])
            facts = self._of(stream)
            waiting = sum(waiting.retracted for waiting in self._waiting if waiting.stream == stream)
            facts = msgspec.structs.replace(facts, retracted=max(0, facts.retracted - waiting))
            job: Job | None = None
            if (due := log_plans.compaction(refs, facts, rule, self.bounds)) is not None:
                spans = tuple(tuple(refs[section]) for section in log_plans.sections(refs, rule.apart))
                counting = log_plans.counting(rule)
                job = Job(stream, spans, counting, compacts=True, sure=due == "pays", whole=True)
            elif (run := log_plans.merge(refs, rule, self.bounds.policy)) is not None:
                job = self._merge(stream, refs, run)
            if job is not None:
                self._busy = frozenset(ref for span in job.spans for ref in span)
                return job
        return None

    def end(self, job: Job, *, settled: int | None = None, left: bool = False) -> None:
        """Says that nobody is at work on a job. `settled`: the rows of a log that was compacted, or that it did not pay
        for. `left`: that log is not touched again in this run."""
        self._busy = frozenset()
        if settled is not None:
            self._set(job.stream, msgspec.structs.replace(self._of(job.stream), settled=settled))
        if left:
            self._left.add(job.stream)

    def holds(self, job: Job, refs: Sequence[ObjectRef]) -> bool:
        """Whether the objects of a job are still those of the log, whose objects are named as `refs`."""
        planned = self._planned(job.stream, refs)
        return all(_found(planned, span) is not None for span in job.spans)

    def _merge(self, stream: str, refs: Sequence[ObjectRef], run: slice) -> Job:
        counting = log_plans.counting(self._rules.get(stream), retracted=self._of(stream).retracted)
        return Job(stream, (tuple(refs[run]),), counting, whole=run.start == 0)

    def _planned(self, stream: str, refs: Sequence[ObjectRef]) -> list[ObjectRef]:
        planned = list(refs)
        for waiting in self._waiting:
            if waiting.stream == stream and (at := _found(planned, waiting.old)) is not None:
                planned[at : at + len(waiting.old)] = waiting.new
        return planned

    def _of(self, stream: str) -> LogFacts:
        return self.facts.get(stream.removeprefix("log/"), LogFacts())

    def _set(self, stream: str, facts: LogFacts) -> None:
        if facts != self._of(stream):
            self.facts[stream.removeprefix("log/")] = facts

    def _count(self, stream: str, retracted: int) -> None:
        facts = self._of(stream)
        self._set(stream, msgspec.structs.replace(facts, retracted=max(0, facts.retracted + retracted)))


def _found(refs: Sequence[ObjectRef], span: Sequence[ObjectRef]) -> int | None:
    """Where neighbours lie; None if they are not there."""
    starts: Iterator[int] = (i for i, ref in enumerate(refs) if ref == span[0])
    at = next(starts, None)
    return at if at is not None and tuple(refs[at : at + len(span)]) == tuple(span) else None
