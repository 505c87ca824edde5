"""Objects of answers: what functions returned, good as soon as it is written, before any manifest names it.

A run writes its answers one object after the other, under serials that count from 1; each says of itself which streams
it adds to, and has its checksum in its name. Commits name them in that order, and say up to which serial they have. So
whoever claims the root next finds what the run before wrote and did not come to name: it is *adopted*, named by the
first commit. That holds of every generation whose writer is not proven to be gone: a run that was fenced may go on
writing for some time.

An object is eight bytes that name the format and its version, four with the length of a JSON header, the header, and
the pieces end to end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from asyncpersist.checkpoint.layout import Name, answers_key, parse
from asyncpersist.checkpoint.manifest import Answered, CacheFacts, Damaged, Manifest, ObjectRef, checksum
from asyncpersist.objectstore.contract import KeyMissing, ObjectStore

__all__ = [
    "Addition",
    "AnswerPiece",
    "Answers",
    "accounted",
    "added",
    "decode_answers",
    "encode_answers",
    "is_named",
    "open_generations",
    "read_answers",
    "unnamed",
    "with_facts",
]

logger = logging.getLogger("asyncpersist")

_NAME = b"APANSWS\x01"
_MOST_OPEN = 1000
"""Generations; a run that still writes after so many others took over from it writes for nobody."""
_AT_ONCE = 8
_ATTEMPTS = 3
_INLINE = 32 * 1024


@dataclass(frozen=True, slots=True)
class AnswerPiece:
    """A state file that is to be added to a stream of a cache.

    `key`: the columns of its key. `complete`: nothing that was in the stream before counts any more.
    """

    stream: str
    key: tuple[str, ...]
    data: bytes
    rows: int
    complete: bool = False


@dataclass(frozen=True, slots=True)
class Addition:
    """What an object of answers adds to a stream; as in `AnswerPiece`."""

    stream: str
    key: tuple[str, ...]
    ref: ObjectRef
    complete: bool


@dataclass(frozen=True, slots=True)
class Answers:
    """An object of answers, as it says of itself. `facts`: what was known of the streams when it was written."""

    key: str
    additions: tuple[Addition, ...]
    facts: Mapping[str, CacheFacts]

    @property
    def name(self) -> Name:
        name = parse(self.key)
        assert name is not None
        return name


class _Piece(msgspec.Struct, frozen=True):
    stream: str
    key: tuple[str, ...]
    length: int
    checksum: str
    rows: int
    epoch: int
    complete: bool


class _Header(msgspec.Struct, frozen=True):
    pieces: list[_Piece]
    facts: dict[str, CacheFacts] = {}


def encode_answers(
    generation: int, serial: int, pieces: Sequence[AnswerPiece], *, epoch: int, facts: Mapping[str, CacheFacts]
) -> tuple[bytes, Answers]:
    """The bytes of an object of answers, and what it is. `epoch`: the one that was committed last; it says nothing."""
    header = _Header(
        [
            _Piece(piece.stream, piece.key, len(piece.data), checksum(piece.data), piece.rows, epoch, piece.complete)
            for piece in pieces
        ],
        dict(facts),
    )
    text = msgspec.json.encode(header)
    data = b"".join((_NAME, len(text).to_bytes(4, "little"), text, *(piece.data for piece in pieces)))
    return data, _answers(answers_key(generation, serial, checksum(data)), header, len(_NAME) + 4 + len(text))


def decode_answers(key: str, data: bytes) -> Answers:
    """What an object of answers is. Raises `Damaged` where the bytes are not those that the key names."""
    name = parse(key)
    if name is None or checksum(data) != name.checksum:
        raise Damaged("its bytes do not fit the checksum in its name")
    start = len(_NAME) + 4
    if data[: len(_NAME)] != _NAME:
        raise Damaged("it is of a format that this version does not know")
    start += int.from_bytes(data[len(_NAME) : start], "little")
    try:
        header = msgspec.json.decode(data[len(_NAME) + 4 : start], type=_Header)
    except msgspec.DecodeError as exc:
        raise Damaged(f"it says nothing of itself ({exc})") from exc
    return _answers(key, header, start)


def _answers(key: str, header: _Header, start: int) -> Answers:
    additions = []
    for piece in header.pieces:
        ref = ObjectRef(
            key=key,
            start=start,
            length=piece.length,
            checksum=piece.checksum,
            rows=piece.rows,
            first_epoch=piece.epoch,
            last_epoch=piece.epoch,
        )
        additions.append(Addition(piece.stream, piece.key, ref, piece.complete))
        start += piece.length
    return Answers(key, tuple(additions), header.facts)


# Which are named, and which are not


def open_generations(head: Manifest | None, *, ended: bool) -> dict[int, Answered]:
    """The generations up to the head's of which there may be answers that no manifest names.

    A run that has released its root has said itself how far its answers are named. `ended`: the owner that the head
    records is proven to be gone.
    """
    if head is None:
        return {}
    found = dict(head.answers)
    if head.kind != "release":
        found.setdefault(head.generation, Answered())
    if ended and head.generation in found:
        found[head.generation] = msgspec.structs.replace(found[head.generation], ended=True)
    return found


def unnamed(
    keys: Iterable[str], answers: Mapping[int, Answered], condemned: Collection[str] = frozenset()
) -> list[str]:
    """Those of the keys that are answers and not accounted for, in the order in which they apply."""
    found = []
    for key in keys:
        name = parse(key)
        if name is None or name.kind != "answers" or key in condemned or name.number not in answers:
            continue
        if name.serial > answers[name.number].named:
            found.append((name.number, name.serial, key))
    return [key for _, _, key in sorted(found)]


def accounted(answers: Mapping[int, Answered], keys: Iterable[str]) -> dict[int, Answered]:
    """The generations that stay open once the `unnamed` keys are named or given up."""
    after = {generation: answered for generation, answered in answers.items() if not answered.ended}
    for key in keys:
        name = parse(key)
        if name is not None and name.number in after:
            answered = after[name.number]
            after[name.number] = msgspec.structs.replace(answered, named=max(answered.named, name.serial))
    return {generation: after[generation] for generation in sorted(after)[-_MOST_OPEN:]}


def is_named(answers: Answers, head: Manifest) -> bool:
    """Whether the head, which a run wrote that knows of these answers, accounts for them."""
    name = answers.name
    own = Answered() if name.number == head.generation else None
    answered = head.answers.get(name.number, own)
    return answered is None or name.serial <= answered.named


def added(
    streams: Mapping[str, Sequence[ObjectRef]], answers: Iterable[Answers]
) -> tuple[dict[str, list[ObjectRef]], dict[str, tuple[str, ...]]]:
    """The streams with what answers add to them, and the keys of those that are added to."""
    after = {stream: list(refs) for stream, refs in streams.items()}
    keys: dict[str, tuple[str, ...]] = {}
    for addition in (addition for some in answers for addition in some.additions):
        before = [] if addition.complete else after.get(addition.stream, [])
        after[addition.stream] = [*before, addition.ref]
        keys[addition.stream] = addition.key
    return after, keys


def with_facts(facts: Mapping[str, CacheFacts], found: Iterable[Answers]) -> dict[str, CacheFacts]:
    """What is known of caches once answers are named: of counters that only grow, the greater ones."""
    known = dict(facts)
    for stream, later in (item for answers in found for item in answers.facts.items()):
        before = known.get(stream)
        if before is None or before.hits + before.calls < later.hits + later.calls:
            known[stream] = later
    return known


async def read_answers(store: ObjectStore, keys: Iterable[str]) -> list[Answers]:
    """Reads and verifies objects of answers, in their order; those that are damaged are left out, with a warning.

    Raises `StoreUnavailable`.
    """
    gate = asyncio.Semaphore(_AT_ONCE)

    async def read(key: str) -> Answers | None:
        async with gate:
            return await _read(store, key)

    return [answers for answers in await asyncio.gather(*map(read, keys)) if answers is not None]


async def _read(store: ObjectStore, key: str) -> Answers | None:
    damage: Damaged | None = None
    # What is left out is lost: that it is damaged has to be so each time.
    for _ in range(_ATTEMPTS):
        try:
            data = await store.get(key)
            few = len(data) <= _INLINE
            return decode_answers(key, data) if few else await asyncio.to_thread(decode_answers, key, data)
        except KeyMissing:
            return None
        except Damaged as exc:
            damage = exc
    logger.warning(
        "%s: %s is damaged: %s. It held answers of functions that no snapshot names yet: they are asked for again",
        store.describe(),
        key,
        damage,
    )
    return None
