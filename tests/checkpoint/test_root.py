"""The protocol by which runs claim a root and commit to it."""

# A test may hold its own loop.
# ruff: noqa: ASYNC222

from __future__ import annotations

import asyncio
import datetime
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from asyncpersist.checkpoint.layout import MARKER, manifest_key
from asyncpersist.checkpoint.manifest import encode
from asyncpersist.checkpoint.ownership import OwnerState
from asyncpersist.checkpoint.reading import MARKER_BYTES
from asyncpersist.checkpoint.root import ClaimContended, Piece, Root
from asyncpersist.clock import SystemClock
from asyncpersist.errors import (
    DamagedState,
    Fenced,
    ForeignRoot,
    NewerFormat,
    StateInUse,
    StateUnwritable,
    StoreUnavailable,
)
from asyncpersist.objectstore.contract import ObjectStore, OutcomeUnknown
from asyncpersist.objectstore.filesystem import FilesystemStore
from asyncpersist.objectstore.memory import MemoryStore
from asyncpersist.objectstore.retrying import RetryingStore
from asyncpersist.testing.clocks import ManualClock
from asyncpersist.testing.stores import FaultyStore, Outcome
from tests.checkpoint.runs import Run, items


async def contents(store: ObjectStore) -> dict[str, bytes]:
    return {entry.key: await store.get(entry.key) for entry in await store.list()}


# The life of a run


async def test_a_run_goes_on_where_the_one_before_ended(clock) -> None:
    store = MemoryStore()
    run = await Run.start(store, clock)
    assert run.head.kind == "claim"
    assert run.head.sinks == {"out": {"length": 0}}
    assert run.root.exclusive
    await run.append("a", "b")
    await run.append("c")
    await run.root.release()

    root = await Root.open(store, clock=clock)
    assert await root.owner_state() is OwnerState.RELEASED
    assert await items(root) == ["a", "b", "c"]
    assert root.head is not None
    assert (root.head.generation, root.head.epoch, root.head.sinks) == (1, 4, {"out": {"length": 3}})
    claim = await root.claim(mode="OTHER", access="OTHER", graph={"op": "v2"}, sinks={"out": {}, "new": {"length": 0}})
    assert claim.sinks == {"out": {"length": 3}, "new": {"length": 0}}
    assert (claim.generation, claim.epoch, claim.mode, claim.graph) == (2, 4, "PERSISTING", {"op": "v1"})
    assert await items(root) == ["a", "b", "c"]
    root.abandon()


async def test_opening_writes_nothing(clock, tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path / "absent" / "root")
    root = await Root.open(store, clock=clock)
    assert root.head is None
    assert await root.owner_state() is OwnerState.NONE
    await root.check()
    assert await root.verify() == []
    await store.aclose()
    assert list(tmp_path.iterdir()) == []


async def test_only_a_run_that_owns_the_root_writes(clock) -> None:
    root = await Root.open(MemoryStore(), clock=clock)
    with pytest.raises(RuntimeError, match="not been claimed"):
        await root.put(Piece(data=b"", rows=0, first_epoch=0, last_epoch=0))
    run = await Run.start(MemoryStore(), clock)
    with pytest.raises(RuntimeError, match="claimed already"):
        await run.root.claim(mode="", access="")
    await run.root.release()
    run.root.abandon()
    for call in (run.append("x"), run.root.collect(), run.root.release()):
        with pytest.raises(RuntimeError, match="ended"):
            await call


async def test_epochs_never_go_back(clock) -> None:
    run = await Run.start(MemoryStore(), clock)
    await run.append("a")
    with pytest.raises(ValueError, match="epoch 1 after"):
        await run.root.commit(epoch=1, streams={}, sinks={}, graph={})


# Retention


async def test_storage_is_bounded_by_what_is_kept(clock) -> None:
    store = MemoryStore()
    for _ in range(3):
        run = await Run.start(store, clock, retain=3)
        for n in range(8):
            await run.append(f"{n}", replace=True)
            await run.root.collect()
        await run.root.put(Piece(data=b"orphan", rows=1, first_epoch=1, last_epoch=1))
        run.root.abandon()
    run = await Run.start(store, clock, retain=3)
    await run.append("last", replace=True)
    await run.root.collect()
    found = await contents(store)
    assert len([key for key in found if key.startswith("objects/")]) == 3
    assert len([key for key in found if key.startswith("manifests/")]) == len(run.root.chain)
    assert b"orphan" not in found.values()
    assert await run.root.collect() == 0


