"""Copying a root from one store to another."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from pathlib import Path

import pytest

from asyncpersist.checkpoint import copying
from asyncpersist.checkpoint import root as root_module
from asyncpersist.checkpoint.copying import Copied, copy
from asyncpersist.checkpoint.layout import MARKER, manifest_key
from asyncpersist.checkpoint.processes import this_process
from asyncpersist.checkpoint.root import Piece, Root
from asyncpersist.errors import DamagedState, ForeignRoot, StateError, StateInUse, StoreUnavailable
from asyncpersist.objectstore.contract import ObjectStore
from asyncpersist.objectstore.filesystem import FilesystemStore
from asyncpersist.objectstore.memory import MemoryStore
from asyncpersist.testing.clocks import ManualClock
from asyncpersist.testing.stores import FaultyStore, Outcome
from tests.checkpoint.runs import Run, items


async def written(
    store: ObjectStore, clock: ManualClock, text: str = "abc", *, retain: int = 10, killed: bool = False
) -> None:
    """A run that appended a letter a snapshot, and ended."""
    run = await Run.start(store, clock, retain=retain)
    for item in text:
        await run.append(item)
    if killed:
        run.root.abandon()
    else:
        await run.root.release()


async def content(store: ObjectStore) -> dict[str, bytes]:
    return {entry.key: await store.get(entry.key) for entry in await store.list()}


def writes(store: FaultyStore) -> list[tuple[str, str]]:
    return [call for call in store.calls if call[0] in ("create", "put", "delete")]


def recorded(inner: ObjectStore) -> FaultyStore:
    return FaultyStore.scripted(inner)


async def test_a_copy_is_a_root_that_goes_on(tmp_path: Path, clock: ManualClock) -> None:
    source, target, third = FilesystemStore(tmp_path / "from"), MemoryStore(), FilesystemStore(tmp_path / "to")
    await written(source, clock)
    before = await content(source)
    done = await copy(source, target, clock=clock)
    assert done == Copied(5, 4, 3, 3, 3, 3, 0)
    assert (await copy(target, third, clock=clock)).objects == 3
    assert await content(target) == await content(third) == before == await content(source)
    run = await Run.start(third, clock)
    await run.append("d")
    await run.root.release()
    assert await items(await Root.open(third, clock=clock)) == ["a", "b", "c", "d"]
    assert [await items(await Root.open(store, clock=clock)) for store in (source, target)] == [["a", "b", "c"]] * 2
    for store in (source, third):
        await store.aclose()


async def test_only_what_is_kept_is_copied(clock: ManualClock) -> None:
    source, target = MemoryStore(), MemoryStore()
    run = await Run.start(source, clock, retain=2)
    await run.append("a", "b")
    await run.append("c", replace=True)
    await run.append("d")
    await run.put("of no snapshot")
    run.root.abandon()
    done = await copy(source, target, clock=clock)
    root = await Root.open(target, clock=clock)
    assert (done.snapshots, done.objects) == (2, 2)
    assert {*await content(target)} == {MARKER, *(m.key for m in root.chain), *(root.head.names() if root.head else ())}
    assert await items(root) == ["c", "d"]


async def test_pieces_that_share_an_object(clock: ManualClock) -> None:
    source, target = MemoryStore(), MemoryStore()
    run = await Run.start(source, clock)
    pieces = [Piece(data=text.encode() * 20_000, rows=1, first_epoch=2, last_epoch=2) for text in ("one", "two", "six")]
    refs = await run.root.put(*pieces)
    await run.commit(refs[1:])
    await run.commit(refs[1:2])
    run.root.abandon()
    assert (await copy(source, target, clock=clock)).objects == 1
    assert await items(await Root.open(target, clock=clock)) == ["two" * 20_000]
    data = bytearray(await target.get(refs[0].key))
    data[70_000] ^= 1
    await target.put(refs[0].key, bytes(data))
    assert (await copy(source, target, clock=clock)).found == 0
    assert (await copy(source, target, clock=clock)).found == 1
    assert not await (await Root.open(target, clock=clock)).verify()


def cut_off(target: ObjectStore, after: int, outcome: Outcome) -> FaultyStore:
    """A store whose write number `after` has `outcome` and whose later ones are refused."""
    script = itertools.chain([Outcome.DONE] * after, [outcome], itertools.repeat(Outcome.REFUSED))
    return FaultyStore(target, lambda method, _: next(script) if method in ("create", "put") else Outcome.DONE)


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.LOST_REQUEST, Outcome.LOST_ANSWER])
async def test_a_copy_that_is_cut_off_is_no_root_and_is_gone_on_with(clock: ManualClock, outcome: Outcome) -> None:
    source = MemoryStore()
    await written(source, clock)
    counted = recorded(MemoryStore())
    await copy(source, counted, clock=clock)
    last = len(writes(counted)) - 1
    assert last == 3 + 4
    for cut in range(last + 1):
        target = MemoryStore()
        with pytest.raises(StoreUnavailable):
            await copy(source, cut_off(target, cut, outcome), clock=clock)
        whole = cut == last and outcome is Outcome.LOST_ANSWER
        if whole or not await target.list():
            await Root.open(target, clock=clock)
        else:
            with pytest.raises(ForeignRoot):
                await Root.open(target, clock=clock)
        again = recorded(target)
        done = await copy(source, again, clock=clock)
        assert (done.objects, done.found) == (3, min(cut + (outcome is Outcome.LOST_ANSWER), 3))
        assert sum(method == "put" for method, _ in writes(again)) == 3 - done.found
        assert await content(target) == await content(source)


async def test_a_copy_may_be_repeated(clock: ManualClock) -> None:
    source, target = MemoryStore(), MemoryStore()
    await written(source, clock)
    await copy(source, target, clock=clock)
    before = await content(target)
    again = recorded(target)
    assert (await copy(source, again, clock=clock)).found == 3
    assert [method for method, _ in writes(again)] == ["create"] * 5
    assert await content(target) == before


@pytest.mark.parametrize("kind", ["foreign", "object", "manifest", "other root", "went on", "below it", "older"])
async def test_a_target_that_holds_something_else_is_left_alone(clock: ManualClock, kind: str) -> None:
    source, target = MemoryStore(), MemoryStore()
    await written(source, clock)
    if kind == "foreign":
        await target.put("letters/mine.txt", b"precious")
    elif kind == "object":
        await target.put("objects/g00000001-abc.arrow", b"precious")
    elif kind == "manifest":
        await target.put(manifest_key(5), b"another")
    elif kind == "other root":
        await written(target, clock, "xyz")
    else:
        await copy(source, target, clock=clock)
        if kind == "went on":
            await written(target, clock, "d")
        elif kind == "older":
            await written(source, clock, "d")
        else:
            await target.put("letters/mine.txt", b"precious")
    before = await content(target)
    with pytest.raises(StateError, match=r"memory holds .* Name a place that is empty or to be made"):
        await copy(source, target, clock=clock)
    assert await content(target) == before


class Contended(MemoryStore):
    """A target; before the first object is put there, another run appends xyz to `root`, by default itself."""

    def __init__(self, clock: ManualClock, root: ObjectStore | None = None) -> None:
        super().__init__()
        self.clock = clock
        self.root = self if root is None else root
        self.other: asyncio.Task[None] | None = None

    async def put(self, key: str, data: bytes) -> None:
        if self.other is None:
            self.other = asyncio.create_task(written(self.root, self.clock, "xyz", killed=self.root is not self))
        if data not in (b"x", b"y", b"z"):
            await self.other
        await super().put(key, data)


@pytest.mark.parametrize("retain", [1, 10])
async def test_what_came_into_the_target_meanwhile_is_not_overrun(clock: ManualClock, retain: int) -> None:
    source, target = MemoryStore(), Contended(clock)
    await written(source, clock, "abcdefgh", retain=retain)
    with pytest.raises(StateError, match="holds"):
        await copy(source, target, clock=clock)
    assert await items(await Root.open(target, clock=clock)) == ["x", "y", "z"]


async def test_nor_what_comes_at_the_very_end(clock: ManualClock) -> None:
    class Late(MemoryStore):
        async def create(self, key: str, data: bytes) -> None:
            if key != MARKER:
                await super().put(key, b"another")
            await super().create(key, data)

    source, target = MemoryStore(), Late()
    await written(source, clock)
    with pytest.raises(StateError, match=r"holds another manifests/.*json"):
        await copy(source, target, clock=clock)
    assert MARKER not in await content(target)


async def test_there_has_to_be_something_to_copy(clock: ManualClock) -> None:
    target = MemoryStore()
    with pytest.raises(StateError, match="holds no state"):
        await copy(MemoryStore(), target, clock=clock)
    assert not await target.list()


async def test_a_running_owner_has_to_be_stopped_first(clock: ManualClock) -> None:
    source, target = MemoryStore(), MemoryStore()
    run = await Run.start(source, clock)
    await run.append("a")
    for gone in (False, True):
        with pytest.raises(StateInUse, match=r"in use by .* Stop that process first"):
            await copy(source, target, clock=clock, owner_is_gone=gone)
    assert not await target.list()
    run.root.abandon()
    await copy(source, target, clock=clock)


async def test_an_owner_elsewhere_has_to_be_known_to_be_gone(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = MemoryStore(), MemoryStore()
    elsewhere = dataclasses.replace(this_process(), host="elsewhere", machine="other", boot="other")
    monkeypatch.setattr(root_module, "this_process", lambda: elsewhere)
    run = await Run.start(source, clock)
    await run.append("a")
    monkeypatch.undo()
    with pytest.raises(StateInUse, match=r"may be in use by .* say so with --yes"):
        await copy(source, target, clock=clock)
    assert not await target.list()
    assert (await copy(source, target, clock=clock, owner_is_gone=True)).objects == 1
    run.root.abandon()
    again = await Run.start(target, clock)
    assert await items(again.root) == ["a"]
    again.root.abandon()


class Moving(MemoryStore):
    """A source in which a run goes on as soon as an object is read."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.clock = clock
        self.moves = False

    async def get(self, key: str) -> bytes:
        if self.moves and key.startswith("objects/"):
            self.moves = False
            run = await Run.start(self, self.clock, retain=1)
            await run.append("d", replace=True)
            await run.append("e")
            await run.root.collect()
            await run.root.release()
        return await super().get(key)


