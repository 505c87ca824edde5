"""What the Azure store adds to the contract: what it sends, what errors mean, and what it keeps to itself."""

# A test may hold its own loop.

from __future__ import annotations

import asyncio
import base64
import gc
import logging
import re
import socket
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import azure.identity.aio as azure_identity
import pytest
from azure.core import AsyncPipelineClient
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from azure.core.rest import HttpRequest
from azure.identity.aio import DefaultAzureCredential
from azure.storage.blob import ContainerClient

from asyncpersist.errors import StateUnwritable, StoreUnavailable
from asyncpersist.objectstore.azure import blobs
from asyncpersist.objectstore.azure.store import AzureStore
from asyncpersist.objectstore.contract import KeyExists, KeyMissing, OutcomeUnknown, Throttled
from tests.amounts import PATIENCE
from tests.servers.azurite import ACCOUNT, KEY, Azurite

MIB = 1024 * 1024
SECRET = base64.b64encode(b"a very secret key").decode()
LARGE = bytes(range(256)) * (17 * 4096) + b"the end"


class Request(NamedTuple):
    """One request as a service gets it."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    raw: bytes

    @property
    def kind(self) -> str:
        return " ".join((self.method, *self.query.get("comp", [])))


Script = Callable[[Request], Awaitable[bytes | None]]
"""What a service does with a request: the bytes of its answer, nothing (b""), or None to ask the real service."""


class Service:
    """A service that answers from a script, and remembers what it was asked. Hangs up after each answer."""

    def __init__(self, script: Script, real: Azurite | None) -> None:
        self.requests: list[Request] = []
        self.address = ""
        self._script = script
        self._real = real
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def kinds(self) -> list[str]:
        return [request.kind for request in self.requests]

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.add(asyncio.create_task(self._serve(reader, writer)))

    async def aclose(self) -> None:
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode().split("\r\n")[:-2]
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            method, target, _ = first.split(" ")
            address = urlsplit(target)
            raw = head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + body
            request = Request(method, address.path, parse_qs(address.query), headers, raw)
            self.requests.append(request)
            answer = await self._script(request)
            writer.write(await self._ask(request) if answer is None else answer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            await closed(writer)

    async def _ask(self, request: Request) -> bytes:
        assert self._real is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", self._real.port)
        try:
            writer.write(request.raw)
            return await reader.read()
        finally:
            await closed(writer)


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


@asynccontextmanager
async def service(script: Script, real: Azurite | None = None) -> AsyncIterator[Service]:
    played = Service(script, real)
    server = await asyncio.start_server(played.accept, "127.0.0.1", 0, limit=1 << 20)
    played.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield played
    finally:
        server.close()
        await played.aclose()
        await server.wait_closed()


def answer(status: int, code: str = "", headers: str = "", detail: str = "", body: str = "") -> bytes:
    """What Azure says; without a code, what somebody else might say."""
    if code:
        body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>No.</Message><Detail>{detail}</Detail></Error>'
        headers += f"x-ms-error-code: {code}\r\nContent-Type: application/xml\r\nx-ms-request-id: request-1\r\n"
    return f"HTTP/1.1 {status} So\r\n{headers}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()


def always(what: bytes | None) -> Script:
    async def script(request: Request) -> bytes | None:
        return what

    return script


def at(address: str, *, account: str = ACCOUNT, container: str = "container", root: str = "root", key: str = KEY):
    return AzureStore(account, container, root, key=key, endpoint=address)


@asynccontextmanager
async def closing(*stores: AzureStore) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for store in stores:
            await store.aclose()


def client(azurite: Azurite, container: str) -> ContainerClient:
    return ContainerClient(azurite.endpoint, container, credential=KEY, retry_total=0)


def names(azurite: Azurite, container: str) -> list[str]:
    with client(azurite, container) as there:
        return list(there.list_blob_names())


# What it is made of


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"account": ""}, "no Azure storage account"),
        ({"account": "My-Account"}, "'My-Account' is no Azure storage account"),
        ({"account": "a/b?c"}, "no Azure storage account"),
        ({"container": "Upper"}, "'Upper' is no Azure container"),
        ({"container": "a--b"}, "no Azure container"),
        ({"container": "ab"}, "no Azure container"),
        ({"container": "a" * 64}, "no Azure container"),
        ({"container": "$root"}, "no Azure container"),
        ({"container": "abc\n"}, "no Azure container"),
        ({"root_path": "a//b"}, "'a//b' is no root path"),
        ({"root_path": "a/../b"}, "no root path"),
        ({"root_path": "a./b"}, "no root path"),
        ({"root_path": "a\\b"}, "no root path"),
        ({"root_path": "a\nb"}, "no root path"),
        ({"root_path": "a" * 513}, "no root path"),
        ({"endpoint": "127.0.0.1:10000"}, "no Azure endpoint"),
        ({"endpoint": "ftp://host"}, "no Azure endpoint"),
        ({"endpoint": "https://"}, "no Azure endpoint"),
        ({"endpoint": "http://host/account", "key": None}, "without a key the endpoint must be https://"),
    ],
)
def test_what_cannot_be_is_refused_at_once(wrong: dict[str, str | None], match: str) -> None:
    right = {"account": ACCOUNT, "container": "container", "root_path": "root", "key": KEY, "endpoint": None}
    with pytest.raises(ValueError, match=match):
        AzureStore(**{**right, **wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "key", ["", "  ", "hush!", "sv=2021&sig=hush", "AccountName=a;AccountKey=aHVzaA==", "aHVzaGh1c2g=x"]
)
def test_a_key_that_is_none_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(ValueError, match="not in base64") as caught:
        AzureStore(ACCOUNT, "container", "", key=key)
    assert not re.search("hush|aHVz", told(caught.value))


@pytest.mark.parametrize("endpoint", ["https://host/?sv=2021&sig=hush", "https://user:hush@host", "https://h#hush"])
def test_an_endpoint_with_a_secret_in_it_is_refused_without_showing_it(endpoint: str) -> None:
    with pytest.raises(ValueError, match="a query, a fragment or a user") as caught:
        AzureStore(ACCOUNT, "container", "", key=KEY, endpoint=endpoint)
    assert "hush" not in told(caught.value)


@pytest.mark.parametrize(
    ("endpoint", "address"),
    [
        (None, "https://account1.blob.core.windows.net"),
        ("https://account1.blob.core.usgovcloudapi.net/", "https://account1.blob.core.usgovcloudapi.net"),
        ("http://127.0.0.1:10000", "http://127.0.0.1:10000/account1"),
        ("http://127.0.0.1:10000/", "http://127.0.0.1:10000/account1"),
        ("http://127.0.0.1:10000/account1/", "http://127.0.0.1:10000/account1"),
        ("https://[::1]:10000", "https://[::1]:10000/account1"),
        ("http://localhost:10000", "http://localhost:10000/account1"),
        ("http://blobs.example.org", "http://blobs.example.org"),
    ],
)
def test_the_account_is_appended_where_the_host_cannot_name_it(endpoint: str | None, address: str) -> None:
    assert f"endpoint='{address}'" in repr(AzureStore("account1", "container", "/root/", key=KEY, endpoint=endpoint))


def test_a_store_names_its_container_and_its_prefix() -> None:
    assert AzureStore(ACCOUNT, "container", "/a/b/", key=KEY).describe() == "az://container/a/b"
    assert AzureStore(ACCOUNT, "container", "", key=KEY).describe() == "az://container"


def test_making_a_store_loads_nothing_of_the_vendor() -> None:
    made = (
        "import sys; from asyncpersist.objectstore.azure.store import AzureStore\n"
        "AzureStore('account', 'box', '', key=None)\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('azure', 'aiohttp')])"
    )
    assert subprocess.run([sys.executable, "-c", made], capture_output=True, check=True, text=True).stdout == "[]\n"


async def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name.startswith("asyncpersist.objectstore.azure.") and not name.endswith((".place", ".store")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "azure.storage.blob", None)
    store = AzureStore(ACCOUNT, "container", "", key=KEY)
    for _ in range(2):
        with pytest.raises(ImportError, match=r'pip install "asyncpersist\[azure\]"'):
            await store.get("a")
    await store.aclose()


# What it sends


async def test_a_root_is_a_folder_and_no_more(azurite: Azurite) -> None:
    container = azurite.new_container()
    stores = [at(azurite.url, container=container, root=root) for root in ("", "a", "a b/ü+%41", "ab")]
    async with closing(*stores):
        for store in stores:
            await store.put("x/1", store.describe().encode())
        everything, a, odd, _ = stores
        assert names(azurite, container) == ["a b/ü+%41/x/1", "a/x/1", "ab/x/1", "x/1"]
        assert [entry.key for entry in await a.list()] == ["x/1"]
        assert [entry.key for entry in await odd.list("x")] == ["x/1"]
        assert [entry.key for entry in await everything.list("a")] == ["a b/ü+%41/x/1", "a/x/1", "ab/x/1"]
        assert await odd.get("x/1") == odd.describe().encode()
        await odd.delete(["x/1"])
        assert names(azurite, container) == ["a/x/1", "ab/x/1", "x/1"]


async def test_large_objects_go_up_in_blocks(azurite: Azurite) -> None:
    container = azurite.new_container()
    store = at(azurite.url, container=container)
    async with closing(store):
        await store.put("small", LARGE[: 16 * MIB])
        await store.put("large", b"something else")
        await store.put("large", LARGE)
        assert await store.get("large") == LARGE
        assert await store.get_range("large", 8 * MIB - 3, 16 * MIB + 5) == LARGE[8 * MIB - 3 : 16 * MIB + 5]
        assert await store.get_range("large", len(LARGE) + 5, len(LARGE) + 6) == b""
        await store.create("created", LARGE)
    with client(azurite, container) as there:
        blocks = {
            key: [block.size for block in there.get_blob_client(f"root/{key}").get_block_list("all")[0]]
            for key in ("small", "large", "created")
        }
    assert blocks == {"small": [], "large": [8 * MIB, 8 * MIB, MIB + 7], "created": []}


async def test_large_objects_written_at_the_same_time_stay_whole(azurite: Azurite) -> None:
    container = azurite.new_container()
    stores = [at(azurite.url, container=container) for _ in range(3)]
    contents = [bytes([n]) * (17 * MIB) for n in range(3)]
    async with closing(*stores):
        results = await asyncio.gather(
            *(store.put("a", data) for store, data in zip(stores, contents, strict=True)), return_exceptions=True
        )
        assert all(result is None or isinstance(result, StoreUnavailable) for result in results)
        assert None in results
        assert await stores[0].get("a") in contents


async def test_a_large_object_cancelled_halfway_leaves_nothing_and_can_be_put_again(azurite: Azurite) -> None:
    container = azurite.new_container()
    halfway = asyncio.Event()

    async def script(request: Request) -> bytes | None:
        if len(played.requests) >= 3:
            halfway.set()
            await asyncio.Event().wait()
        return None

    store = at(azurite.url, container=container)
    async with service(script, azurite) as played, closing(store):
        slow = at(played.address, container=container)
        async with closing(slow):
            putting = asyncio.create_task(slow.put("a", LARGE))
            await halfway.wait()
            putting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await putting
            assert played.kinds == ["PUT block"] * 3
        assert await store.list() == []
        await store.put("a", LARGE)
        assert await store.get("a") == LARGE


async def test_a_cancelled_put_leaves_the_store_usable(azurite: Azurite) -> None:
    container = azurite.new_container()
    begun = asyncio.Event()
    go = asyncio.Event()

    async def script(request: Request) -> bytes | None:
        begun.set()
        await go.wait()
        return None

    async with service(script, azurite) as played:
        store = at(played.address, container=container)
        async with closing(store):
            putting = asyncio.create_task(store.put("a", b"1" * MIB))
            await begun.wait()
            putting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await putting
            go.set()
            await store.put("b", b"2")
            assert await store.get("b") == b"2"


async def test_listings_are_paged_through(azurite: Azurite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "_PAGE", 3)
    container = azurite.new_container()
    async with service(always(None), azurite) as played:
        store = at(played.address, container=container)
        async with closing(store):
            keys = [f"objects/{n:02d}" for n in range(10)]
            await store.put("other", b"")
            for key in keys:
                await store.put(key, key.encode())
            played.requests.clear()
            assert await store.list("objects/") == [(key, len(key)) for key in keys]
            assert played.kinds == ["GET list"] * 4
            assert len(await store.list(limit=5)) == 5
            assert len(await store.list("objects/", limit=10)) == 10
            assert await store.list(limit=0) == []


async def test_directories_are_no_objects(azurite: Azurite) -> None:
    """As accounts with a hierarchical namespace list them."""
    container = azurite.new_container()
    with client(azurite, container) as there:
        there.upload_blob("root/a", b"", metadata={"hdi_isfolder": "true"})
        there.upload_blob("root/a/b", b"x", metadata={"mine": "true"})
    store = at(azurite.url, container=container)
    async with closing(store):
        assert await store.list(limit=1) == [("a/b", 1)]


async def test_deletions_run_sixteen_at_once(azurite: Azurite) -> None:
    container = azurite.new_container()
    enough, go = asyncio.Event(), asyncio.Event()

    async def script(request: Request) -> bytes | None:
        if request.method == "DELETE":
            if played.kinds.count("DELETE") == 16:
                enough.set()
            await go.wait()
        return None

    store = at(azurite.url, container=container)
    async with service(script, azurite) as played, closing(store):
        for n in range(20):
            await store.put(f"{n}", b"x")
        through = at(played.address, container=container)
        async with closing(through):
            deleting = asyncio.create_task(through.delete(str(n) for n in range(40)))
            await enough.wait()
            # Whatever was sent before this has arrived before it.
            assert await through.get("0") == b"x"
            assert played.kinds == ["DELETE"] * 16 + ["GET"]
            go.set()
            await deleting
        assert played.kinds.count("DELETE") == 40
        assert await store.list() == []


async def test_a_deletion_that_fails_ends_the_others() -> None:
    async def script(request: Request) -> bytes | None:
        return answer(403, "AuthorizationFailure") if request.path.endswith("/3") else answer(202)

    async with service(script) as played:
        store = at(played.address)
        async with closing(store):
            with pytest.raises(StateUnwritable, match="3 cannot be deleted"):
                await store.delete(map(str, range(100)))
            sent = len(played.requests)
            assert sent < 100
            await asyncio.sleep(0)
            assert len(played.requests) == sent


async def test_nothing_is_deleted_where_a_key_is_none() -> None:
    async with service(always(answer(202))) as played:
        store = at(played.address)
        async with closing(store):
            with pytest.raises(ValueError, match="no object key"):
                await store.delete(["a", "../b"])
        assert played.requests == []


async def test_the_proxy_of_the_environment_is_used_and_netrc_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with service(always(answer(201))) as played:
        monkeypatch.setenv("http_proxy", played.address)
        store = at("http://blobs.example.org")
        async with closing(store):
            await store.put("k", b"x")
    (request,) = played.requests
    assert request.headers["host"] == "blobs.example.org"
    assert request.headers["authorization"].startswith(f"SharedKey {ACCOUNT}:")


# What the service's errors mean

CALLS: dict[str, Callable[[AzureStore], Awaitable[object]]] = {
    "create": lambda store: store.create("k", b"x"),
    "put": lambda store: store.put("k", b"x"),
    "delete": lambda store: store.delete(["k"]),
    "get": lambda store: store.get("k"),
    "get_range": lambda store: store.get_range("k", 1, 2),
    "list": lambda store: store.list(),
    "check_writable": lambda store: store.check_writable(),
}
WRITES = {"create", "put", "delete"}


async def failure(store: AzureStore, call: str) -> Exception:
    async with closing(store):
        with pytest.raises(Exception) as caught:  # noqa: PT011 (the callers look)
            await CALLS[call](store)
    return caught.value


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("status", "code", "error", "match"),
    [
        (403, "AuthenticationFailed", StateUnwritable, f"account {ACCOUNT} refuses the key.*clock"),
        (403, "AuthorizationFailure", StateUnwritable, "refuses the key.*network rules"),
        (403, "AuthorizationPermissionMismatch", StateUnwritable, "Storage Blob Data Contributor"),
        (403, "KeyBasedAuthenticationNotPermitted", StateUnwritable, "does not allow account keys"),
        (403, "AccountIsDisabled", StateUnwritable, f"account {ACCOUNT} is disabled"),
        (403, "", StateUnwritable, "Check that it is the endpoint"),
        (404, "ContainerNotFound", StateUnwritable, f"account {ACCOUNT} has no container container. Create it"),
        (404, "ResourceNotFound", StateUnwritable, "refused .404 ResourceNotFound, request request-1"),
        (404, "", StateUnwritable, "Check that it is the endpoint"),
        (409, "ContainerBeingDeleted", StateUnwritable, "is being deleted"),
        (400, "InvalidResourceName", StateUnwritable, "does not take the name"),
        (400, "InvalidHeaderValue", StateUnwritable, "InvalidHeaderValue"),
        (301, "", StateUnwritable, "Check that it is the endpoint"),
        (409, "AccountBeingCreated", StoreUnavailable, "for now"),
        (409, "", StoreUnavailable, "for now"),
    ],
)
async def test_what_was_refused_was_not_done(
    call: str, status: int, code: str, error: type[Exception], match: str
) -> None:
    async with service(always(answer(status, code))) as played:
        exc = await failure(at(played.address), call)
    assert type(exc) is error
    assert str(exc).startswith("az://container/root: ")
    assert re.search(match, str(exc))
    assert len(played.requests) == 1


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("status", "code", "headers", "seconds"),
    [
        (503, "ServerBusy", "", None),
        (503, "ServerBusy", "Retry-After: 7\r\n", 7),
        (503, "ServerBusy", "Retry-After: Wed, 21 Oct 2037 07:28:00 GMT\r\n", None),
        (429, "", "Retry-After: 2\r\n", 2),
    ],
)
async def test_a_busy_service_says_how_long_to_wait(
    call: str, status: int, code: str, headers: str, seconds: float | None
) -> None:
    async with service(always(answer(status, code, headers))) as played:
        exc = await failure(at(played.address), call)
    assert isinstance(exc, Throttled)
    assert exc.retry_after == seconds
    assert len(played.requests) == 1


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "what",
    [
        pytest.param(answer(500, "InternalError"), id="500"),
        pytest.param(answer(500, "OperationTimedOut"), id="timed out"),
        pytest.param(answer(502), id="502"),
        pytest.param(answer(503), id="503 of somebody in between"),
        pytest.param(answer(504), id="504"),
        pytest.param(answer(408), id="408"),
        pytest.param(b"", id="hung up"),
        pytest.param(b"HTTP/1.1 20", id="hung up amid the head"),
        pytest.param(b"ICY 200 OK\r\n\r\n", id="not HTTP"),
    ],
)
async def test_a_lost_answer_leaves_a_write_in_doubt_and_nothing_is_sent_twice(call: str, what: bytes) -> None:
    async with service(always(what)) as played:
        exc = await failure(at(played.address), call)
    assert type(exc) is (OutcomeUnknown if call in WRITES else StoreUnavailable)
    assert len(played.requests) == 1


@pytest.mark.parametrize("call", ["get", "get_range", "list", "check_writable"])
async def test_somebody_else_who_answers_is_not_taken_for_azure(call: str) -> None:
    page = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\nConnection: close\r\n\r\n<p>Hello</p>\r\n"
    )
    async with service(always(page)) as played:
        exc = await failure(at(played.address), call)
    assert type(exc) is StoreUnavailable
    assert "makes sense" in str(exc)


async def test_a_created_object_whose_answer_was_lost_is_not_reported_to_exist(azurite: Azurite) -> None:
    container = azurite.new_container()

    async def script(request: Request) -> bytes | None:
        if request.method != "PUT":
            return None
        await played._ask(request)
        return b""

    async with service(script, azurite) as played:
        store = at(played.address, container=container)
        async with closing(store):
            for data in (b"", b"x", b"y" * MIB):
                key = f"k{len(data)}"
                with pytest.raises(OutcomeUnknown):
                    await store.create(key, data)
                assert await store.get(key) == data
        assert played.kinds.count("PUT") == 3


@pytest.mark.parametrize(("status", "code"), [(409, "BlobAlreadyExists"), (412, "ConditionNotMet"), (412, "")])
async def test_a_conflict_is_an_object_that_exists(status: int, code: str) -> None:
    async with service(always(answer(status, code))) as played:
        assert type(await failure(at(played.address), "create")) is KeyExists
    assert [request.headers["if-none-match"] for request in played.requests] == ["*"]


@pytest.mark.parametrize(
    ("call", "code", "match"),
    [
        ("put", "BlobImmutableDueToPolicy", "immutability policy"),
        ("delete", "BlobImmutableDueToLegalHold", "legal hold"),
        ("get", "BlobArchived", "archive tier"),
        ("put", "LeaseIdMissing", "leased by somebody else"),
    ],
)
async def test_a_protected_blob_is_named(call: str, code: str, match: str) -> None:
    async with service(always(answer(409, code))) as played:
        exc = await failure(at(played.address), call)
    assert type(exc) is StateUnwritable
    assert re.search(f"k cannot be .*{match}", str(exc))


async def test_a_blob_that_is_missing_is_certain() -> None:
    async with service(always(answer(404, "BlobNotFound"))) as played:
        for call in ("get", "get_range"):
            assert type(await failure(at(played.address), call)) is KeyMissing
        store = at(played.address)
        async with closing(store):
            await store.delete(["k"])


@pytest.mark.parametrize("what", [answer(500, "InternalError"), b""])
async def test_a_large_object_is_in_doubt_only_once_it_is_committed(what: bytes) -> None:
    fails = {"PUT block"}

    async def script(request: Request) -> bytes | None:
        return what if request.kind in fails else answer(201)

    async with service(script) as played:
        store = at(played.address)
        async with closing(store):
            with pytest.raises(StoreUnavailable) as caught:
                await store.put("k", LARGE)
            assert type(caught.value) is StoreUnavailable
            assert "PUT blocklist" not in played.kinds
            fails.add("PUT blocklist")
            fails.discard("PUT block")
            played.requests.clear()
            with pytest.raises(OutcomeUnknown):
                await store.put("k", LARGE)
            assert played.kinds == ["PUT block"] * 3 + ["PUT blocklist"]


async def test_blocks_that_another_upload_took_away_are_uploaded_again_another_time() -> None:
    async def script(request: Request) -> bytes | None:
        return answer(400, "InvalidBlockList") if request.kind == "PUT blocklist" else answer(201)

    async with service(script) as played:
        store = at(played.address)
        async with closing(store):
            with pytest.raises(StoreUnavailable, match="for now"):
                await store.put("k", LARGE)


async def test_half_an_object_is_none() -> None:
    head = b"HTTP/1.1 206 So\r\nContent-Length: 10\r\nContent-Range: bytes 0-9/10\r\nConnection: close\r\n\r\n"
    async with service(always(head + b"12345")) as played:
        exc = await failure(at(played.address), "get")
    assert type(exc) is StoreUnavailable


@pytest.mark.parametrize(
    ("call", "error"), [("create", OutcomeUnknown), ("put", OutcomeUnknown), ("put large", StoreUnavailable)]
)
async def test_a_service_that_takes_no_more_is_given_up(
    call: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs, "_SECONDS", 0.1)
    monkeypatch.setattr(blobs, "_BYTES_A_SECOND", 1e12)
    writers = []

    async def take_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    server = await asyncio.start_server(take_nothing, "127.0.0.1", 0)
    store = at(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    async with asyncio.timeout(PATIENCE), closing(store):
        with pytest.raises(error, match="took too long") as caught:
            await getattr(store, call.split(maxsplit=1)[0])("k", LARGE if call.endswith("large") else LARGE[: 16 * MIB])
    assert type(caught.value) is error
    server.close()
    for writer in writers:
        await closed(writer)


@pytest.mark.parametrize("call", CALLS)
async def test_nobody_there_is_no_doubt(call: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    exc = await failure(at(f"http://127.0.0.1:{port}"), call)
    assert type(exc) is StoreUnavailable
    assert f"127.0.0.1:{port}" in str(exc)


@pytest.mark.parametrize("call", ["check_writable", "put"])
async def test_an_unknown_host_asks_after_the_account(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    exc = await failure(AzureStore("acount1", "container", "root", key=KEY), call)
    assert type(exc) is StoreUnavailable
    assert "the host acount1.blob.core.windows.net is unknown. Is the account called acount1?" in str(exc)


async def test_somebody_who_speaks_no_tls_is_named(azurite: Azurite) -> None:
    exc = await failure(at(azurite.url.replace("http:", "https:")), "put")
    assert type(exc) is StateUnwritable
    assert f"127.0.0.1:{azurite.port}" in str(exc)
    assert "TLS" in str(exc)


async def test_a_store_without_credentials_says_how_to_give_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    store = AzureStore(ACCOUNT, "container", "root", key=None, endpoint="https://127.0.0.1:9")
    exc = await failure(store, "check_writable")
    assert type(exc) is StateUnwritable
    assert re.search(f"no token for the account {ACCOUNT}.*az login", str(exc))


async def test_credentials_that_are_refused_are_not_a_refusal_of_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    body = '{"error": "invalid_client", "error_description": "AADSTS7000215"}'

    class Refused(DefaultAzureCredential):
        async def get_token(self, *scopes: str, **kwargs: object) -> AccessToken:
            async with (
                service(always(answer(401, body=body))) as authority,
                AsyncPipelineClient(authority.address) as asking,
            ):
                response = await asking.send_request(HttpRequest("GET", authority.address), stream=False)
                raise ClientAuthenticationError("AADSTS7000215", response=response)

        get_token_info = get_token

    monkeypatch.setattr(azure_identity, "DefaultAzureCredential", Refused)
    exc = await failure(AzureStore(ACCOUNT, "container", "", key=None, endpoint="https://127.0.0.1:9"), "put")
    assert type(exc) is StateUnwritable
    assert "no token for the account" in str(exc)
    assert "AADSTS7000215" in told(exc)


@pytest.mark.parametrize("call", CALLS)
async def test_a_wrong_container_and_a_wrong_key_are_found_at_the_first_call(call: str, azurite: Azurite) -> None:
    container = azurite.new_container()
    exc = await failure(at(azurite.url, container="missing"), call)
    assert type(exc) is StateUnwritable
    assert "no container missing" in str(exc)
    exc = await failure(at(azurite.url, container=container, key=SECRET), call)
    assert type(exc) is StateUnwritable
    assert "refuses the key" in str(exc)
    exc = await failure(at(azurite.url, account="somebodyelse", container=container), call)
    assert type(exc) is StateUnwritable
    assert "somebodyelse" in str(exc)


# What it keeps to itself


def told(exc: BaseException) -> str:
    """All that a traceback of the error shows, and all that is in what it came from."""
    shown = "".join(traceback.format_exception(exc))
    cause = exc.__cause__
    while cause is not None:
        shown += f"{cause!r} {cause} {vars(cause)}"
        cause = cause.__cause__
    return shown


async def test_secrets_are_in_no_error_and_no_log(azurite: Azurite, caplog: pytest.LogCaptureFixture) -> None:
    container = azurite.new_container()
    shown = []

    async def script(request: Request) -> bytes | None:
        signature = request.headers["authorization"].rpartition(":")[2]
        detail = f"The MAC signature found in the HTTP request '{signature}' is not the same as any computed signature."
        return answer(403, "AuthenticationFailed", detail=detail) if request.path.startswith("/else") else None

    caplog.set_level(logging.DEBUG)
    async with service(script, azurite) as played:
        for account, key in ((ACCOUNT, KEY), (ACCOUNT, SECRET), ("elsewhere", SECRET)):
            store = at(played.address, account=account, container=container, key=key)
            shown += [repr(store), repr(vars(store)), store.describe()]
            async with closing(store):
                for call in CALLS.values():
                    try:
                        await call(store)
                    except (KeyMissing, StateUnwritable) as exc:
                        shown.append(told(exc))
        signatures = {request.headers["authorization"].rpartition(":")[2] for request in played.requests}
    assert len(signatures) > 10
    everything = "\n".join(shown) + caplog.text
    assert not [secret for secret in {KEY, SECRET, *signatures} if secret in everything]


async def test_requests_are_not_logged_unless_asked_for(azurite: Azurite, caplog: pytest.LogCaptureFixture) -> None:
    store = at(azurite.url, container=azurite.new_container())
    caplog.set_level(logging.INFO)
    async with closing(store):
        await store.put("a", b"x")
        await store.get("a")
    assert caplog.records == []


# How it ends


async def test_closing_waits_for_what_is_under_way_and_leaves_nothing_open(azurite: Azurite) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def script(request: Request) -> bytes | None:
        begun.set()
        await go.wait()
        return None

    container = azurite.new_container()
    async with service(script, azurite) as played:
        store = at(played.address, container=container)
        putting = asyncio.create_task(store.put("a", b"x"))
        await begun.wait()
        closings = [asyncio.create_task(store.aclose()) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable, match="has been closed"):
            await store.get("a")
        assert not any(task.done() for task in closings)
        go.set()
        await asyncio.gather(putting, *closings)
    await store.aclose()
    for call in CALLS.values():
        with pytest.raises(StoreUnavailable, match="has been closed"):
            await call(store)
    del store, closings, putting
    gc.collect()
    assert names(azurite, container) == ["root/a"]


def test_a_store_is_for_one_event_loop(azurite: Azurite) -> None:
    store = at(azurite.url, container=azurite.new_container())
    with asyncio.Runner() as its_own, asyncio.Runner() as another:
        its_own.run(store.put("a", b"1"))
        for started in (store.get("a"), store.create("b", b"1"), store.list(), store.delete(["a"]), store.aclose()):
            with pytest.raises(RuntimeError, match=r"belongs to another event loop.* for each loop.*Backend\.azure"):
                another.run(started)
        assert its_own.run(store.get("a")) == b"1"
        its_own.run(store.aclose())
        another.run(store.aclose())


async def test_a_store_that_was_never_used_closes() -> None:
    store = at("http://127.0.0.1:9")
    await store.aclose()
    await store.aclose()