async def test_a_discarded_object_goes_and_one_in_use_stays(clock) -> None:
    store = MemoryStore()
    run = await Run.start(store, clock)
    used, unused = await run.put("used"), await run.put("unused")
    run.root.discard([used, unused])
    await run.commit([used])
    await run.root.collect()
    assert [entry.key for entry in await store.list("objects/")] == [used.key]


async def test_pieces_share_an_object_that_stays_while_any_is_named(clock) -> None:
    store = MemoryStore()
    run = await Run.start(store, clock, retain=1)
    pieces = [Piece(data=text, rows=1, first_epoch=2, last_epoch=2) for text in (b"first", b"", "zwölf".encode())]
    refs = await run.root.put(*pieces)
    assert len(await store.list("objects/")) == 1
    await run.commit(refs)
    assert await items(await Root.open(store, clock=clock)) == ["first", "", "zwölf"]
    run.root.discard(refs[:2])
    await run.commit(refs[2:])
    await run.root.collect()
    assert await items(run.root) == ["zwölf"]
    content = await store.get(refs[0].key)
    await store.put(refs[0].key, content[:-1] + b"x")
    assert [problem.key for problem in await run.root.verify()] == [refs[0].key]
    await store.put(refs[0].key, content[:-3])
    assert "bytes, not 6" in (await run.root.verify())[0].detail
    run.root.discard(refs)
    await run.append("new", replace=True)
    await run.append("newer", replace=True)
    await run.root.collect()
    assert refs[0].key not in await contents(store)


async def test_age_keeps_what_the_count_does_not(clock) -> None:
    root = await Root.open(MemoryStore(), clock=clock, retain_snapshots=2, retain_for=datetime.timedelta(seconds=25))
    await root.claim(mode="M", access="A")
    run = Run(root)
    for n in range(10):
        clock.advance(10)
        await run.append(str(n))
    assert [m.written_at - clock.wall() for m in root.chain] == [0, -10, -20]


async def test_what_a_crash_left_to_delete_is_deleted_by_the_next_run(clock) -> None:
    store = MemoryStore()
    run = await Run.start(store, clock, retain=2)
    for n in range(4):
        await run.append(str(n), replace=True)
    run.root.abandon()
    run = await Run.start(store, clock, retain=2)
    assert await run.root.collect() > 0
    assert await items(run.root) == ["3"]
    assert len(await store.list("objects/")) == 2


# Ownership


async def test_a_running_owner_is_named_and_nothing_is_written(clock) -> None:
    store = MemoryStore()
    run = await Run.start(store, clock)
    before = await contents(store)
    root = await Root.open(store, clock=clock)
    assert await root.owner_state() is OwnerState.RUNNING
    for call in (root.check(), root.claim(mode="M", access="A")):
        with pytest.raises(StateInUse, match=r"in use by another run of this process.*takeover=True"):
            await call
    assert await contents(store) == before
    await root.check(takeover=True)
    await run.append("still mine")
    run.root.abandon()


async def test_an_ended_run_of_this_process_does_not_run(clock) -> None:
    store = MemoryStore()
    run = await Run.start(store, clock)
    await run.append("a")
    run.root.abandon()
    second = await Run.start(store, clock)
    assert second.root.exclusive
    assert await items(second.root) == ["a"]
    second.root.abandon()


async def test_a_deposed_run_is_fenced_and_told_by_whom(clock) -> None:
    store = MemoryStore()
    first = await Run.start(store, clock)
    await first.append("a")
    second = await Run.start(store, clock, takeover=True)
    assert not second.root.exclusive
    for _ in range(2):
        with pytest.raises(Fenced, match=rf"taken over by process {os.getpid()}"):
            await first.append("lost")
    with pytest.raises(Fenced):
        await first.root.collect()
    with pytest.raises(Fenced):
        await first.root.release()
    await second.append("b")
    assert second.root.exclusive
    assert await items(await Root.open(store, clock=clock)) == ["a", "b"]
    second.root.abandon()


