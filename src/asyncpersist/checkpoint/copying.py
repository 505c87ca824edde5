"""Copying a root from one store to another, so that runs go on there.

The marker is written last, and without it nobody takes the copy for a root: neither a run nor a command. A copy that
was cut off is gone on with by copying again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from asyncpersist.checkpoint.answers import Answers
from asyncpersist.checkpoint.byte_room import ByteRoom
from asyncpersist.checkpoint.layout import MARKER, Name, parse
from asyncpersist.checkpoint.manifest import Damaged, Manifest, ObjectRef, checksum, decode
from asyncpersist.checkpoint.ownership import OwnerState
from asyncpersist.checkpoint.reading import manifest_sequences
from asyncpersist.checkpoint.register import describe_owner
from asyncpersist.checkpoint.root import Root
from asyncpersist.clock import Clock
from asyncpersist.errors import DamagedState, StateError, StateInUse
from asyncpersist.objectstore.contract import KeyExists, KeyMissing, ObjectStore

__all__ = ["Copied", "copy"]

_OBJECTS_AT_ONCE = 8
_BYTES_AT_ONCE = 64 * 1024 * 1024
_INLINE = 32 * 1024


@dataclass(frozen=True, slots=True)
class Copied:
    """How far a copy is: `objects` of `all_objects`, with their bytes, are in the target; `found` were there before.

    `sequence` is the head's, `snapshots` counts it and the ancestors that are kept.
    """

    sequence: int
    snapshots: int
    all_objects: int
    all_bytes: int
    objects: int = 0
    bytes: int = 0
    found: int = 0


async def copy(
    source: ObjectStore,
    target: ObjectStore,
    *,
    clock: Clock,
    owner_is_gone: bool = False,
    on_progress: Callable[[Copied], None] | None = None,
) -> Copied:
    """Copies the head, the ancestors and named snapshots that are kept, and every object that one of them names.

    So are answers of functions that no manifest names yet, which a run would adopt. `source` is only read.

    What is in the target already with the right bytes is not written again. Every object is compared with its checksums
    where it is read, and again where it was written. A few are held in memory at once. `on_progress` is called at the
    start and after each object. `owner_is_gone`: the caller knows it, where it cannot be proven from here.

    Raises `StateInUse` if a run owns the source or may, or has gone on there meanwhile; `StateError` if there is
    nothing to be copied, or the target holds anything but a copy of this root, finished or not; `DamagedState` if
    something is missing or altered in the source; and what the stores raise. After any of these the target is no root
    unless it was one before; only where the answer to the last write was lost it may be a whole copy.
    """
    await target.check_writable()
    root = await Root.open(source, clock=clock)
    if root.head is None:
        raise StateError(f"{source.describe()} holds no state: no run has claimed it. There is nothing to be copied.")
    await _refuse_owned(root, root.head, owner_is_gone=owner_is_gone)
    copying = _Copying(source, target, (*root.chain, *root.pinned), await root.unnamed_answers())
    there = await copying.refuse_other()
    await copying.copy_objects(there, on_progress or (lambda _: None))
    # That took its time, in which somebody may have written to either.
    await copying.refuse_moved()
    await copying.refuse_other()
    for manifest in sorted((*root.chain, *root.pinned), key=lambda manifest: manifest.sequence):
        await copying.create(manifest.key, await copying.manifest(manifest.key))
    # As it is: a version that reads the source reads the copy.
    await copying.create(MARKER, await source.get(MARKER))
    return copying.copied


class _Copying:
    """What is copied from where to where, and how far that is. `kept`: the manifests, the head first. `unnamed`: what
    is copied besides."""

    def __init__(
        self, source: ObjectStore, target: ObjectStore, kept: Sequence[Manifest], unnamed: Sequence[Answers]
    ) -> None:
        self._source = source
        self._target = target
        self._head = kept[0]
        self._manifests = {manifest.key: manifest for manifest in kept}
        self._objects: dict[str, dict[int | None, ObjectRef]] = {}
        """Key -> the pieces of it that some manifest names."""
        refs = [ref for manifest in kept for ref in manifest.objects()]
        refs += [addition.ref for answers in unnamed for addition in answers.additions]
        for ref in refs:
            self._objects.setdefault(ref.key, {})[ref.start] = ref
        self._sizes = {key: max(_end(ref) for ref in pieces.values()) for key, pieces in self._objects.items()}
        self.copied = Copied(self._head.sequence, len(kept), len(self._objects), sum(self._sizes.values()))

    async def copy_objects(self, there: set[str], on_progress: Callable[[Copied], None]) -> None:
        room = ByteRoom(_BYTES_AT_ONCE)

        async def copy_in_turn(keys: Iterator[str]) -> None:
            for key in keys:
                async with room.take(self._sizes[key]):
                    found = key in there and await self._fault(self._target, key) is None
                    if not found:
                        await self._copy_object(key)
                done = self.copied
                self.copied = replace(
                    done, objects=done.objects + 1, bytes=done.bytes + self._sizes[key], found=done.found + found
                )
                on_progress(self.copied)

        on_progress(self.copied)
        turns = iter(self._objects)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(_OBJECTS_AT_ONCE):
                    group.create_task(copy_in_turn(turns))
        except BaseExceptionGroup as exc:
            raise exc.exceptions[0] from None

    async def manifest(self, key: str) -> bytes:
        """The bytes of a manifest in the source. Raises as `copy` does if they are not what they were."""
        data = await self._read(key)
        with contextlib.suppress(Damaged):
            if decode(data, self._source.describe()) == self._manifests[key]:
                return data
        raise self._damaged(self._source, key, "it was altered a moment ago")

    async def create(self, key: str, data: bytes) -> None:
        """Puts `data` under the key unless it is there. Raises `StateError` if something else is."""
        try:
            await self._target.create(key, data)
        except KeyExists as exc:
            if await self._target.get(key) != data:
                raise self._other(f"another {key}") from exc

    async def refuse_moved(self) -> None:
        """Raises `StateInUse` if the source has a newer manifest than the one that is being copied."""
        if max(await manifest_sequences(self._source), default=0) != self._head.sequence:
            raise StateInUse(
                f"{self._source.describe()} was written to while it was being copied: a run goes on there. Stop it and "
                f"copy again, which goes on with what was copied. {self._target.describe()} is no state yet."
            )

    async def refuse_other(self) -> set[str]:
        """The keys in the target. Raises `StateError` if it holds anything but a copy of this root."""
        names = {entry.key: parse(entry.key) for entry in await self._target.list()}
        names = {key: name for key, name in names.items() if name is None or not name.partial}
        sequences = [name.number for name in names.values() if name is not None and name.kind == "manifest"]
        if MARKER in names and max(sequences, default=0) != self._head.sequence:
            raise self._other("a state of its own")
        for key in names.keys() & self._manifests.keys():
            if await self._target.get(key) != await self.manifest(key):
                raise self._other(f"another {key}")
        ours = self._manifests.keys() | self._objects.keys()
        others = sorted(names.keys() - ours - {MARKER})
        # What an earlier, unfinished copy of this root holds beyond it has expired since; a run deletes that.
        expired = [key for key in others if self._is_older(names[key])] if ours & names.keys() else []
        if others != expired:
            raise self._other(min(set(others) - set(expired)))
        return set(names)

    def _is_older(self, name: Name | None) -> bool:
        if name is None:
            return False
        return name.number < self._head.sequence if name.kind == "manifest" else name.number <= self._head.generation

    def _other(self, what: str) -> StateError:
        return StateError(
            f"{self._target.describe()} holds {what}, so it is no copy of {self._source.describe()}. Name a place that "
            "is empty or to be made. Nothing there was changed or taken for a state."
        )

    async def _copy_object(self, key: str) -> None:
        data = await self._read(key)
        if (fault := await self._look(data, key)) is not None:
            raise self._damaged(self._source, key, fault)
        await self._target.put(key, data)
        del data
        if (fault := await self._fault(self._target, key)) is not None:
            raise self._damaged(self._target, key, f"{fault}, although it was just written")

    async def _read(self, key: str) -> bytes:
        try:
            return await self._source.get(key)
        except KeyMissing as exc:
            await self.refuse_moved()
            raise self._damaged(self._source, key, "it is missing") from exc

    async def _fault(self, store: ObjectStore, key: str) -> str | None:
        try:
            return await self._look(await store.get(key), key)
        except KeyMissing:
            return "it is missing"

    async def _look(self, data: bytes, key: str) -> str | None:
        """What is wrong with the bytes of an object; None if nothing is."""
        pieces = self._objects[key].values()
        few = len(data) <= _INLINE
        return _compare(key, data, pieces) if few else await asyncio.to_thread(_compare, key, data, pieces)

    def _damaged(self, store: ObjectStore, key: str, fault: str) -> DamagedState:
        return DamagedState(
            f"{store.describe()}: {key} is damaged: {fault}. `asyncpersist verify {self._source.describe()}` shows "
            "what is whole. The copy is not finished, and no state."
        )


async def _refuse_owned(root: Root, head: Manifest, *, owner_is_gone: bool) -> None:
    state = await root.owner_state()
    here, owner = root.store.describe(), describe_owner(head.owner)
    if state is OwnerState.RUNNING:
        raise StateInUse(f"{here} is in use by {owner}. Stop that process first, then copy. Nothing was changed.")
    if not (state.proven_gone or owner_is_gone):
        raise StateInUse(
            f"{here} may be in use by {owner}. Make sure that it is not, and say so with --yes. Nothing was changed."
        )


def _end(ref: ObjectRef) -> int:
    return (ref.start or 0) + ref.length


def _compare(key: str, data: bytes, pieces: Collection[ObjectRef]) -> str | None:
    for ref in pieces:
        piece = memoryview(data) if ref.start is None else memoryview(data)[ref.start : _end(ref)]
        if len(piece) != ref.length:
            return f"it has {len(data)} bytes, which are too {'few' if len(data) < _end(ref) else 'many'}"
        if checksum(piece) != ref.checksum:
            return "its bytes do not fit their checksum"
    # Of answers, what they say of themselves counts as well.
    name = parse(key)
    if name is not None and name.checksum not in ("", checksum(data)):
        return "its bytes do not fit the checksum in its name"
    return None
