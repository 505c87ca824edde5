"""What is due for a log: a decision over its objects, what is known of it, and how it is to be kept.

Two things keep it small. Neighbours are merged in tiers, so that objects are few. And where half of all rows were taken
back or take something back, or many are superseded, the whole log is compacted to the rows that still count. The work
of that is in proportion to the rows that came since it was done last.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from asyncpersist.checkpoint.manifest import LogFacts, ObjectRef
from asyncpersist.checkpoint.tiers import LOG, Policy, plan_merges
from asyncpersist.columnar.log_merging import Counting
from asyncpersist.runtime.log_rule import LogRule

__all__ = ["Bounds", "compaction", "counting", "crowded", "merge", "sections"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bytes, as encoded.

    `policy`: of the merges. `inline`: of a merge that may be a part of writing a snapshot; a larger one becomes a part
    of it where there are more than `crowded` times as many objects as the policy wants. `least`: of a log that is
    compacted because of what was taken back; `large`: because of what is superseded, which merges find in others.
    `memory`: of what is compacted in memory; more goes over the disk. `base`: of an object that this makes.
    """

    policy: Policy = LOG
    inline: int = 1 << 20
    crowded: int = 3
    least: int = 256 << 10
    large: int = 64 << 20
    memory: int = 8 << 20
    base: int = 24 << 20


def sections(refs: Sequence[ObjectRef], apart: int, busy: Collection[ObjectRef] = ()) -> list[slice]:
    """The runs of neighbours that may become one object: on one side of the epoch `apart`, and not `busy`."""
    runs: list[slice] = []
    start = 0
    for i in range(len(refs) + 1):
        ends = i == len(refs) or refs[i] in busy
        if ends or (i > start and (refs[i].last_epoch <= apart) != (refs[i - 1].last_epoch <= apart)):
            if i > start:
                runs.append(slice(start, i))
            start = i + 1 if ends else i
    return runs


def merge(
    refs: Sequence[ObjectRef], rule: LogRule | None, policy: Policy, busy: Collection[ObjectRef] = ()
) -> slice | None:
    """Which neighbours to merge into one now; None if all is well. May be asked again after a merge."""
    for section in reversed(sections(refs, rule.apart if rule else 0, busy)):
        run = plan_merges([ref.length for ref in refs[section]], policy=policy)
        if run is not None:
            return slice(section.start + run.start, section.start + run.stop)
    return None


def crowded(refs: Sequence[ObjectRef], bounds: Bounds) -> bool:
    """Whether merges are so far behind that a snapshot has to wait for one."""
    return sum(not bounds.policy.sealed(ref.length) for ref in refs) > bounds.crowded * bounds.policy.most


def compaction(
    refs: Sequence[ObjectRef], facts: LogFacts, rule: LogRule | None, bounds: Bounds
) -> Literal["pays", "may pay"] | None:
    """Whether the whole log is to be compacted now, or to be looked at whether that pays."""
    size = sum(ref.length for ref in refs)
    if rule is None or rule.kept == "whole" or size < bounds.least:
        return None
    rows = sum(ref.rows for ref in refs)
    # A row and what took it back both vanish. What the last time could do nothing about has to have grown.
    if 4 * facts.retracted >= rows >= 1.25 * facts.settled and facts.retracted:
        return "pays"
    supersedes = rule.kept == "latest" or rule.repeats
    if supersedes and size >= bounds.large and rows >= 2 * facts.settled and len(refs) > 1:
        return "may pay"
    return None


def counting(rule: LogRule | None, *, retracted: int = 1) -> Counting | None:
    """Which rows of a log count; None where all do, or none of those merged can take another one back."""
    if rule is None or rule.kept == "whole":
        return None
    if rule.kept == "net" and not (rule.repeats or retracted):
        return None
    return Counting(rule.columns, rule.kept, rule.key)
