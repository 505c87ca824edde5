"""Places for the tests of modes."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncpersist.persistence import Backend
from tests import amounts
from tests.modes.pieces import Place
from tests.servers import azurite as azure
from tests.servers.azurite import Azurite
from tests.servers.moto import Moto

STORES = ["memory", "filesystem"]
EVERYWHERE = STORES if amounts.EVERYWHERE else STORES[:1]
"""Where the kind of store makes no difference."""


def _place(kind: str, path: Path) -> Place:
    return Place(path, Backend.memory() if kind == "memory" else Backend.filesystem(path / "state"))


@pytest.fixture(params=STORES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return _place(request.param, tmp_path)


@pytest.fixture(params=EVERYWHERE)
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return _place(request.param, tmp_path)


@pytest.fixture(params=["s3", "azure"])
def remote_place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "s3":
        moto: Moto = request.getfixturevalue("moto")
        return Place(tmp_path, Backend.s3("some/where", moto.settings(moto.new_bucket())))
    server: Azurite = request.getfixturevalue("azurite")
    container = server.new_container()
    return Place(tmp_path, Backend.azure("some/where", azure.ACCOUNT, azure.KEY, container, endpoint=server.endpoint))
