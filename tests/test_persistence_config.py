"""What a user may pass as `persistence_config`, and what is said of the rest."""

# A test may hold its own loop.

from __future__ import annotations

import base64
import dataclasses
from datetime import timedelta
from pathlib import Path

import pytest

from asyncpersist.disk import Disk
from asyncpersist.objectstore.filesystem import FilesystemStore
from asyncpersist.objectstore.memory import MemoryStore
from asyncpersist.objectstore.s3.settings import AwsS3Settings
from asyncpersist.persistence import Backend, Config, PersistenceMode, SnapshotAccess

M, A = PersistenceMode, SnapshotAccess
BACKEND = Backend.memory()
REPLAYING = {M.BATCH, M.SPEEDRUN_REPLAY, M.REALTIME_REPLAY}


def test_defaults() -> None:
    config = Config(BACKEND)
    assert (config.snapshot_interval_ms, config.snapshot_access, config.persistence_mode) == (0, A.FULL, M.PERSISTING)
    assert (config.continue_after_replay, config.retain_snapshots, config.retain_for) == (True, 10, None)
    assert (config.on_graph_change, config.on_schema_change, config.compression) == (None, "reject", "zstd")


def test_it_is_frozen_and_its_settings_are_by_keyword() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config(BACKEND).snapshot_interval_ms = 5  # type: ignore[misc]
    with pytest.raises(TypeError):
        Config(BACKEND, 1000)  # type: ignore[misc]
    with pytest.raises(TypeError):
        Config()  # type: ignore[call-arg]


@pytest.mark.parametrize("access", A)
@pytest.mark.parametrize("mode", M)
def test_which_modes_and_accesses_go_together(mode: M, access: A) -> None:
    valid = {
        A.FULL: set(M),
        A.RECORD: REPLAYING | {M.PERSISTING},
        A.REPLAY: REPLAYING | {M.PERSISTING},
        A.OFFSETS_ONLY: {M.PERSISTING, M.SELECTIVE_PERSISTING},
    }
    if mode in valid[access]:
        config = Config(BACKEND, persistence_mode=mode, snapshot_access=access)
        assert (config.persistence_mode, config.snapshot_access) == (mode, access)
    else:
        with pytest.raises(
            ValueError, match=rf"{access.name} does not go with .*{mode.name}; it goes with .*PERSISTING"
        ):
            Config(BACKEND, persistence_mode=mode, snapshot_access=access)


@pytest.mark.parametrize("mode", M)
def test_ending_with_the_replay_needs_a_replay(mode: M) -> None:
    if mode in REPLAYING:
        assert not Config(BACKEND, persistence_mode=mode, continue_after_replay=False).continue_after_replay
    else:
        with pytest.raises(ValueError, match="continue_after_replay=False goes with"):
            Config(BACKEND, persistence_mode=mode, continue_after_replay=False)
    Config(BACKEND, snapshot_access=A.REPLAY, continue_after_replay=False)


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"snapshot_interval_ms": -1}, ValueError, "at least 0"),
        ({"snapshot_interval_ms": 10**400}, ValueError, "at most 315360000000, which is ten years"),
        ({"snapshot_interval_ms": 315_360_000_001}, ValueError, "ten years"),
        ({"snapshot_interval_ms": 1.5}, TypeError, "snapshot_interval_ms must be of type int, not float"),
        ({"snapshot_interval_ms": True}, TypeError, "int, not bool"),
        ({"snapshot_access": "full"}, TypeError, "SnapshotAccess"),
        ({"persistence_mode": "PERSISTING"}, TypeError, "PersistenceMode"),
        ({"continue_after_replay": 0}, TypeError, "bool"),
        ({"retain_snapshots": 0}, ValueError, "at least 1"),
        ({"retain_snapshots": "10"}, TypeError, "int"),
        ({"retain_for": 60}, TypeError, "timedelta"),
        ({"retain_for": timedelta(-1)}, ValueError, "negative"),
        ({"on_graph_change": "ignore"}, ValueError, "'replay', 'reject'"),
        ({"on_schema_change": "ignore"}, ValueError, "'reject', 'reread'"),
        ({"compression": "gzip"}, ValueError, "'zstd', 'lz4', 'uncompressed'"),
    ],
)
def test_what_is_not_allowed_is_said(settings, error, says) -> None:
    with pytest.raises(error, match=says):
        Config(BACKEND, **settings)


def test_a_backend_is_required() -> None:
    with pytest.raises(TypeError, match="backend must be of type Backend, not str"):
        Config("state")  # type: ignore[arg-type]


def test_the_deprecated_spelling_works_and_warns() -> None:
    with pytest.warns(DeprecationWarning, match="use Config"):
        config = Config.simple_config(BACKEND, 100, A.REPLAY, M.BATCH, False)
    assert config == Config(
        BACKEND,
        snapshot_interval_ms=100,
        snapshot_access=A.REPLAY,
        persistence_mode=M.BATCH,
        continue_after_replay=False,
    )


