"""Objects of answers: what they say of themselves, and which of them nobody has named."""

from __future__ import annotations

import msgspec
import pytest

from asyncpersist.checkpoint.answers import (
    AnswerPiece,
    accounted,
    added,
    decode_answers,
    encode_answers,
    is_named,
    open_generations,
    unnamed,
    with_facts,
)
from asyncpersist.checkpoint.caches import cache_of, cache_stream, function_stream, is_cache, used_stream
from asyncpersist.checkpoint.layout import answers_key, parse
from asyncpersist.checkpoint.manifest import Answered, CacheFacts, Damaged, checksum, decode, encode
from asyncpersist.checkpoint.retention import retain
from tests.checkpoint.runs import manifest, ref
from tests.checkpoint.test_decisions import facts

SUM = checksum(b"")


def a(generation: int, serial: int) -> str:
    return answers_key(generation, serial, SUM)


@pytest.mark.parametrize("name", ["a", "a/b", "a%2Fb", "Ärger ../..", "used", "x" * 100])
def test_streams_say_whose_they_are(name: str) -> None:
    stream = cache_stream(name, "0f")
    assert is_cache(stream)
    assert stream.count("/") == 2
    assert cache_of(stream) == cache_of(used_stream(stream)) == name
    assert function_stream(used_stream(stream)) == function_stream(stream) == stream


def test_an_object_says_what_it_is_and_any_flaw_shows() -> None:
    pieces = [AnswerPiece("cache/a/0", ("k",), b"first", 3), AnswerPiece("cache/b/0", ("k",), b"", 0, complete=True)]
    known = {"cache/a/0": CacheFacts(function="f", cache="a", calls=3)}
    data, answers = encode_answers(7, 12, pieces, epoch=4, facts=known)
    name = parse(answers.key)
    assert name is not None
    assert (name.kind, name.number, name.serial, name.partial) == ("answers", 7, 12, False)
    assert decode_answers(answers.key, data) == answers
    assert answers.facts == known
    assert [(x.stream, x.key, x.complete, x.ref.rows) for x in answers.additions] == [
        ("cache/a/0", ("k",), False, 3),
        ("cache/b/0", ("k",), True, 0),
    ]
    for piece, addition in zip(pieces, answers.additions, strict=True):
        start, length = addition.ref.start or 0, addition.ref.length
        assert data[start : start + length] == piece.data
        assert addition.ref.checksum == checksum(piece.data)
    for at in range(len(data)):
        with pytest.raises(Damaged):
            decode_answers(answers.key, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(Damaged):
            decode_answers(answers.key, data[:at])
    for nonsense in (b"", b"APANSWS\x02", b"APANSWS\x01\x02\0\0\0[]", b"ARROW1"):
        with pytest.raises(Damaged, match=r"format|nothing of itself"):
            decode_answers(answers_key(1, 1, checksum(nonsense)), nonsense)


def test_a_partial_write_of_answers_is_none() -> None:
    name = parse(a(3, 1) + ".0a.partial")
    assert name is not None
    assert (name.kind, name.number, name.partial) == ("object", 3, True)


OPEN, HALF, ENDED = Answered(), Answered(named=4), Answered(ended=True)


@pytest.mark.parametrize(
    ("kind", "said", "ended", "expected"),
    [
        ("claim", {}, False, {2: OPEN}),
        ("claim", {}, True, {2: ENDED}),
        ("snapshot", {2: HALF}, True, {2: Answered(named=4, ended=True)}),
        ("sweep", {1: HALF}, False, {1: HALF, 2: OPEN}),
        ("release", {}, True, {}),
        ("release", {1: HALF}, True, {1: HALF}),
        ("release", {2: Answered(named=4, ended=True)}, True, {2: Answered(named=4, ended=True)}),
    ],
)
def test_of_which_generations_there_may_be_more(kind, said, ended, expected) -> None:
    head = msgspec.structs.replace(manifest(3, kind=kind), answers=said)
    assert decode(encode(head), "here") == head
    assert open_generations(head, ended=ended) == expected
    assert open_generations(None, ended=ended) == {}


def test_what_is_not_named_applies_in_the_order_in_which_it_was_written() -> None:
    keys = [a(3, 2), a(10, 1), a(3, 10), a(4, 9), a(3, 1), a(5, 1), "objects/g00000003-x.arrow", "else"]
    answers = {3: Answered(named=1), 4: Answered(named=9), 10: Answered()}
    assert unnamed(keys, answers) == [a(3, 2), a(3, 10), a(10, 1)]
    assert unnamed(keys, answers, {a(3, 2)}) == [a(3, 10), a(10, 1)]


def test_who_has_ended_has_no_more_once_all_is_accounted_for() -> None:
    answers = {3: Answered(named=1), 4: Answered(named=9, ended=True), 5: HALF}
    assert accounted(answers, [a(3, 2), a(3, 10), a(4, 11)]) == {3: Answered(named=10), 5: HALF}
    many = dict.fromkeys(range(5000), OPEN)
    assert list(accounted(many, [])) == list(range(4000, 5000))


def test_a_head_says_whether_answers_are_named() -> None:
    own, adopted = (encode_answers(g, 5, [], epoch=0, facts={})[1] for g in (2, 1))
    for said, expected in (
        ({1: HALF}, (False, False)),
        ({1: HALF, 2: HALF}, (False, False)),
        ({1: Answered(named=5), 2: Answered(named=5)}, (True, True)),
        ({2: Answered(named=6)}, (True, True)),
    ):
        head = msgspec.structs.replace(manifest(3), answers=said)
        assert (is_named(own, head), is_named(adopted, head)) == expected


def test_additions_and_what_begins_anew() -> None:
    def some(serial: int, *, complete: bool = False):
        return encode_answers(1, serial, [AnswerPiece("s", ("k",), b"", 0, complete)], epoch=0, facts={})[1]

    first, anew, last = some(1), some(2, complete=True), some(3)
    before = {"s": [ref("x")], "t": [ref("y")]}
    assert added(before, []) == (before, {})
    assert [r.key for r in added(before, [first, last])[0]["s"]] == ["x", first.key, last.key]
    after, keys = added(before, [first, anew, last])
    assert [r.key for r in after["s"]] == [anew.key, last.key]
    assert (after["t"], keys) == (before["t"], {"s": ("k",)})


def test_counters_of_adopted_answers_count_if_they_are_later() -> None:
    def of(calls: int) -> dict[str, CacheFacts]:
        return {"s": CacheFacts(function="f", cache="c", calls=calls)}

    answers = [encode_answers(1, n, [], epoch=0, facts=of(n))[1] for n in (1, 2)]
    assert with_facts({}, answers) == of(2)
    assert with_facts(of(7), answers) == of(7)


def test_only_what_is_accounted_for_is_an_orphan() -> None:
    stored = {a(1, 1), a(2, 4), a(2, 5), a(3, 1), a(5, 1), a(6, 1)}
    given = facts(
        [manifest(3)],
        generation=5,
        stored=stored,
        answers={2: HALF, 3: OPEN, 5: Answered(named=1)},
        abandoned={a(5, 7)},
    )
    condemned = {key for key in retain(given).condemned if key.startswith("objects/")}
    assert condemned == {a(1, 1), a(2, 4), a(5, 7)}
    # What a manifest named that expires goes like anything else.
    given = facts([manifest(3), manifest(2), manifest(1, a(2, 5))], generation=5, answers={2: HALF})
    assert a(2, 5) in retain(given).condemned
