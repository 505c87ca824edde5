"""What is due for a log, with literal objects."""

from __future__ import annotations

import pytest

from asyncpersist.checkpoint.manifest import LogFacts, ObjectRef
from asyncpersist.checkpoint.tiers import Policy
from asyncpersist.columnar.delta import ID, ORDER, PART
from asyncpersist.runtime.log_book import LogBook, Replacement
from asyncpersist.runtime.log_plans import Bounds, compaction, counting, merge, sections
from asyncpersist.runtime.log_rule import LogRule

BOUNDS = Bounds(policy=Policy(fan_in=3, most=4, waste=None, floor=10, together=100), inline=20, least=40, large=80)
RULE = LogRule(("w", PART))


def ref(n: int, length: int = 10, rows: int = 10) -> ObjectRef:
    return ObjectRef(key=f"o{n}", length=length, checksum="", rows=rows, first_epoch=n, last_epoch=n)


REFS = [ref(n) for n in range(1, 9)]


def test_what_is_apart_or_in_work_is_not_merged_with_others() -> None:
    assert sections(REFS, 0) == [slice(0, 8)]
    assert sections(REFS, 3) == [slice(0, 3), slice(3, 8)]
    assert sections(REFS, 8) == [slice(0, 8)]
    assert sections(REFS, 3, {REFS[1], REFS[5]}) == [slice(0, 1), slice(2, 3), slice(3, 5), slice(6, 8)]
    assert sections([], 3) == []
    assert merge(REFS, RULE, BOUNDS.policy) == slice(0, 8)
    assert merge(REFS, LogRule(("w",), apart=5), BOUNDS.policy) == slice(5, 8)
    assert merge(REFS[:7], LogRule(("w",), apart=5), BOUNDS.policy) == slice(0, 5)
    assert merge(REFS, None, BOUNDS.policy, {REFS[2], REFS[5]}) is None


@pytest.mark.parametrize(
    ("rule", "retracted", "settled", "refs", "due"),
    [
        (RULE, 0, 80, REFS, None),
        (RULE, 19, 41, REFS, None),
        (RULE, 20, 0, REFS, "pays"),
        (RULE, 20, 64, REFS, "pays"),
        (RULE, 20, 65, REFS, None),  # it did not help the last time
        (RULE, 10, 0, REFS[:3], None),  # too small to matter
        (RULE, 10, 0, REFS[:4], "pays"),
        (LogRule(("w", ID)), 0, 0, REFS, None),  # no row is like another
        (LogRule(("w", ID)), 20, 0, REFS, "pays"),
        (LogRule(("w", ORDER)), 0, 0, REFS, None),
        (LogRule(("w",)), 0, 0, REFS, "may pay"),
        (LogRule(("w",)), 0, 40, REFS, "may pay"),
        (LogRule(("w",)), 0, 41, REFS, None),
        (LogRule(("w",)), 0, 0, REFS[:7], None),
        (LogRule(("w",)), 0, 0, [ref(1, 100)], None),
        (LogRule(("w", ORDER), "latest", ("w",)), 0, 0, REFS, "may pay"),
        (LogRule(("w",), "whole"), 40, 0, REFS, None),
        (None, 40, 0, REFS, None),
    ],
)
def test_a_log_is_compacted_in_proportion_to_what_came(rule, retracted, settled, refs, due) -> None:
    assert compaction(refs, LogFacts(retracted=retracted, settled=settled), rule, BOUNDS) == due


def test_rows_are_looked_at_where_one_may_take_back_another() -> None:
    assert counting(None) is None
    assert counting(LogRule(("w",), "whole")) is None
    assert counting(LogRule(("w", ID)), retracted=0) is None
    assert counting(LogRule(("w", ID)), retracted=1) is not None
    assert counting(LogRule(("w",)), retracted=0) is not None
    assert counting(LogRule(("w", ORDER), "latest", ("w",)), retracted=0) is not None


def book(facts: LogFacts | None = None) -> LogBook:
    return LogBook({"log/s": RULE}, {"s": facts or LogFacts()}, BOUNDS)


def test_small_merges_are_a_part_of_a_snapshot_and_larger_ones_where_there_are_very_many() -> None:
    small = [ref(n, 5) for n in range(1, 5)]
    job = book().inline("log/s", small)
    assert job is not None
    assert job.spans == (tuple(small),)
    assert job.whole
    assert book().inline("log/s", REFS[:4]) is None
    assert book().inline("log/s", [ref(n) for n in range(1, 14)]) is not None


def test_what_waits_counts_as_if_it_were_named() -> None:
    logs = book(LogFacts(retracted=20))
    job = logs.begin({"log/s": REFS})
    assert job is not None
    assert job.compacts
    assert job.spans == (tuple(REFS),)
    assert logs.inline("log/s", [ref(n, 1) for n in range(20, 22)] + REFS) is None
    new = (ref(100, 30, 40),)
    assert logs.replace(Replacement("log/s", tuple(REFS), new, 20), REFS)
    logs.end(job, settled=40)
    # What came meanwhile is behind it; nothing is due any more, although the old objects are still named.
    later = [*REFS, ref(9)]
    assert logs.begin({"log/s": later}) is None
    assert logs.facts["s"].retracted == 20
    assert logs.splice("log/s", later) == ([*new, ref(9)], REFS)
    assert logs.facts["s"] == LogFacts(retracted=0, settled=40)
    assert logs.splice("log/s", later) == (later, [])


def test_only_neighbours_that_are_there_are_replaced() -> None:
    logs = book()
    assert not logs.replace(Replacement("log/s", (REFS[0], REFS[2]), (ref(100),)), REFS)
    assert not logs.replace(Replacement("log/s", (REFS[7], ref(9)), (ref(100),)), REFS)
    assert logs.replace(Replacement("log/s", (REFS[6], REFS[7]), (ref(100),)), REFS)


def test_what_waits_is_lost_where_the_log_begins_anew() -> None:
    logs = book(LogFacts(retracted=20, settled=7, since=3))
    new = (ref(100),)
    logs.wrote(ref(9), 3)
    assert logs.replace(Replacement("log/s", tuple(REFS[:2]), new, 20), REFS)
    assert logs.extend("log/s", [ref(9)], complete=True) == [*new]
    assert logs.facts["s"] == LogFacts(retracted=3, since=3)
    assert not logs.waiting
    assert not logs.replace(Replacement("log/s", tuple(REFS[:2]), new), [ref(9)])