async def test_a_zombie_that_recreates_a_deleted_manifest_has_lost(clock) -> None:
    store = MemoryStore()
    zombie = await Run.start(store, clock, retain=2)
    await zombie.append("a")
    stale = await Root.open(store, clock=clock)
    second = await Run.start(store, clock, takeover=True, retain=2)
    for n in range(6):
        await second.append(str(n))
        await second.root.collect()
    numbers = {entry.key for entry in await store.list("manifests/")}
    assert manifest_key(zombie.head.sequence + 1) not in numbers
    with pytest.raises(Fenced, match="taken over"):
        await zombie.append("never")
    await store.delete([manifest_key(zombie.head.sequence + 1)])
    with pytest.raises(ClaimContended):
        await stale.claim(mode="M", access="A", takeover=True)
    await second.append("6")
    assert await items(await Root.open(store, clock=clock)) == ["a", *"0123456"]
    second.root.abandon()
    third = await Run.start(store, clock, retain=2)
    await third.append("7")
    await third.root.collect()
    assert {entry.key for entry in await store.list("manifests/")} == {m.key for m in third.root.chain}
    third.root.abandon()


async def test_one_of_several_claims_wins_and_the_others_start_over(clock) -> None:
    store = MemoryStore()
    roots = [await Root.open(store, clock=clock) for _ in range(5)]
    results = await asyncio.gather(
        *(root.claim(mode="M", access="A", takeover=True) for root in roots), return_exceptions=True
    )
    assert len([r for r in results if isinstance(r, ClaimContended)]) == 4
    winner = next(root for root, result in zip(roots, results, strict=True) if not isinstance(result, Exception))
    assert (await Root.open(store, clock=clock)).head == winner.head
    assert await winner.owner_state() is OwnerState.RUNNING
    winner.abandon()


_CHILD = """
import asyncio, sys, time
from asyncpersist.checkpoint.root import Root
from asyncpersist.clock import SystemClock
from asyncpersist.objectstore.filesystem import FilesystemStore

async def main():
    root = await Root.open(FilesystemStore(sys.argv[1]), clock=SystemClock())
    await root.claim(mode="M", access="A")
    print("claimed", flush=True)
    sys.stdin.read()

asyncio.run(main())
"""


async def test_a_stopped_process_runs_and_a_killed_one_does_not(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(tmp_path / "root")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"claimed\n"
        root = await Root.open(FilesystemStore(tmp_path / "root"), clock=SystemClock())
        assert await root.owner_state() is OwnerState.RUNNING
        child.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED)
        assert await root.owner_state() is OwnerState.RUNNING
        with pytest.raises(StateInUse, match=f"process {child.pid} "):
            await root.check()
        child.kill()
        # Not reaped yet: what is left of it is a zombie.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert await root.owner_state() is OwnerState.ENDED
    finally:
        child.kill()
        child.communicate()
    assert await root.owner_state() is OwnerState.ENDED
    await root.claim(mode="M", access="A")
    assert root.exclusive
    root.abandon()
    await root.store.aclose()


# Answers that are lost


def scripted(inner: ObjectStore, script: list[Outcome], method: str = "create") -> FaultyStore:
    """A store that takes the outcomes of its calls of `method` from the front of `script` while there are any."""
    return FaultyStore(inner, lambda name, _: script.pop(0) if name == method and script else Outcome.DONE)


@pytest.mark.parametrize("outcome", [Outcome.LOST_ANSWER, Outcome.LOST_REQUEST])
@pytest.mark.parametrize("times", [1, 2])
async def test_a_lost_answer_is_found_out_with_the_same_bytes(clock, outcome, times) -> None:
    inner = MemoryStore()
    script: list[Outcome] = []
    run = await Run.start(scripted(inner, script), clock)
    script += [outcome] * times
    await run.append("a")
    assert not run.root.in_doubt
    assert await items(await Root.open(inner, clock=clock)) == ["a"]


async def test_a_refused_commit_leaves_the_number_to_other_bytes(clock) -> None:
    inner = MemoryStore()
    script: list[Outcome] = []
    run = await Run.start(scripted(inner, script), clock)
    script += [Outcome.REFUSED]
    refs = [await run.put("a")]
    with pytest.raises(StoreUnavailable):
        await run.commit(refs)
    assert not run.root.in_doubt
    assert await run.root.settle() is None
    manifest = await run.commit([*refs, await run.put("b")])
    assert manifest.sequence == 2
    assert await items(await Root.open(inner, clock=clock)) == ["a", "b"]