async def test_a_source_that_goes_on_meanwhile_is_copied_again(clock: ManualClock) -> None:
    source, target = Moving(clock), MemoryStore()
    await written(source, clock)
    first = await Root.open(source, clock=clock)
    (kept, *_) = first.head.streams["s"] if first.head else ()
    await copy(source, target, clock=clock)
    # An unfinished copy: of three objects one is there, and none of the manifests.
    await target.delete({entry.key for entry in await target.list()} - {kept.key})
    source.moves = True
    with pytest.raises(StateInUse, match="was written to while it was being copied"):
        await copy(source, target, clock=clock)
    assert MARKER not in await content(target)
    assert await items(await Root.open(source, clock=clock)) == ["d", "e"]


async def test_also_where_all_that_is_copied_is_still_there(clock: ManualClock) -> None:
    source = MemoryStore()
    await written(source, clock)
    target = Contended(clock, source)
    with pytest.raises(StateInUse, match="was written to while it was being copied"):
        await copy(source, target, clock=clock)
    assert MARKER not in await content(target)


async def test_what_expired_since_an_unfinished_copy_is_cleaned_up_by_the_next_run(clock: ManualClock) -> None:
    source, target = MemoryStore(), MemoryStore()
    await written(source, clock, "ab", retain=1)
    await copy(source, target, clock=clock)
    await target.delete([MARKER])
    run = await Run.start(source, clock, retain=1)
    await run.commit(run.head.streams["s"][1:])
    await run.append("c")
    await run.root.collect()
    await run.root.release()
    assert not {*await content(target)} <= {*await content(source), MARKER}
    assert (await copy(source, target, clock=clock)).found == 1
    run = await Run.start(target, clock, retain=1)
    await run.root.sweep()
    assert await items(run.root) == ["b", "c"]
    await run.append("d")
    await run.root.collect()
    await run.root.release()
    objects = {key for key in await content(target) if key.startswith("objects/")}
    assert objects == {ref.key for ref in run.root.chain[0].objects()}
    assert await items(await Root.open(target, clock=clock)) == ["b", "c", "d"]


