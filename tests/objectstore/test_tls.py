"""S3 and Azure over HTTPS, with an authority that only these tests know."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncpersist.errors import StateUnwritable, StoreUnavailable
from asyncpersist.objectstore.azure.store import AzureStore
from asyncpersist.objectstore.contract import KeyExists, ObjectStore
from asyncpersist.objectstore.s3.store import S3Store
from tests.amounts import PATIENCE
from tests.servers import azurite
from tests.servers.azurite import Azurite
from tests.servers.certificates import Certificates, make_certificates
from tests.servers.moto import Moto


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Of an authority that signed nothing of the servers'."""
    return make_certificates(tmp_path_factory.mktemp("strangers"))


@pytest.fixture(scope="module")
def tls_moto(certificates: Certificates) -> Iterator[Moto]:
    with Moto(certificate=certificates.certificate, key=certificates.key, authority=certificates.authority) as server:
        yield server


@pytest.fixture(scope="module")
def tls_azurite(certificates: Certificates) -> Iterator[Azurite]:
    with Azurite(
        certificate=certificates.certificate, key=certificates.key, authority=certificates.authority
    ) as server:
        yield server


async def round_trip(store: ObjectStore) -> None:
    """Small objects, one that is created only if absent, and one that goes up in parts."""
    large = random.Random(1).randbytes(17 * 2**20)
    try:
        async with asyncio.timeout(PATIENCE):
            await store.check_writable()
            await store.create("manifests/1.json", b"{}")
            with pytest.raises(KeyExists):
                await store.create("manifests/1.json", b"{}")
            await store.put("objects/small", b"small")
            await store.put("objects/large", large)
            assert await store.get("objects/large") == large
            assert await store.get_range("objects/large", 2**23 - 3, 2**23 + 3) == large[2**23 - 3 : 2**23 + 3]
            assert [entry.key for entry in await store.list("objects/")] == ["objects/large", "objects/small"]
            await store.delete(["objects/small"])
            assert await store.list() == [("manifests/1.json", 2), ("objects/large", len(large))]
    finally:
        await store.aclose()


async def refusal(store: ObjectStore) -> str:
    """What is said to a run that starts, within a bounded time."""
    try:
        async with asyncio.timeout(PATIENCE):
            with pytest.raises((StoreUnavailable, StateUnwritable)) as caught:
                await store.check_writable()
    finally:
        await store.aclose()
    return str(caught.value)


async def test_s3(tls_moto: Moto, certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificates.authority))
    settings = tls_moto.settings(tls_moto.new_bucket())
    assert str(settings.endpoint).startswith("https://")
    await round_trip(S3Store(settings, "some/where"))


@pytest.mark.parametrize("bundle", ["another authority's", "the system's"])
async def test_s3_with_a_certificate_that_is_not_trusted(
    tls_moto: Moto, strangers: Certificates, bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if bundle == "another authority's":
        monkeypatch.setenv("AWS_CA_BUNDLE", str(strangers.authority))
    said = await refusal(S3Store(tls_moto.settings(tls_moto.new_bucket()), "some/where"))
    assert tls_moto.url in said
    assert "certificate" in said


def test_azure(tls_azurite: Azurite, certificates: Certificates) -> None:
    """In a process of its own: what `SSL_CERT_FILE` says is taken in when Python's packages are imported."""
    program = f"""
import asyncio
from asyncpersist.objectstore.azure.store import AzureStore
from tests.objectstore.test_tls import round_trip
asyncio.run(round_trip(AzureStore(
    {azurite.ACCOUNT!r}, {tls_azurite.new_container()!r}, "some/where",
    key={azurite.KEY!r}, endpoint={tls_azurite.endpoint!r},
)))
"""
    subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"SSL_CERT_FILE": str(certificates.authority)},
        check=True,
        timeout=PATIENCE,
    )


async def test_azure_with_a_certificate_that_is_not_trusted(tls_azurite: Azurite) -> None:
    store = AzureStore(azurite.ACCOUNT, "container", "some/where", key=azurite.KEY, endpoint=tls_azurite.endpoint)
    said = await refusal(store)
    assert tls_azurite.endpoint in said
    assert "certificate" in said