@pytest.mark.parametrize("outcome", [Outcome.LOST_ANSWER, Outcome.LOST_REQUEST])
async def test_a_commit_in_doubt_is_settled_before_the_next(clock, outcome) -> None:
    inner = MemoryStore()
    script: list[Outcome] = []
    run = await Run.start(scripted(inner, script), clock)
    script += [*[outcome] * 4, Outcome.REFUSED]
    with pytest.raises(StoreUnavailable):
        await run.append("a")
    assert run.root.in_doubt
    with pytest.raises(StoreUnavailable):  # an unknown answer, then a refusal: neither ends the doubt
        await run.root.settle()
    assert run.root.in_doubt
    assert await run.root.settle() is run.head
    await run.append("b")
    assert await items(await Root.open(inner, clock=clock)) == ["a", "b"]
    assert [m.epoch for m in run.root.chain] == [4, 2]


async def test_the_same_commit_again_commits_once(clock) -> None:
    inner = MemoryStore()
    script: list[Outcome] = []
    run = await Run.start(scripted(inner, script), clock)
    script += [*[Outcome.LOST_ANSWER] * 3]
    refs = [await run.put("a")]
    content = {"epoch": 2, "streams": {"s": refs}, "sinks": {"out": {"length": 1}}, "graph": {"op": "v1"}}
    with pytest.raises(StoreUnavailable):
        await run.root.commit(**content)
    assert (await run.root.commit(**content)).sequence == 2
    assert len(await inner.list("manifests/")) == 2


async def test_a_refusal_after_a_lost_answer_does_not_end_the_doubt(clock) -> None:
    inner = MemoryStore()
    script: list[Outcome] = []
    run = await Run.start(scripted(inner, script), clock)
    script += [Outcome.LOST_ANSWER, Outcome.REFUSED]
    with pytest.raises(StoreUnavailable):
        await run.append("a")
    assert run.root.in_doubt
    await run.root.settle()
    await run.append("b")
    assert await items(await Root.open(inner, clock=clock)) == ["a", "b"]


async def test_a_commit_that_could_not_list_is_in_doubt(clock) -> None:
    inner = MemoryStore()
    script: list[Outcome] = []
    run = await Run.start(scripted(inner, script, method="list"), clock)
    await run.append("a")
    script += [Outcome.REFUSED]
    with pytest.raises(StoreUnavailable):
        await run.append("b")
    assert run.root.in_doubt
    await run.root.settle()
    assert await items(run.root) == ["a", "b"]


async def test_a_release_that_failed_can_be_repeated(clock) -> None:
    inner = MemoryStore()
    for outcomes in ([Outcome.REFUSED], [Outcome.LOST_ANSWER] * 3, [Outcome.LOST_REQUEST] * 3):
        script: list[Outcome] = []
        run = await Run.start(scripted(inner, script), clock)
        script += outcomes
        with pytest.raises(StoreUnavailable):
            await run.root.release()
        assert await (await Root.open(inner, clock=clock)).owner_state() in (OwnerState.RUNNING, OwnerState.RELEASED)
        sequence = run.head.sequence
        assert (await run.root.release()).sequence == sequence + 1
        assert await (await Root.open(inner, clock=clock)).owner_state() is OwnerState.RELEASED


