"""Where things lie below a root.

| key | what |
|---|---|
| `asyncpersist.json` | the marker: this is a root, of this format |
| `manifests/{sequence:012d}.json` | one manifest each; creating it is the commit |
| `objects/g{generation:08d}-{token}.{extension}` | what manifests name; written once, never changed |
| `objects/g{generation:08d}-{serial:08d}-{sha256}.answers` | the same, good before one does: `answers.py` |
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

__all__ = ["MANIFESTS", "MARKER", "OBJECTS", "Name", "answers_key", "manifest_key", "object_key", "parse"]

MARKER = "asyncpersist.json"
MANIFESTS = "manifests/"
OBJECTS = "objects/"

_MANIFEST = re.compile(r"manifests/(\d{12,})\.json(\..+\.partial)?")
_OBJECT = re.compile(r"objects/g(\d{8,})-[^/]+")
_ANSWERS = re.compile(r"objects/g(\d{8,})-(\d{8,})-([0-9a-f]{64})\.answers")
_MARKER = re.compile(r"asyncpersist\.json(\..+\.partial)?")


@dataclass(frozen=True, slots=True)
class Name:
    """What a key says. `number`: a manifest's sequence, an object's generation, 0 for the marker.

    `serial`, of answers: which one of its generation it is, from 1 on; `checksum`: that of its bytes.
    """

    kind: Literal["marker", "manifest", "object", "answers"]
    number: int
    partial: bool
    serial: int = 0
    checksum: str = ""


def manifest_key(sequence: int) -> str:
    return f"{MANIFESTS}{sequence:012d}.json"


def object_key(generation: int, token: str, extension: str) -> str:
    return f"{OBJECTS}g{generation:08d}-{token}.{extension}"


def answers_key(generation: int, serial: int, checksum: str) -> str:
    return f"{OBJECTS}g{generation:08d}-{serial:08d}-{checksum}.answers"


def parse(key: str) -> Name | None:
    """What a key says; None for a key that this layout does not give out."""
    if match := _ANSWERS.fullmatch(key):
        return Name("answers", int(match[1]), False, int(match[2]), match[3])
    if match := _OBJECT.fullmatch(key):
        return Name("object", int(match[1]), key.endswith(".partial"))
    if match := _MANIFEST.fullmatch(key):
        return Name("manifest", int(match[1]), match[2] is not None)
    if match := _MARKER.fullmatch(key):
        return Name("marker", 0, match[1] is not None)
    return None
