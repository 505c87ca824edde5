"""What is S3's own: settings, messages, parts, prefixes, and what it is when an answer does not come."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import re
import sys
import traceback
import urllib.request
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

import asyncpersist as ap
from asyncpersist.errors import StateUnwritable, StoreUnavailable
from asyncpersist.objectstore.contract import Entry, KeyExists, KeyMissing, OutcomeUnknown, Throttled
from asyncpersist.objectstore.s3.settings import AwsS3Settings, split_s3_path
from asyncpersist.objectstore.s3.store import S3Store
from tests.amounts import PATIENCE
from tests.objectstore.scripted_s3 import Request, ScriptedS3, answer, listing, refused
from tests.servers.moto import Moto

MIB = 1 << 20
LARGE = bytes(range(256)) * (17 * MIB // 256) + b"the end"
BEGUN = answer(200, "<InitiateMultipartUploadResult><UploadId>U1</UploadId></InitiateMultipartUploadResult>")
PART = answer(200, ETag='"tag"')
DONE = answer(200, "<CompleteMultipartUploadResult><ETag>tag</ETag></CompleteMultipartUploadResult>")
SECRETS = {
    "access_key": "AKIAEXAMPLE7",
    "secret_access_key": "wJalrXUtn/K7+MDENG=",
    "session_token": "FwoGZXIvYXdzEJr//",
}


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedS3]:
    async with ScriptedS3().serving() as server:
        yield server


# Settings


def test_a_repr_says_which_secrets_are_set_and_not_what_they_are() -> None:
    settings = AwsS3Settings("bucket", endpoint="http://here:9000", **SECRETS)
    for text in (repr(settings), str(settings), f"{[settings]}", repr(S3Store(settings, "x"))):
        assert not [secret for secret in SECRETS.values() if secret in text]
    for name in SECRETS:
        assert f"{name}=<set>" in repr(settings)
    assert "bucket_name='bucket'" in repr(settings)
    assert "<set>" not in repr(AwsS3Settings("bucket"))


def test_settings_are_values_in_the_order_of_the_reference() -> None:
    settings = AwsS3Settings("bucket", "key", "secret", True, "eu-west-1", "https://s3.example", "token")
    assert settings == AwsS3Settings(
        bucket_name="bucket",
        access_key="key",
        secret_access_key="secret",
        with_path_style=True,
        region="eu-west-1",
        endpoint="https://s3.example",
        session_token="token",
    )
    assert ap.io.s3.AwsS3Settings is AwsS3Settings
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.region = "us-east-1"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"access_key": "AKIA"}, "go together"),
        ({"secret_access_key": "s3cret"}, "go together"),
        ({"session_token": "s3cret"}, "session_token needs access_key"),
        ({"access_key": "AKIA", "secret_access_key": "s3cret\n"}, "secret_access_key is empty or holds blanks"),
        ({"access_key": "", "secret_access_key": "s3cret"}, "access_key is empty"),
        ({"region": "eu west"}, "region is empty or holds"),
        ({"bucket_name": "s3://bucket/x"}, "cannot be the name of a bucket"),
        ({"bucket_name": "ab..cd"}, "cannot be the name of a bucket"),
        ({"bucket_name": ""}, "cannot be the name of a bucket"),
        ({"endpoint": "localhost:9000"}, "write http://host:port"),
        ({"endpoint": "ftp://host"}, "write http://host:port"),
        ({"endpoint": "http://host:port"}, "write http://host:port"),
        ({"endpoint": "http://"}, "write http://host:port"),
        ({"endpoint": "https://me:s3cret@host"}, "must hold no user name or password"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_without_saying_secrets(given: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        AwsS3Settings(**{"bucket_name": "bucket", **given})
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_settings_of_the_wrong_type_are_refused() -> None:
    with pytest.raises(TypeError, match="access_key must be a string, not bytes"):
        AwsS3Settings(access_key=b"s3cret", secret_access_key="x")  # type: ignore[arg-type]


def test_settings_from_a_path() -> None:
    assert AwsS3Settings.new_from_path("s3://bucket/some/path") == AwsS3Settings("bucket")
    assert split_s3_path("s3://bucket/some/path/") == ("bucket", "some/path")
    assert split_s3_path("s3://bucket") == ("bucket", "")
    for wrong in ("bucket/some", "az://bucket/some", "s3://", "s3:///some", "s3:bucket"):
        with pytest.raises(ValueError, match=r"s3://"):
            split_s3_path(wrong)


@pytest.mark.parametrize(
    ("bucket", "root", "is_called"),
    [
        ("bucket", "some/where", "s3://bucket/some/where"),
        ("bucket", "/some/where/", "s3://bucket/some/where"),
        ("bucket", "", "s3://bucket"),
        ("bucket", "/", "s3://bucket"),
        (None, "s3://other/some/where", "s3://other/some/where"),
        ("bucket", "s3://bucket/x", "s3://bucket/x"),
    ],
)
def test_what_a_store_is_called(bucket: str | None, root: str, is_called: str) -> None:
    assert S3Store(AwsS3Settings(bucket), root).describe() == is_called


@pytest.mark.parametrize(
    ("bucket", "root", "says"),
    [
        (None, "x", "no bucket is named"),
        ("bucket", "s3://other/x", "not in the bucket bucket"),
        ("bucket", "a//b", "cannot be a root"),
        ("bucket", "a/../b", "cannot be a root"),
        ("bucket", "a\nb", "cannot be a root"),
        ("bucket", "ä" * 300, "has 600"),
    ],
)
def test_roots_that_cannot_be_are_refused(bucket: str | None, root: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        S3Store(AwsS3Settings(bucket), root)


# Prefixes, pages, ranges


async def test_a_store_sees_what_lies_below_its_prefix(moto: Moto) -> None:
    settings = moto.settings(moto.new_bucket())
    outer, inner, whole = (S3Store(settings, root) for root in ("some", "some/wh ere+ä", ""))
    await outer.put("a", b"1")
    await inner.put("b/c", b"22")
    await whole.put("somewhere/d", b"333")
    assert await inner.list() == [Entry("b/c", 2)]
    assert await inner.list("b") == [Entry("b/c", 2)]
    assert await inner.get("b/c") == b"22"
    assert Entry("a", 1) in await outer.list()
    assert not [entry for entry in await outer.list() if "d" in entry.key]
    assert sorted(entry.size for entry in await whole.list()) == [1, 2, 3]
    await inner.delete(["b/c", "a"])
    assert await inner.list() == []
    assert await outer.list() == [Entry("a", 1)]
    for store in (outer, inner, whole):
        await store.aclose()


async def test_pages_are_followed_and_folders_of_other_tools_passed_over(scripted: ScriptedS3) -> None:
    store = scripted.store(listing("some/where/", "some/where/a", more="t1"), listing("some/where/b/", "some/where/c"))
    assert await store.list() == [Entry("a", 1), Entry("c", 1)]
    assert [re.findall("continuation-token=([^&]*)", request.target) for request in scripted.requests] == [[], ["t1"]]
    scripted.answers = [listing("some/where/a")]
    assert await store.list(limit=0) == []
    assert len(scripted.requests) == 2


async def test_deletions_go_in_batches_and_report_what_was_not_deleted(scripted: ScriptedS3) -> None:
    failed = "<Error><Key>some/where/k7</Key><Code>AccessDenied</Code><Message>no</Message></Error>"
    store = scripted.store(
        answer(200, "<DeleteResult><Error><Key>x</Key><Code>NoSuchKey</Code></Error></DeleteResult>"),
        answer(200, f"<DeleteResult>{failed}</DeleteResult>"),
    )
    with pytest.raises(StateUnwritable, match=r"k7 cannot be deleted.*s3:DeleteObject"):
        await store.delete(f"k{n}" for n in range(1001))
    assert [request.body.count(b"<Key>") for request in scripted.requests] == [1000, 1]
    scripted.answers = [
        answer(200, f"<DeleteResult>{failed.replace('AccessDenied', 'ServiceUnavailable')}</DeleteResult>")
    ]
    with pytest.raises(OutcomeUnknown, match="k7 cannot be deleted"):
        await store.delete(["k7"])


async def test_a_store_that_takes_no_notice_of_ranges(scripted: ScriptedS3) -> None:
    store = scripted.store(answer(200, b"0123456789"))
    assert await store.get_range("a", 2, 5) == b"234"
    assert await store.get_range("a", 3, 3) == b""
    assert scripted.requests[0].headers["range"] == "bytes=2-4"


# Large objects


def uploads(moto: Moto, bucket: str) -> list[str]:
    """The names of what is being uploaded in parts to a bucket."""
    with urllib.request.urlopen(f"{moto.url}/{bucket}?uploads", timeout=PATIENCE) as reply:
        return re.findall("<Upload>.*?<Key>([^<]*)", reply.read().decode(), re.DOTALL)


async def test_a_large_object_goes_up_in_parts(moto: Moto) -> None:
    bucket = moto.new_bucket()
    store = S3Store(moto.settings(bucket), "x")
    await store.put("large", LARGE)
    assert await store.get("large") == LARGE
    assert await store.get_range("large", 16 * MIB - 2, 16 * MIB + 2) == LARGE[16 * MIB - 2 : 16 * MIB + 2]
    assert await store.list() == [Entry("large", len(LARGE))]
    assert uploads(moto, bucket) == []
    await store.aclose()


async def test_a_large_object_that_is_cancelled_leaves_no_upload_behind(moto: Moto) -> None:
    bucket = moto.new_bucket()
    store = S3Store(moto.settings(bucket), "x")
    writing = asyncio.create_task(store.put("large", LARGE * 3))
    while not await asyncio.to_thread(uploads, moto, bucket) and not writing.done():
        await asyncio.sleep(0)
    writing.cancel()
    await asyncio.wait([writing])
    assert writing.cancelled(), "it was over before it was seen to have begun"
    with pytest.raises(KeyMissing):
        await store.get("large")
    await store.put("large", LARGE)
    await store.aclose()
    assert uploads(moto, bucket) == []


def kinds(requests: list[Request]) -> list[str]:
    """Each request of an upload in parts as one word."""
    words = []
    for method, target, _, _ in requests:
        query = target.partition("?")[2]
        words.append({"POST": "begin" if "uploads" in query else "complete", "PUT": "part", "DELETE": "abort"}[method])
    return words


@pytest.mark.parametrize(
    ("answers", "error", "sent"),
    [
        ([refused(503, "SlowDown")], Throttled, ["begin"]),
        ([None], StoreUnavailable, ["begin"]),
        ([BEGUN, refused(500, "InternalError"), PART, PART, answer(204)], StoreUnavailable, None),
        ([BEGUN, None, PART, PART, answer(204)], StoreUnavailable, None),
        ([BEGUN, refused(403, "AccessDenied"), PART, PART, answer(204)], StateUnwritable, None),
        ([BEGUN, *[PART] * 3, refused(500, "InternalError"), answer(204)], OutcomeUnknown, None),
        ([BEGUN, *[PART] * 3, refused(200, "InternalError"), answer(204)], OutcomeUnknown, None),
        ([BEGUN, *[PART] * 3, None, answer(204)], OutcomeUnknown, None),
        ([BEGUN, *[PART] * 3, None, refused(404, "NoSuchUpload")], OutcomeUnknown, None),
    ],
    ids=[
        "begin-throttled",
        "begin-lost",
        "part",
        "part-lost",
        "denied",
        "end",
        "end-with-200",
        "end-lost",
        "no-upload",
    ],
)
async def test_an_upload_that_fails_is_aborted(
    scripted: ScriptedS3,
    answers: list[bytes | None],
    error: type[Exception],
    sent: list[str] | None,
) -> None:
    store = scripted.store(*answers)
    with pytest.raises(error, match="s3://bucket/some/where: large cannot be written") as caught:
        await store.put("large", LARGE)
    assert type(caught.value) is error
    if sent is None:
        assert kinds(scripted.requests)[-1] == "abort"
        assert kinds(scripted.requests).count("abort") == 1
        assert "uploadId=U1" in scripted.requests[-1].target
    else:
        assert kinds(scripted.requests) == sent


async def test_parts_that_cannot_be_removed_are_told(scripted: ScriptedS3, caplog: pytest.LogCaptureFixture) -> None:
    store = scripted.store(BEGUN, PART, PART, PART, refused(403, "AccessDenied"))
    with pytest.raises(StateUnwritable):
        await store.put("large", LARGE)
    assert "unfinished upload of some/where/large stay in the bucket" in caplog.text
    assert "AbortIncompleteMultipartUpload" in caplog.text


async def test_parts_whose_removal_is_not_answered_are_told(
    scripted: ScriptedS3, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncpersist.objectstore.s3.parts._ABORT_SECONDS", 0.05)
    store = scripted.store(BEGUN, *[PART] * 3, refused(500, "InternalError"), _never)
    with pytest.raises(OutcomeUnknown):
        await store.put("large", LARGE)
    assert "stay in the bucket: the store did not answer in time. A lifecycle" in caplog.text


async def test_parts_are_sent_four_at_once(scripted: ScriptedS3) -> None:
    waiting: set[int] = set()
    most = 0
    go_on = asyncio.Event()

    async def part(request: Request) -> bytes:
        nonlocal most
        number = int(re.findall(r"partNumber=(\d+)", request.target)[0])
        waiting.add(number)
        most = max(most, len(waiting))
        if len(waiting) == 4:
            go_on.set()
        await go_on.wait()
        waiting.discard(number)
        return PART

    store = scripted.store(BEGUN, *[part] * 7, DONE)
    await store.put("large", LARGE * 3)
    assert most == 4
    sent = {int(re.findall(r"partNumber=(\d+)", r.target)[0]): r.body for r in scripted.requests if r.method == "PUT"}
    assert b"".join(sent[number] for number in sorted(sent)) == LARGE * 3
    assert {len(body) for number, body in sent.items() if number < 7} == {8 * MIB}


async def test_no_part_is_sent_once_one_has_failed(scripted: ScriptedS3) -> None:
    aborted = asyncio.Event()

    async def after_the_abort(_: Request) -> bytes:
        await aborted.wait()
        return PART

    async def abort(_: Request) -> bytes:
        aborted.set()
        return answer(204)

    store = scripted.store(BEGUN, *[after_the_abort] * 3, refused(500, "InternalError"), abort)
    with pytest.raises(StoreUnavailable):
        await store.put("large", LARGE * 3)
    scripted.answers = [listing()]
    for _ in range(20):  # A sender that goes on has the time to.
        assert await store.list() == []
    written = [request for request in scripted.requests if request.method != "GET"]
    assert kinds(written) == ["begin", *["part"] * 4, "abort"]


@pytest.mark.parametrize("place", [0, 1, 4])
async def test_an_upload_that_is_cancelled_anywhere_is_aborted(scripted: ScriptedS3, place: int) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()
    usual = [BEGUN, PART, PART, PART, DONE]

    async def held(_: Request) -> bytes:
        reached.set()
        await go_on.wait()
        return usual[place]

    store = scripted.store(*usual[:place], held, *usual[place + 1 : 4], answer(204))
    writing = asyncio.create_task(store.put("large", LARGE))
    await reached.wait()
    writing.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await writing
    await store.aclose()
    assert kinds(scripted.requests)[-1] == "abort"


async def test_a_cancelled_upload_returns_at_once_and_is_aborted_before_the_store_closes(
    scripted: ScriptedS3,
) -> None:
    reached, aborting, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def held(_: Request) -> bytes:
        reached.set()
        return await _never(_)

    async def abort(_: Request) -> bytes:
        aborting.set()
        await go_on.wait()
        return answer(204)

    def by_kind(request: Request) -> object:
        return {"begin": _told(BEGUN), "part": held, "abort": abort}[kinds([request])[0]](request)

    store = scripted.store(by_kind)  # type: ignore[arg-type]
    writing = asyncio.create_task(store.put("large", LARGE))
    await reached.wait()
    writing.cancel()
    await aborting.wait()
    await asyncio.wait([writing], timeout=PATIENCE)
    assert writing.cancelled()
    closing = asyncio.create_task(store.aclose())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not closing.done()
    go_on.set()
    await closing


async def test_closing_gives_up_parts_that_are_not_removed_soon(
    scripted: ScriptedS3, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = asyncio.Event()

    async def held(_: Request) -> bytes:
        reached.set()
        return await _never(_)

    monkeypatch.setattr("asyncpersist.objectstore.s3.store._CLOSING_SECONDS", 0.05)
    monkeypatch.setattr("asyncpersist.objectstore.s3.parts._ABORT_SECONDS", 600)
    store = scripted.store(BEGUN, held)
    writing = asyncio.create_task(store.put("large", LARGE))
    await reached.wait()
    writing.cancel()
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait([writing])
        await store.aclose()
    assert "stay in the bucket: the store did not answer in time. A lifecycle" in caplog.text


async def _never(_: Request) -> bytes:
    await asyncio.Event().wait()
    raise AssertionError


def _told(reply: bytes):  # type: ignore[no-untyped-def]
    async def give(_: Request) -> bytes:
        return reply

    return give


# Errors

CASES = [
    (403, "AccessDenied", StateUnwritable, "s3:ListBucket on the bucket bucket"),
    (403, "InvalidAccessKeyId", StateUnwritable, "does not know the access key"),
    (403, "SignatureDoesNotMatch", StateUnwritable, "does not go with the access key"),
    (403, "RequestTimeTooSkewed", StoreUnavailable, "Set the clock"),
    (400, "ExpiredToken", StateUnwritable, "has expired or is wrong"),
    (301, "PermanentRedirect", StateUnwritable, "not in the region eu-north-1"),
    (400, "AuthorizationHeaderMalformed", StateUnwritable, "not in the region eu-north-1"),
    (404, "NoSuchBucket", StateUnwritable, r"no bucket bucket at http://127\.0\.0\.1"),
    (409, "OperationAborted", StoreUnavailable, "at the same moment"),
    (429, "TooManyRequests", Throttled, "fewer requests"),
    (503, "SlowDown", Throttled, "fewer requests"),
    (503, "RequestLimitExceeded", Throttled, "fewer requests"),
    (400, "ThrottlingException", Throttled, "fewer requests"),
    (501, "NotImplemented", StateUnwritable, "refused it|no create-if-absent"),
    (405, "MethodNotAllowed", StateUnwritable, r"refused it \(MethodNotAllowed: the vendor's words\)"),
]


METHODS = {"get": ("a",), "put": ("a", b"1"), "create": ("a", b"1"), "list": (), "delete": (["a"],)}


def call(store: S3Store, method: str) -> Coroutine[Any, Any, Any]:
    started: Coroutine[Any, Any, Any] = getattr(store, method)(*METHODS[method])
    return started


@pytest.mark.parametrize(("status", "code", "error", "says"), CASES, ids=[case[1] for case in CASES])
async def test_what_a_refusal_means(
    scripted: ScriptedS3, status: int, code: str, error: type[Exception], says: str
) -> None:
    store = scripted.store(refused(status, code), region="eu-north-1")
    for method in METHODS:
        with pytest.raises(error, match=rf"^s3://bucket/some/where: .*({says})") as caught:
            await call(store, method)
        assert type(caught.value) is error
        assert code in str(caught.value)
        assert caught.value.__cause__ is not None
    assert len(scripted.requests) == len(METHODS)


@pytest.mark.parametrize(
    "reply",
    [
        None,
        refused(500, "InternalError"),
        refused(502, "BadGateway"),
        refused(503, "ServiceUnavailable"),
        refused(503, "SlowDownWrite"),
        answer(503, "upstream timed out."),
        answer(504, "<html>no</html>"),
    ],
    ids=["closed", "500", "502", "503", "503-no-quorum", "503-proxy", "504"],
)
async def test_a_lost_answer_leaves_a_write_in_doubt_and_is_asked_once(
    scripted: ScriptedS3, reply: bytes | None
) -> None:
    """The first request makes a connection that is kept: over such a one, clients like to ask again by themselves."""
    store = scripted.store(*[listing("some/where/a"), reply] * len(METHODS))
    for n, method in enumerate(METHODS, start=1):
        await store.list()
        with pytest.raises(StoreUnavailable) as caught:
            await call(store, method)
        assert type(caught.value) is (StoreUnavailable if method in ("get", "list") else OutcomeUnknown)
        assert len(scripted.requests) == 2 * n


async def test_nobody_there_is_certainly_not_done() -> None:
    async with ScriptedS3().serving() as server:
        settings = AwsS3Settings("bucket", "key", "secret", endpoint=server.endpoint)
    store = S3Store(settings, "x")
    for started in (store.check_writable(), *(call(store, method) for method in METHODS)):
        with pytest.raises(StoreUnavailable, match=rf"{re.escape(server.endpoint)} cannot be reached") as caught:
            await started
        assert type(caught.value) is StoreUnavailable
    await store.aclose()


async def test_an_unknown_host_is_named() -> None:
    settings = AwsS3Settings("bucket", "key", "secret", endpoint="http://no-such-host.invalid")
    store = S3Store(settings, "x")
    with pytest.raises(StoreUnavailable, match=r"http://no-such-host\.invalid cannot be reached"):
        await store.check_writable()
    await store.aclose()


@pytest.mark.parametrize(("method", "error"), [("get", StoreUnavailable), ("put", OutcomeUnknown)])
async def test_a_store_that_does_not_answer(
    scripted: ScriptedS3, method: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncpersist.objectstore.s3.client._READ_SECONDS", 0.05)
    store = scripted.store(_never)
    with pytest.raises(error, match="did not answer in time") as caught:
        await call(store, method)
    assert type(caught.value) is error


async def test_a_store_that_stops_taking_data(monkeypatch: pytest.MonkeyPatch) -> None:
    over = asyncio.Event()

    async def read_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            await over.wait()

    monkeypatch.setattr("asyncpersist.objectstore.s3.store._PATIENCE", 0.1)
    monkeypatch.setattr("asyncpersist.objectstore.s3.store._SLOWEST", 1 << 30)
    async with await asyncio.start_server(read_nothing, "127.0.0.1", 0) as server:
        endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        store = S3Store(AwsS3Settings("bucket", "key", "secret", endpoint=endpoint), "x")
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(OutcomeUnknown, match="did not answer in time"):
                await store.put("a", LARGE[: 16 * MIB])
        await store.aclose()
        over.set()


async def test_creating_is_asked_of_the_store_itself(scripted: ScriptedS3) -> None:
    store = scripted.store(answer(200), refused(412, "PreconditionFailed"), refused(409, "ConditionalRequestConflict"))
    await store.create("a", b"1")
    assert scripted.requests[0].headers["if-none-match"] == "*"
    with pytest.raises(KeyExists, match="s3://bucket/some/where: a cannot be created: it exists"):
        await store.create("a", b"1")
    with pytest.raises(StoreUnavailable, match="at the same moment") as caught:
        await store.create("a", b"1")
    assert type(caught.value) is StoreUnavailable
    scripted.answers = [refused(501, "NotImplemented")]
    with pytest.raises(StateUnwritable, match="no create-if-absent"):
        await store.create("a", b"1")
    scripted.answers = [answer(200)]
    await store.put("a", b"1")
    assert "if-none-match" not in scripted.requests[-1].headers


async def test_how_long_to_wait_is_taken_from_the_answer(scripted: ScriptedS3) -> None:
    told = {"7": 7.0, "0.5": 0.5, "Wed, 21 Oct 2015 07:28:00 GMT": None, "-1": None, "nan": None}
    store = scripted.store(*(refused(503, "SlowDown", retry_after=header) for header in told), refused(503, "SlowDown"))
    for seconds in (*told.values(), None):
        with pytest.raises(Throttled) as caught:
            await store.get("a")
        assert caught.value.retry_after == seconds


@pytest.mark.parametrize(
    "reply",
    [answer(200), answer(200, "<html><body>Welcome</body></html>"), answer(200, "{}"), answer(404, "<html>no</html>")],
    ids=["nothing", "page", "json", "page-404"],
)
async def test_what_is_no_s3_is_never_taken_for_an_empty_store(scripted: ScriptedS3, reply: bytes) -> None:
    store = scripted.store(reply)
    with pytest.raises((StoreUnavailable, StateUnwritable)):
        await store.list()
    with pytest.raises((StoreUnavailable, StateUnwritable)):
        await store.check_writable()
    if reply.startswith(b"HTTP/1.1 404"):
        with pytest.raises(StateUnwritable):
            await store.get("a")


async def test_an_object_that_is_cut_on_its_way_is_not_returned(scripted: ScriptedS3) -> None:
    async def cut(_: Request) -> bytes:
        return answer(200, b"0123456789").replace(b"content-length: 10", b"connection: close\r\ncontent-length: 11")

    store = scripted.store(cut)
    reading = asyncio.create_task(store.get("a"))
    while not scripted.requests:
        await asyncio.sleep(0)
    scripted.hang_up()
    with pytest.raises(StoreUnavailable, match="a cannot be read"):
        await reading


# Credentials


async def test_credentials_of_the_environment(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto.url)
    store = S3Store(AwsS3Settings.new_from_path(f"s3://{moto.new_bucket()}"), "x")
    await store.check_writable()
    await store.put("a", b"1")
    assert await store.get("a") == b"1"
    await store.aclose()


async def test_no_credentials_are_found_out_before_anything_is_asked(scripted: ScriptedS3) -> None:
    store = scripted.store(access_key=None, secret_access_key=None)
    with pytest.raises(StateUnwritable, match=r"no AWS credentials.*AWS_ACCESS_KEY_ID.*AWS_EC2_METADATA_DISABLED"):
        await store.check_writable()
    assert scripted.requests == []


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("AWS_ACCESS_KEY_ID", "key", "AWS_SECRET_ACCESS_KEY"),
        ("AWS_PROFILE", "nobody", "nobody"),
        ("AWS_DEFAULT_REGION", "nowhere one", "nowhere one"),
        ("AWS_ENDPOINT_URL", "http://me:s3cret@127.0.0.1", "must hold no user name or password"),
    ],
)
async def test_aws_settings_that_cannot_be_used(
    name: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    own = ("key", "secret") if name in ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION") else (None, None)
    store = S3Store(AwsS3Settings("bucket", *own), "x")
    with pytest.raises(StateUnwritable, match=rf"client cannot be set up: .*{says}") as caught:
        await store.check_writable()
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))
    await store.aclose()


async def test_expired_credentials_of_the_chain_may_be_renewed(
    scripted: ScriptedS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    store = scripted.store(refused(400, "ExpiredToken"), access_key=None, secret_access_key=None)
    with pytest.raises(StoreUnavailable, match="Renew them"):
        await store.put("a", b"1")


async def test_a_wrong_bucket_is_found_out_at_the_start(moto: Moto) -> None:
    store = S3Store(moto.settings("no-such-bucket"), "x")
    with pytest.raises(StateUnwritable, match=r"s3://no-such-bucket/x: .*there is no bucket no-such-bucket at http"):
        await store.check_writable()
    await store.aclose()


async def test_secrets_are_in_no_message_and_no_log(scripted: ScriptedS3, caplog: pytest.LogCaptureFixture) -> None:
    """A store that says everything it was told, as stores do of tokens and of what was signed."""
    told = "".join(f"<{tag}>{SECRETS['session_token']}</{tag}>" for tag in ("Token-0", "CanonicalRequest"))
    told += f"<AWSAccessKeyId>{SECRETS['access_key']}</AWSAccessKeyId>"
    replies = [
        refused(403, "InvalidAccessKeyId", f"there is no key {SECRETS['access_key']}", told),
        refused(400, "ExpiredToken", f"{SECRETS['session_token']} has expired", told),
        refused(403, "SignatureDoesNotMatch", " ".join(SECRETS.values()), told),
        refused(500, "InternalError", " ".join(SECRETS.values()), told),
        None,
    ]
    caplog.set_level(logging.DEBUG)
    store = scripted.store(*replies * len(METHODS), **SECRETS)
    for method in [method for method in METHODS for _ in replies]:
        with pytest.raises((StateUnwritable, StoreUnavailable)) as caught:
            await call(store, method)
        exc: BaseException | None = caught.value
        texts = ["".join(traceback.format_exception(exc))]
        while exc is not None:
            texts += [str(exc), repr(exc)]
            exc = exc.__context__
        for secret in SECRETS.values():
            assert not [text for text in texts if secret in text]
    assert "botocore.auth" in {record.name for record in caplog.records}
    for secret in SECRETS.values():
        assert not [record.message for record in caplog.records if secret in record.message]


# Requests and the end


async def test_requests_are_signed_whole_where_nothing_else_protects_them(scripted: ScriptedS3) -> None:
    store = scripted.store(answer(200))
    await store.put("a", b"1")
    headers = scripted.requests[0].headers
    assert re.fullmatch("[0-9a-f]{64}", headers["x-amz-content-sha256"])
    assert not [name for name in headers if "checksum" in name or name in ("transfer-encoding", "x-amz-trailer")]
    assert scripted.requests[0].target == "/bucket/some/where/a"


async def test_the_token_of_a_session_is_sent(scripted: ScriptedS3) -> None:
    store = scripted.store(answer(200, b"1"), **SECRETS)
    assert await store.get("a") == b"1"
    assert scripted.requests[0].headers["x-amz-security-token"] == SECRETS["session_token"]


async def test_a_put_that_is_cancelled_leaves_the_store_usable(scripted: ScriptedS3) -> None:
    reached = asyncio.Event()

    async def held(_: Request) -> bytes:
        reached.set()
        await asyncio.Event().wait()
        raise AssertionError

    store = scripted.store(held, answer(200, b"1"))
    writing = asyncio.create_task(store.put("a", b"1"))
    await reached.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert await store.get("a") == b"1"


async def test_closing_waits_for_what_is_under_way_and_refuses_what_comes_after(scripted: ScriptedS3) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def held(_: Request) -> bytes:
        reached.set()
        await go_on.wait()
        return answer(200)

    store = scripted.store(held)
    writing = asyncio.create_task(store.put("a", b"1"))
    await reached.wait()
    closing = [asyncio.create_task(store.aclose()) for _ in range(2)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert not writing.done()
    assert not any(task.done() for task in closing)
    for method in METHODS:
        with pytest.raises(StoreUnavailable, match="has been closed"):
            await call(store, method)
    go_on.set()
    await asyncio.gather(writing, *closing)
    await store.aclose()
    assert len(scripted.requests) == 1


def test_a_store_is_for_one_event_loop(moto: Moto) -> None:
    store = S3Store(moto.settings(moto.new_bucket()), "x")
    with asyncio.Runner() as its_own, asyncio.Runner() as another:
        its_own.run(store.put("a", b"1"))
        for started in (*(call(store, method) for method in METHODS), store.aclose()):
            with pytest.raises(RuntimeError, match=r"belongs to another event loop.* for each loop.*Backend\.s3"):
                another.run(started)
        assert its_own.run(store.get("a")) == b"1"
        its_own.run(store.aclose())
        another.run(store.aclose())


async def test_a_store_that_was_never_used_needs_no_closing_and_no_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "asyncpersist.objectstore.s3.client", raising=False)
    monkeypatch.setitem(sys.modules, "aiobotocore.config", None)
    store = S3Store(AwsS3Settings("bucket", "key", "secret"), "x")
    assert store.describe() == "s3://bucket/x"
    with pytest.raises(ImportError, match=r's3://bucket/x: .*pip install "asyncpersist\[s3\]"'):
        await store.check_writable()
    await store.aclose()
