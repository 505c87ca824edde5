"""The manifest: the object that names everything in a snapshot, and how it is written down.

A manifest is JSON inside an envelope `{"sha256": ..., "content": {...}}` whose checksum is over the exact bytes of the
content, so that a flipped, torn or truncated one is found. The envelope is the same in every format.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec

from asyncpersist.checkpoint.layout import manifest_key
from asyncpersist.checkpoint.upgrades import upgraded
from asyncpersist.errors import NewerFormat

__all__ = [
    "FORMAT",
    "Answered",
    "CacheFacts",
    "Damaged",
    "Kind",
    "LogFacts",
    "Manifest",
    "ObjectRef",
    "Owner",
    "checksum",
    "decode",
    "encode",
    "refuse_newer",
    "seal",
    "unseal",
]

FORMAT = 2
"""The format this version writes, and the newest it reads."""

Kind = Literal["claim", "snapshot", "sweep", "release"]
"""A claim, a sweep and a release hold the content of the one before, a sweep perhaps with more in its caches; a sweep
also condemns what earlier runs left lying about."""


class Damaged(Exception):
    """Bytes that are not what was written; the text says how that was found. Never leaves this package."""


class ObjectRef(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Bytes of a snapshot: all of an object, or, from `start` on, a piece of one that holds several.

    `length` in bytes, `checksum` SHA-256 in hexadecimal, the first and last epoch whose changes it holds. `compacted`,
    of a part of a log: rows of different epochs may have become one, of the last of them.
    """

    key: str
    start: int | None = None
    length: int
    checksum: str
    rows: int
    first_epoch: int
    last_epoch: int
    compacted: bool = False


class LogFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of the log of one source.

    `since`: the epoch after which it holds all that the source gave; 0: from the source's beginning. `ids`: its rows
    have their ids; `assigned`: some were given to them later, so that the source does not know them. `retracted` counts
    the rows that were taken back and not compacted since; `settled` is how many rows it had when it was last looked at
    whether compacting it pays.
    """

    since: int = 0
    ids: bool = False
    assigned: bool = False
    retracted: int = 0
    settled: int = 0


class CacheFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of the results of one function in one cache: the names of both, how often a result was found there
    and how often the function was called, and when it was last used, in seconds since the Unix epoch."""

    function: str
    cache: str
    hits: int = 0
    calls: int = 0
    used: float = 0.0


class Answered(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far the objects of answers of one generation are accounted for: those of a serial up to `named` were named by
    a manifest, or are damaged. `ended`: whoever wrote them writes no more."""

    named: int = 0
    ended: bool = False


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """Who claimed a root: a run (its token) of a process.

    `boot` and `namespace` tell whether `pid` means anything here; `started` is the process's start in seconds on a
    clock of its machine; `since` the time of the claim in seconds since the Unix epoch. Empty: the system does not say.
    """

    host: str
    machine: str
    boot: str
    namespace: str
    pid: int
    started: float
    run: str
    since: float
    released: bool = False


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """One commit.

    `parent` and `parent_sequence` name the snapshot before this one, past claims, sweeps and releases; None and 0 where
    there is none. `horizon` is the sequence of the oldest ancestor that is still kept. `epoch` 0: nothing has been
    stepped yet. `streams`: stream name -> its objects in the order in which they apply. `sinks`: sink identity -> its
    position. `condemned`: keys that may be deleted once this manifest is committed. `exclusive` false: an owner before
    this one may still hold outputs open. `clean` false: the run that released the root had failed, so that outputs may
    be longer than their positions. `logs`: source identity -> what is known of the log that the stream of that source
    holds. `keep`: name -> the sequence of a snapshot that never expires. `caches`: stream of a function's results ->
    what is known of them. `answers`: the generations of which there may be answers that no manifest names. Caches
    belong to no epoch: where an older content is committed again, they stay as they are. `shards` is room for later.
    `graph`, `progress` and positions are opaque JSON values.
    """

    format: int = FORMAT
    sequence: int
    token: str
    parent: str | None
    parent_sequence: int
    horizon: int
    generation: int
    kind: Kind
    epoch: int
    written_at: float
    mode: str
    access: str
    owner: Owner
    exclusive: bool = True
    clean: bool = True
    graph: dict[str, Any] = {}
    streams: dict[str, list[ObjectRef]] = {}
    sinks: dict[str, dict[str, Any]] = {}
    condemned: list[str] = []
    progress: dict[str, Any] = {}
    logs: dict[str, LogFacts] = {}
    keep: dict[str, int] = {}
    caches: dict[str, CacheFacts] = {}
    answers: dict[int, Answered] = {}
    shards: dict[str, Any] = {}

    @property
    def key(self) -> str:
        return manifest_key(self.sequence)

    @property
    def ended_cleanly(self) -> bool:
        """Whether the run before wrote nothing beyond what this manifest says."""
        return self.kind == "release" and self.clean

    def objects(self) -> list[ObjectRef]:
        """Every object it names."""
        return [ref for refs in self.streams.values() for ref in refs]

    def names(self) -> set[str]:
        """The keys of every object it names."""
        return {ref.key for refs in self.streams.values() for ref in refs}


class _Envelope(msgspec.Struct):
    sha256: str
    content: msgspec.Raw


class _Format(msgspec.Struct):
    format: int


def checksum(data: bytes | memoryview) -> str:
    """The checksum of an object: SHA-256 in hexadecimal. Releases the interpreter lock on large data."""
    return hashlib.sha256(data).hexdigest()


def seal(content: bytes) -> bytes:
    """JSON bytes in an envelope with their checksum."""
    return msgspec.json.encode(_Envelope(checksum(content), msgspec.Raw(content))) + b"\n"


def unseal(data: bytes) -> bytes:
    """The JSON bytes out of an envelope. Raises `Damaged`."""
    try:
        content = bytes(msgspec.json.decode(data, type=_Envelope).content)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise Damaged(f"it is not complete ({exc})") from exc
    if seal(content) != data:
        raise Damaged("its checksum does not fit its content")
    return content


def refuse_newer(content: bytes, where: str) -> int:
    """The format of JSON bytes. Raises `NewerFormat` if it is one that this version does not know."""
    found = msgspec.json.decode(content, type=_Format).format
    if found > FORMAT:
        raise NewerFormat(
            f"{where} was written in format {found}; this version of asyncpersist reads up to format {FORMAT}. "
            "Install a newer version, or use another directory for the state. Nothing was changed."
        )
    return found


def encode(manifest: Manifest) -> bytes:
    """The bytes of a manifest."""
    return seal(msgspec.json.encode(manifest))


def decode(data: bytes, where: str) -> Manifest:
    """The manifest out of its bytes, of this format or an older one. Raises `Damaged`; `NewerFormat`, with `where`."""
    content = unseal(data)
    try:
        found = refuse_newer(content, where)
        if found == FORMAT:
            return msgspec.json.decode(content, type=Manifest)
        return msgspec.convert(upgraded(msgspec.json.decode(content), found, FORMAT), Manifest)
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError) as exc:
        raise Damaged(f"it is no manifest ({exc})") from exc