async def test_a_run_is_told_in_time_that_it_was_deposed(clock) -> None:
    store = MemoryStore()
    first = await Run.start(store, clock)
    refs = [await first.put("a")]

    async def confirm(turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        await first.root.confirm()

    await asyncio.gather(first.commit(refs), *(confirm(turns) for turns in range(20)))
    second = await Run.start(store, clock, takeover=True)
    with pytest.raises(Fenced):
        await first.root.confirm()
    await second.root.confirm()
    second.root.abandon()


async def test_a_run_in_doubt_is_not_taken_for_deposed(clock) -> None:
    inner = MemoryStore()
    script: list[Outcome] = []
    run = await Run.start(scripted(inner, script), clock)
    script += [Outcome.LOST_ANSWER] * 3
    with pytest.raises(StoreUnavailable):
        await run.append("a")
    await run.root.confirm()
    await run.root.settle()
    await run.root.confirm()
    run.root.abandon()


async def test_a_fenced_run_whose_answer_was_lost_is_fenced(clock) -> None:
    inner = MemoryStore()
    script: list[Outcome] = []
    first = await Run.start(scripted(inner, script), clock)
    script += [*[Outcome.LOST_REQUEST] * 3]
    with pytest.raises(StoreUnavailable):
        await first.append("never")
    second = await Run.start(inner, clock, takeover=True)
    with pytest.raises(Fenced):
        await first.root.settle()
    assert not first.root.in_doubt
    assert await items(second.root) == []
    second.root.abandon()


async def test_cancelled_at_every_await_a_commit_is_settled_afterwards() -> None:
    """A commit cancelled after any number of turns of the loop either did not begin or is found out."""
    for turns in range(12):
        clock = ManualClock(seed=turns)
        store = MemoryStore()
        run = await Run.start(store, clock)
        await run.append("a")
        refs = [*run.head.streams["s"], await run.put("b")]
        task = asyncio.create_task(run.commit(refs))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await run.root.settle()
        assert await items(run.root) in (["a"], ["a", "b"])
        assert (await Root.open(store, clock=clock)).head == run.head
        await run.append("c")
        await run.root.release()
        assert (await items(await Root.open(store, clock=clock)))[-1] == "c"


async def test_a_store_that_is_down_is_no_empty_root(clock) -> None:
    store = FaultyStore(MemoryStore(), lambda method, key: Outcome.REFUSED)
    with pytest.raises(StoreUnavailable):
        await Root.open(store, clock=clock)


async def test_a_failed_claim_leaves_no_running_owner(clock) -> None:
    inner = MemoryStore()
    for outcomes in ([Outcome.REFUSED], [Outcome.DONE] * 2 + [Outcome.LOST_ANSWER] * 3):
        with pytest.raises(StoreUnavailable):
            await Run.start(FaultyStore.scripted(inner, *outcomes), clock)
        root = await Root.open(inner, clock=clock)
        assert (await root.owner_state()).proven_gone
    (await Run.start(inner, clock)).root.abandon()


# Damage


async def filled(clock: ManualClock, path: Path) -> Run:
    run = await Run.start(FilesystemStore(path), clock)
    for n in range(3):
        await run.append(f"item {n}", replace=n == 2)
    await run.root.release()
    await run.root.store.aclose()
    return run


def snapshot_of(path: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in path.rglob("*") if p.is_file()}


@pytest.mark.parametrize("harm", ["missing", "truncated", "flipped"])
@pytest.mark.parametrize("which", [2, 4, 5])
async def test_a_damaged_manifest_is_named_with_the_way_out(clock, tmp_path: Path, harm, which) -> None:
    run = await filled(clock, tmp_path)
    path = tmp_path / manifest_key(which)
    if harm == "missing" and which == run.head.sequence:
        return  # Of that nothing is left to see: an older snapshot is found, which is whole.
    _harm(path, harm)
    before = snapshot_of(tmp_path)
    with pytest.raises(
        DamagedState, match=rf"{manifest_key(which)}.*asyncpersist restore .* --to \d+.*Nothing was changed"
    ):
        await Root.open(FilesystemStore(tmp_path), clock=clock)
    assert snapshot_of(tmp_path) == before


@pytest.mark.parametrize("harm", ["missing", "truncated", "flipped"])
async def test_a_damaged_object_is_named_with_the_way_out(clock, tmp_path: Path, harm) -> None:
    run = await filled(clock, tmp_path)
    [ref] = run.head.streams["s"]
    _harm(tmp_path / ref.key, harm)
    before = snapshot_of(tmp_path)
    root = await Root.open(FilesystemStore(tmp_path), clock=clock)
    with pytest.raises(DamagedState, match=rf"{ref.key}.*asyncpersist restore {tmp_path} --to 3.*Nothing was changed"):
        await root.get(ref)
    assert [problem.key for problem in await root.verify()] == [ref.key]
    assert snapshot_of(tmp_path) == before


async def test_a_manifest_under_another_number_is_damage(clock) -> None:
    store = MemoryStore()
    run = await Run.start(store, clock)
    await run.append("a")
    await store.put(manifest_key(3), await store.get(manifest_key(2)))
    with pytest.raises(DamagedState, match="sequence 2"):
        await Root.open(store, clock=clock)


async def test_a_root_without_its_manifests_is_damage_not_empty(clock) -> None:
    store = MemoryStore()
    run = await Run.start(store, clock)
    await run.append("a")
    run.root.abandon()
    await store.delete([entry.key for entry in await store.list("manifests/")])
    with pytest.raises(DamagedState, match="no manifest"):
        await Root.open(store, clock=clock)


async def test_a_root_that_vanishes_under_a_run_is_not_made_anew(clock, tmp_path: Path) -> None:
    store = MemoryStore()
    run = await Run.start(store, clock)
    await run.append("a")
    await store.delete([entry.key for entry in await store.list()])
    with pytest.raises(DamagedState, match="disappeared"):
        await run.append("b")
    run.root.abandon()


def _harm(path: Path, harm: str) -> None:
    data = path.read_bytes()
    if harm == "missing":
        path.unlink()
    elif harm == "truncated":
        path.write_bytes(data[: len(data) // 2])
    else:
        path.write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])


# Roots that are none


async def test_a_directory_of_something_else_is_refused_and_untouched(clock, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ForeignRoot, match=r"thesis\.txt.*empty directory"):
        await Root.open(FilesystemStore(tmp_path), clock=clock)
    assert snapshot_of(tmp_path) == {str(tmp_path / "thesis.txt"): b"mine"}


async def test_a_first_claim_that_was_cut_off_is_an_empty_root(clock, tmp_path: Path) -> None:
    (tmp_path / f"{MARKER}.x1.partial").write_bytes(MARKER_BYTES[:10])
    (tmp_path / "manifests").mkdir()
    run = await Run.start(FilesystemStore(tmp_path), clock)
    await run.append("a")
    await run.root.collect()
    assert not list(tmp_path.glob("*.partial"))
    await run.root.release()
    await run.root.store.aclose()


async def test_a_newer_format_is_refused(clock) -> None:
    store = MemoryStore()
    run = await Run.start(store, clock)
    await store.put(manifest_key(1), encode(msgspec.structs.replace(run.head, format=7)))
    with pytest.raises(NewerFormat, match="format 7"):
        await Root.open(store, clock=clock)


async def test_a_damaged_marker_is_named(clock) -> None:
    store = MemoryStore()
    (await Run.start(store, clock)).root.abandon()
    await store.put(MARKER, MARKER_BYTES.replace(b'"format":2', b'"format":3'))
    with pytest.raises(DamagedState, match=MARKER):
        await Root.open(store, clock=clock)


async def test_an_unwritable_root_is_refused_before_anything_is_written(clock, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    root = await Root.open(FilesystemStore(tmp_path / "root"), clock=clock)
    for call in (root.check(), root.claim(mode="M", access="A")):
        with pytest.raises(StateUnwritable):
            await call
    assert list(tmp_path.iterdir()) == []


# Doubt


class _Expiring(MemoryStore):
    """Carries out one create without an answer, and refuses all later ones for ever, as with an expired token."""

    expired = False

    async def create(self, key: str, data: bytes) -> None:
        if self.expired:
            raise StateUnwritable("the token has expired")
        if key.startswith("manifests/") and await self.list("objects/"):
            await super().create(key, data)
            self.expired = True
            raise OutcomeUnknown("no answer")
        await super().create(key, data)


async def test_a_refusal_after_a_lost_answer_leaves_the_commit_in_doubt(clock) -> None:
    store = _Expiring()
    run = await Run.start(RetryingStore(store, clock=clock), clock)
    with pytest.raises(StateUnwritable):
        await run.append("a")
    assert run.root.in_doubt
    store.expired = False
    assert await run.root.settle() is not None
    assert await items(run.root) == ["a"]


class _Counting(MemoryStore):
    """Counts how many reads are under way together."""

    now = most = 0

    async def get(self, key: str) -> bytes:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            return await super().get(key)
        finally:
            self.now -= 1


async def test_manifests_are_read_at_once(clock) -> None:
    store = _Counting()
    run = await Run.start(store, clock, retain=100)
    for n in range(40):
        await run.append(str(n), replace=True)
    store.most = 0
    assert len((await Root.open(store, clock=clock)).chain) == 40
    assert 4 < store.most <= 16
