"""A server on 127.0.0.1 that answers requests with what a test wrote down: what real servers cannot be made to say."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

from asyncpersist.objectstore.s3.settings import AwsS3Settings
from asyncpersist.objectstore.s3.store import S3Store

__all__ = ["Request", "ScriptedS3", "answer", "listing", "refused"]


class Request(NamedTuple):
    method: str
    target: str
    """The path and the query."""
    headers: dict[str, str]
    """By names in small letters."""
    body: bytes


Answer = Callable[[Request], Awaitable[bytes | None]]
"""The bytes to send; None to close the connection without any."""


def answer(status: int, body: bytes | str = b"", **headers: str) -> bytes:
    """An HTTP answer; `_` in the names of headers stands for `-`."""
    content = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} Whatever", f"content-length: {len(content)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def refused(status: int, code: str, message: str = "the vendor's words", more: str = "", **headers: str) -> bytes:
    """What S3 answers to what it does not do."""
    return answer(status, f"<Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>", **headers)


def listing(*keys: str, more: str | None = None) -> bytes:
    """A page of a listing of objects of one byte; `more`: the token of the next page."""
    objects = "".join(f"<Contents><Key>{key}</Key><Size>1</Size></Contents>" for key in keys)
    after = f"<NextContinuationToken>{more}</NextContinuationToken>" if more else ""
    return answer(
        200,
        f"<ListBucketResult><IsTruncated>{str(bool(more)).lower()}</IsTruncated>{after}{objects}</ListBucketResult>",
    )


class ScriptedS3:
    """Answers the n-th request with the n-th of `answers`, and all further ones with the last."""

    def __init__(self) -> None:
        self.answers: list[bytes | Answer | None] = []
        self.requests: list[Request] = []
        self.port = 0
        self._stores: list[S3Store] = []
        self._writers: set[asyncio.StreamWriter] = set()

    def hang_up(self) -> None:
        """Closes every connection once what was written is sent."""
        for writer in self._writers:
            writer.close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def store(self, *answers: bytes | Answer | None, **settings: str | None) -> S3Store:
        """A store over this server, which answers it as told. Closed with the server."""
        self.answers = list(answers)
        given = {"bucket_name": "bucket", "access_key": "AKIAKNOWNKEY", "secret_access_key": "wJalrSECRET", **settings}
        store = S3Store(AwsS3Settings(with_path_style=True, endpoint=self.endpoint, **given), "some/where")
        self._stores.append(store)
        return store

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[ScriptedS3]:
        tasks: set[asyncio.Task[None]] = set()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._serve(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in list(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await server.wait_closed()
            for store in self._stores:
                await store.aclose()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.closing(writer), contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                method, target, _ = head[0].split(" ")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                if headers.get("expect", "").lower() == "100-continue":
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                number = len(self.requests)
                self.requests.append(Request(method, target, headers, body))
                told = self.answers[min(number, len(self.answers) - 1)]
                reply = await told(self.requests[-1]) if callable(told) else told
                if reply is None:
                    return
                writer.write(reply.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if method == "HEAD" else reply)
                await writer.drain()
