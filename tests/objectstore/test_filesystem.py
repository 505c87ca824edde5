"""What the filesystem store adds to the contract: durability, the order of calls, errors that say what to do."""

# A test may hold its own loop.

import asyncio
import errno
import os
import random
import threading
from pathlib import Path

import pytest

from asyncpersist.errors import StateUnwritable, StoreUnavailable
from asyncpersist.objectstore.contract import KeyExists, OutcomeUnknown
from asyncpersist.objectstore.filesystem import FilesystemStore
from asyncpersist.objectstore.memory import MemoryStore
from asyncpersist.objectstore.probe import probe
from asyncpersist.testing.disks import CountingDisk, FailingDisk, FullDisk
from asyncpersist.testing.power import LossyDisk
from tests.amounts import PATIENCE


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


async def test_a_create_synchronises_the_file_then_its_name(tmp_path: Path) -> None:
    disk = CountingDisk()
    store = FilesystemStore(tmp_path / "a" / "b", disk)
    await store.create("manifests/1.json", b"hello")
    await store.aclose()
    assert [method for _, method, _ in disk.log] == [
        *("mkdir", "fsync_directory") * 3,
        "create",
        "write",
        "fsync",
        "close",
        "link",
        "unlink",
        "fsync_directory",
    ]
    assert tree(tmp_path) == {"a/b/manifests/1.json": b"hello"}


async def test_writes_that_wait_together_share_the_synchronisation_of_their_directory(tmp_path: Path) -> None:
    held, go = threading.Event(), threading.Event()

    class Holding(CountingDisk):
        def mkdir(self, path: Path) -> None:
            held.set()
            go.wait(PATIENCE)
            super().mkdir(path)

    disk = Holding()
    store = FilesystemStore(tmp_path / "root", disk)
    first = asyncio.create_task(store.put("objects/first", b""))
    await asyncio.to_thread(held.wait, PATIENCE)
    rest = [asyncio.create_task(store.put(f"objects/{n}", b"")) for n in range(20)]
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(first, *rest)
    await store.aclose()
    assert [path.name for _, method, path in disk.log if method == "fsync_directory"] == [
        tmp_path.name,
        "root",
        "objects",
        "objects",
    ]


async def test_nothing_is_made_before_the_first_write(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path / "root")
    assert await store.list() == []
    await store.check_writable()
    await store.delete(["objects/a"])
    await store.aclose()
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("below", ["", "deep/er"])
async def test_a_file_in_the_way_is_named(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("mine")
    store = FilesystemStore(tmp_path / "file" / below)
    for call in (store.check_writable, lambda: store.put("a", b"x")):
        with pytest.raises(StateUnwritable, match="file"):
            await call()
    await store.aclose()
    assert tree(tmp_path) == {"file": b"mine"}


async def test_a_directory_without_permission_is_refused_by_reading_alone(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(StateUnwritable, match="Change its owner or mode"):
        await FilesystemStore(tmp_path / "root").check_writable()
    assert list(tmp_path.iterdir()) == []


async def test_a_read_only_disk_is_unwritable(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path / "root", FailingDisk(lambda call: True, errno.EROFS))
    with pytest.raises(StateUnwritable, match="Read-only"):
        await store.create("a", b"x")
    await store.aclose()


async def test_a_full_disk_is_unavailable_and_keeps_nothing(tmp_path: Path) -> None:
    disk = FullDisk(room=10)
    store = FilesystemStore(tmp_path, disk)
    await store.create("a", b"12345678")
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=r"disk is full.*Free some space") as caught:
            await store.create("b", b"12345678")
        assert not isinstance(caught.value, OutcomeUnknown)
    assert tree(tmp_path) == {"a": b"12345678"}
    disk.room = 100
    await store.create("b", b"12345678")
    await store.aclose()
    assert tree(tmp_path) == {"a": b"12345678", "b": b"12345678"}


@pytest.mark.parametrize("write", ["create", "put"])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("method", ["create", "write", "fsync", "close", "link", "rename", "unlink", "fsync_directory"])
async def test_every_failing_call_is_reported_as_what_it_is(tmp_path: Path, method, after, write) -> None:
    """A failure is never success; what is reported as not done is not there; a repetition succeeds or finds its own."""
    failures = []

    def once(call) -> bool:
        if call[1] == method and not failures:
            failures.append(call)
            return True
        return False

    store = FilesystemStore(tmp_path, FailingDisk(once, after=after))
    try:
        await getattr(store, write)("a", b"x")
        assert method == "unlink" or not failures
        assert (tmp_path / "a").read_bytes() == b"x"
    except OutcomeUnknown:
        assert method in ("link", "rename", "fsync_directory")
    except StoreUnavailable:
        assert not (tmp_path / "a").exists()
    try:
        await getattr(store, write)("a", b"x")
    except KeyExists:
        assert write == "create"
    await store.aclose()
    assert await store.get("a") == b"x"


async def test_a_key_that_exists_is_durable_when_it_is_said_to(tmp_path: Path) -> None:
    """A creator that lost, or that lost its answer, may take what exists for durable."""
    disk = CountingDisk()
    store = FilesystemStore(tmp_path, disk)
    await store.create("a", b"x")
    before = len(disk.log)
    with pytest.raises(KeyExists):
        await store.create("a", b"y")
    await store.aclose()
    assert disk.log[-1][1] == "fsync_directory"
    assert len(disk.log) > before


async def test_a_power_cut_leaves_whole_objects_only(tmp_path: Path) -> None:
    """After a cut at any call: what was acknowledged is there, and nothing under a final name is torn."""
    contents = {f"objects/{n}": bytes([n]) * 50 for n in range(3)}
    for cut_at in range(1, 60):
        root = tmp_path / str(cut_at)
        root.mkdir()
        disk = LossyDisk(root, cut_at)
        store = FilesystemStore(root, disk)
        acknowledged = []
        for key, data in contents.items():
            try:
                await (store.create if key.endswith("1") else store.put)(key, data)
            except BaseException:
                break
            acknowledged.append(key)
        await store.aclose()
        disk.lose(random.Random(cut_at))
        after = {key: data for key, data in tree(root).items() if not key.endswith(".partial")}
        assert set(acknowledged) <= set(after)
        assert after.items() <= contents.items()
        if len(acknowledged) == len(contents):
            return
    raise AssertionError("no run came to its end")


async def test_a_closed_store_writes_nothing(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path / "root")
    await store.aclose()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.put("a", b"")


async def test_a_cancelled_write_ends_before_the_store_is_closed(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path / "root")
    tasks = [asyncio.create_task(store.put(f"objects/{n}", b"x" * 1000)) for n in range(30)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await store.aclose()
    assert not [key for key in tree(tmp_path) if key.endswith(".partial")]


async def test_the_probe_refuses_a_store_that_overwrites() -> None:
    class Overwriting(MemoryStore):
        async def create(self, key: str, data: bytes) -> None:
            await self.put(key, data)

    with pytest.raises(StateUnwritable, match="overwrote"):
        await probe(Overwriting(), "marker", b"x")
    honest = MemoryStore()
    await probe(honest, "marker", b"x")
    await probe(honest, "marker", b"x")
    assert await honest.get("marker") == b"x"
