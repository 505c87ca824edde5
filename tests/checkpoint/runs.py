"""Runs over a root, as short as they can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from asyncpersist.checkpoint.manifest import Manifest, ObjectRef, Owner
from asyncpersist.checkpoint.root import Piece, Root
from asyncpersist.objectstore.contract import ObjectStore
from asyncpersist.testing.clocks import ManualClock

__all__ = ["Run", "items", "manifest", "owner", "ref"]


class Run:
    """One run of a program that appends items to one stream, an object a snapshot."""

    def __init__(self, root: Root) -> None:
        self.root = root

    @classmethod
    async def start(cls, store: ObjectStore, clock: ManualClock, *, takeover: bool = False, retain: int = 10) -> Run:
        root = await Root.open(store, clock=clock, retain_snapshots=retain)
        await root.claim(
            mode="PERSISTING", access="FULL", graph={"op": "v1"}, sinks={"out": {"length": 0}}, takeover=takeover
        )
        return cls(root)

    @property
    def head(self) -> Manifest:
        assert self.root.head is not None
        return self.root.head

    async def put(self, item: str) -> ObjectRef:
        epoch = self.head.epoch + 2
        return (await self.root.put(Piece(data=item.encode(), rows=1, first_epoch=epoch, last_epoch=epoch)))[0]

    async def append(self, *items: str, replace: bool = False, keep: str | None = None) -> Manifest:
        refs = [await self.put(item) for item in items]
        return await self.commit([*([] if replace else self.head.streams.get("s", [])), *refs], keep=keep)

    async def commit(self, refs: Sequence[ObjectRef], *, keep: str | None = None) -> Manifest:
        return await self.root.commit(
            epoch=self.head.epoch + 2,
            streams={"s": refs},
            sinks={"out": {"length": len(refs)}},
            graph={"op": "v1"},
            progress={"rows": len(refs)},
            keep=keep,
        )


async def items(root: Root, manifest: Manifest | None = None) -> list[str]:
    """What the stream of a manifest (the head) holds, verified."""
    chosen = root.head if manifest is None else manifest
    refs = [] if chosen is None else chosen.streams.get("s", [])
    return [(await root.get(ref)).decode() for ref in refs]


def ref(key: str) -> ObjectRef:
    return ObjectRef(key=key, length=1, checksum="", rows=1, first_epoch=2, last_epoch=2)


def owner(**changes: Any) -> Owner:
    fields: Mapping[str, Any] = {
        "host": "a",
        "machine": "m",
        "boot": "b",
        "namespace": "n",
        "pid": 7,
        "started": 3.0,
        "run": "r",
        "since": 0.0,
    }
    return Owner(**{**fields, **changes})


def manifest(sequence: int, *keys: str, kind: Any = "snapshot", at: float = 0.0) -> Manifest:
    return Manifest(
        sequence=sequence,
        token=f"t{sequence}",
        parent=f"t{sequence - 1}",
        parent_sequence=sequence - 1,
        horizon=1,
        generation=2,
        kind=kind,
        epoch=sequence * 2,
        written_at=at,
        mode="PERSISTING",
        access="FULL",
        owner=owner(),
        streams={"s": [ref(key) for key in keys]},
    )
