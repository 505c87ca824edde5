"""What holds for all tests: no hurry, nobody's credentials, and servers that start when a test first asks for them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.examples import examples
from tests.servers.azurite import Azurite
from tests.servers.moto import Moto
from tests.servers.s3rver import S3rver
from tests.servers.stores import StorePlaces

settings.register_profile("unhurried", examples(50))
settings.load_profile("unhurried")


@pytest.fixture(scope="session", autouse=True)
def _nobodys_credentials() -> Iterator[None]:
    """No test meets the credentials, the settings or the proxies of whoever runs it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("AWS_", "AZURE_")):
                patch.delenv(name)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        patch.setenv("NO_PROXY", "127.0.0.1,localhost")
        patch.setenv("no_proxy", "127.0.0.1,localhost")
        yield


@pytest.fixture(scope="session")
def moto() -> Iterator[Moto]:
    """The S3 server of all tests; each makes itself a bucket with `new_bucket()`."""
    with Moto() as server:
        yield server


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """The Azure server of all tests; each makes itself a container with `new_container()`."""
    with Azurite() as server:
        yield server


@pytest.fixture(scope="session")
def s3rver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3rver]:
    """An S3 server that does not honour create-if-absent."""
    with S3rver(tmp_path_factory.mktemp("s3rver")) as server:
        yield server


@pytest.fixture
def own_moto() -> Iterator[Moto]:
    """An S3 server of the test's own, to be paused or killed; killed, it has lost everything."""
    with Moto() as server:
        yield server


@pytest.fixture
def own_azurite(tmp_path: Path) -> Iterator[Azurite]:
    """An Azure server of the test's own, to be paused, killed and started again; it keeps what it was given."""
    with Azurite(tmp_path / "azurite") as server:
        yield server


@pytest.fixture
async def store_places(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StorePlaces]:
    """Makes empty places for stores of every kind, and closes the stores that were opened there."""
    places = StorePlaces(tmp_path / "stores", request.getfixturevalue)
    yield places
    await places.aclose()
