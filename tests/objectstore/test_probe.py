"""The probe, against stores that honour create-if-absent and a server that does not."""

# A test may hold its own loop.

import logging

import pytest

from asyncpersist.clock import SystemClock
from asyncpersist.errors import StateUnwritable, StoreUnavailable
from asyncpersist.objectstore.contract import KeyExists
from asyncpersist.objectstore.memory import MemoryStore
from asyncpersist.objectstore.probe import probe
from asyncpersist.objectstore.remote import remote
from asyncpersist.objectstore.s3.store import S3Store
from asyncpersist.testing.stores import FaultyStore, Outcome
from tests.servers.s3rver import S3rver
from tests.servers.stores import KINDS, StorePlaces


@pytest.mark.parametrize("kind", KINDS)
async def test_a_store_that_honours_create_if_absent(
    kind: str, store_places: StorePlaces, caplog: pytest.LogCaptureFixture
) -> None:
    open_store = store_places.new(kind)
    for single_writer in (False, True):
        store = open_store()
        assert await probe(store, "marker", b"x", single_writer=single_writer)
        assert await store.list() == [("marker", 1)]
    assert not [record for record in caplog.records if record.name == "asyncpersist"]


@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "wrapped"])
async def test_a_server_that_overwrites_is_refused(s3rver: S3rver, wrapped: bool) -> None:
    store = S3Store(s3rver.settings(), "refused")
    store = remote(store, SystemClock()) if wrapped else store
    try:
        for _ in range(2):
            with pytest.raises(StateUnwritable, match=r"s3://bucket/refused: .*overwrote marker.*single_writer=True"):
                await probe(store, "marker", b"x")
        assert await store.list() == [("marker", 1)]
    finally:
        await store.aclose()


async def test_a_server_that_overwrites_is_accepted_loudly(s3rver: S3rver, caplog: pytest.LogCaptureFixture) -> None:
    store = remote(S3Store(s3rver.settings(), "accepted"), SystemClock())
    try:
        for _ in range(2):
            caplog.clear()
            assert not await probe(store, "marker", b"x", single_writer=True)
            (record,) = [record for record in caplog.records if record.name == "asyncpersist"]
            assert record.levelno == logging.WARNING
            assert "s3://bucket/accepted: the store overwrote marker" in record.getMessage()
            assert "single_writer=True" in record.getMessage()
        assert await store.get("marker") == b"x"
    finally:
        await store.aclose()


async def test_a_store_that_is_away_is_neither() -> None:
    for single_writer in (False, True):
        store = FaultyStore.scripted(MemoryStore(), Outcome.REFUSED)
        with pytest.raises(StoreUnavailable):
            await probe(store, "marker", b"x", single_writer=single_writer)
        assert await probe(store, "marker", b"x", single_writer=single_writer)


async def test_a_creation_that_met_itself_is_no_overwriting() -> None:
    """Where an answer is lost, whoever repeats the call finds the object and takes it, rightly, for its own."""

    class MeetingItself(MemoryStore):
        met = 0

        async def create(self, key: str, data: bytes) -> None:
            try:
                await super().create(key, data)
            except KeyExists:
                self.met += 1
                if self.met > 1:
                    raise

    store = MeetingItself()
    assert await probe(store, "marker", b"x")
    assert store.met == 2
