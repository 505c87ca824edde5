"""Places for the tests of modes."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncpersist.persistence import Backend
from tests.modes.pieces import Place
from tests.servers import azurite as azure
from tests.servers.azurite import Azurite
from tests.servers.moto import Moto


@pytest.fixture(params=["memory", "filesystem"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    memory = request.param == "memory"
    return Place(tmp_path, Backend.memory() if memory else Backend.filesystem(tmp_path / "state"))


@pytest.fixture
def in_memory(tmp_path: Path) -> Place:
    """Where the kind of store makes no difference."""
    return Place(tmp_path, Backend.memory())


@pytest.fixture(params=["s3", "azure"])
def remote_place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "s3":
        moto: Moto = request.getfixturevalue("moto")
        return Place(tmp_path, Backend.s3("some/where", moto.settings(moto.new_bucket())))
    server: Azurite = request.getfixturevalue("azurite")
    container = server.new_container()
    return Place(tmp_path, Backend.azure("some/where", azure.ACCOUNT, azure.KEY, container, endpoint=server.endpoint))