def test_what_a_changed_graph_gets() -> None:
    assert Config(BACKEND).graph_change == "replay"
    assert Config(BACKEND, persistence_mode=M.OPERATOR_PERSISTING).graph_change == "reject"
    assert Config(BACKEND, on_graph_change="reject").graph_change == "reject"
    assert Config(BACKEND, snapshot_access=A.OFFSETS_ONLY).graph_change == "reject"


async def test_the_filesystem_backend(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "state", "state"):
        backend = Backend.filesystem(path)
        store = backend.open_store(Disk())
        assert isinstance(store, FilesystemStore)
        assert store.describe() == str(tmp_path / "state")
        assert backend.owns_store
        assert backend.fs_path == path
    assert list(tmp_path.iterdir()) == []
    for wrong, error in (
        (5, TypeError),
        ("", ValueError),
        (b"state", TypeError),
        ("a\0b", ValueError),
        ("s3://bucket/prefix", ValueError),
        ("az:/container", ValueError),
        ("\ud800", ValueError),
    ):
        with pytest.raises(error, match=r"Backend\.filesystem"):
            Backend.filesystem(wrong)  # type: ignore[arg-type]


async def test_memory_lives_as_long_as_its_backend() -> None:
    backend = Backend.memory()
    await backend.open_store(Disk()).put("a", b"x")
    assert await backend.open_store(Disk()).get("a") == b"x"
    assert not backend.owns_store
    assert await Backend.memory().open_store(Disk()).list() == []


def test_a_store_of_the_users_own() -> None:
    store = MemoryStore()
    assert Backend(store).open_store(Disk()).describe() == store.describe()
    with pytest.raises(TypeError, match="ObjectStore, not dict"):
        Backend({})


ACCOUNT_KEY = base64.b64encode(b"very secret indeed").decode()


async def test_a_strange_error_of_a_users_store_says_whose_it_is() -> None:
    class Strange(MemoryStore):
        async def put(self, key: str, data: bytes) -> None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        await Backend(Strange()).open_store(Disk()).put("objects/a", b"")
    assert "put('objects/a') of the object store memory" in caught.value.__notes__[0]


def test_a_backend_shows_where_it_is() -> None:
    assert repr(Backend.memory()) == "Backend('memory')"
    assert repr(Backend.filesystem("/some/where")) == "Backend('/some/where')"
    shown = repr(Backend.s3("root", AwsS3Settings(bucket_name="bucket"), single_writer=True))
    assert shown == "Backend('s3://bucket/root', single_writer=True)"


def test_an_s3_backend() -> None:
    settings = AwsS3Settings(bucket_name="bucket", access_key="AKIA", secret_access_key="hidden", region="eu-north-1")
    backend = Backend.s3("some/root", settings)
    store = backend.open_store(Disk())
    assert store.describe() == "s3://bucket/some/root"
    assert backend.owns_store
    assert backend.shortest_interval_ms == 100
    assert Backend.s3("s3://other/root", AwsS3Settings()).open_store(Disk()).describe() == "s3://other/root"
    for wrong, error in (
        ((5, settings), TypeError),
        (("root", object()), TypeError),
        (("", AwsS3Settings()), ValueError),
    ):
        with pytest.raises(error):
            Backend.s3(*wrong)  # type: ignore[arg-type]
    assert "hidden" not in repr(Config(backend)) + repr(backend.engine_data_storage) + repr(store)


def test_an_azure_backend() -> None:
    backend = Backend.azure("some/root", "account", ACCOUNT_KEY, "container", endpoint="http://127.0.0.1:10000")
    store = backend.open_store(Disk())
    assert store.describe() == "az://container/some/root"
    assert backend.owns_store
    assert backend.shortest_interval_ms == 100
    assert Backend.azure("", "account", None, "container").open_store(Disk()).describe() == "az://container"
    for wrong in ((5, "account", ACCOUNT_KEY, "container"), ("", "account", "no base64!", "container")):
        with pytest.raises((TypeError, ValueError)) as caught:
            Backend.azure(*wrong)  # type: ignore[arg-type]
        assert "no base64!" not in str(caught.value)
    assert ACCOUNT_KEY not in repr(Config(backend)) + repr(backend.engine_data_storage) + repr(store)


def test_a_single_writer_is_asked_for_by_name() -> None:
    assert not Backend.memory().single_writer
    assert Backend(MemoryStore(), single_writer=True).single_writer
    assert Backend.s3("s3://bucket", AwsS3Settings(), single_writer=True).single_writer
    with pytest.raises(TypeError, match="single_writer must be True or False, not 'yes'"):
        Backend(MemoryStore(), single_writer="yes")  # type: ignore[arg-type]


def test_no_secret_shows() -> None:
    class Vendor(MemoryStore):
        def __repr__(self) -> str:
            return "secret"

    assert "secret" not in repr(Config(Backend(Vendor())))