@pytest.mark.parametrize("how", ["missing", "shorter", "longer", "altered"])
async def test_damage_in_the_source_is_not_copied(clock: ManualClock, how: str) -> None:
    source, target = MemoryStore(), MemoryStore()
    await written(source, clock)
    (key, *_) = [entry.key for entry in await source.list("objects/")]
    if how == "missing":
        await source.delete([key])
    else:
        await source.put(key, {"shorter": b"", "longer": b"aa", "altered": b"z"}[how])
    with pytest.raises(DamagedState, match=rf"{key} is damaged: it.* The copy is not finished, and no state"):
        await copy(source, target, clock=clock)
    assert not {MARKER, key} & {*await content(target)}


async def test_what_arrives_altered_is_noticed(clock: ManualClock) -> None:
    class Flipping(MemoryStore):
        async def put(self, key: str, data: bytes) -> None:
            await super().put(key, bytes([data[0] ^ 1]) + data[1:])

    source, target = MemoryStore(), Flipping()
    await written(source, clock)
    with pytest.raises(DamagedState, match="although it was just written"):
        await copy(source, target, clock=clock)
    assert MARKER not in await content(target)


async def test_few_objects_are_held_at_once(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "_BYTES_AT_ONCE", 100)

    class Watched(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self.held: list[int] = []
            self.most = self.largest = 0

        async def put(self, key: str, data: bytes) -> None:
            self.held.append(len(data))
            self.most = max(self.most, len(self.held))
            if len(self.held) > 1:
                self.largest = max(self.largest, sum(self.held))
            for _ in range(20):
                await asyncio.sleep(0)
            self.held.remove(len(data))
            await super().put(key, data)

    source, target = MemoryStore(), Watched()
    run = await Run.start(source, clock)
    sizes = [3] * 50 + [60, 60, 250, 60, 60]
    await run.append(*(f"{number:02}" + "x" * (size - 2) for number, size in enumerate(sizes)))
    run.root.abandon()
    told: list[Copied] = []
    done = await copy(source, target, clock=clock, on_progress=told.append)
    assert (target.most, target.largest <= 100) == (8, True)
    assert [copied.objects for copied in told] == list(range(len(sizes) + 1))
    assert told[-1] == done
    assert done.bytes == done.all_bytes == sum(sizes)
