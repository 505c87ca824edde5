"""A paid service on loopback, which counts what it is asked for, and fails, stalls and limits as it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator

__all__ = ["PaidServer", "Refused", "answer_to", "ask", "ask_blocking", "serving"]

_PATIENCE = 30.0
"""Seconds: a wide bound for a busy machine, never waited for in vain."""


def answer_to(argument: str) -> str:
    """What the service answers."""
    return f"<{argument}>"


class Refused(Exception):
    """An answer other than 200; `retry_after` in seconds where the service said so."""

    def __init__(self, status: int, retry_after: float | None) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.retry_after = retry_after


class PaidServer:
    """Answers `GET /<argument>` in a thread and loop of its own. Made by `serving()`.

    What it is to do may be set at any time, what it has seen read at any time:

    - `latency(argument)`: seconds before an answer, 0 for none.
    - `failures[argument]`: so many calls more are answered with 500.
    - `stalled`: arguments whose calls wait for `release()`, or for whoever asks to go away.
    - `limit`: calls beyond so many at once are refused with 429 and `Retry-After: retry_after`.
    - `calls[argument]`: how often it was asked for; `paid[argument]`: how often it has answered 200;
      `left[argument]`: how often whoever asked went away; `most_at_once`: calls under way at the same time.
    """

    def __init__(self) -> None:
        self.port = 0
        self.latency: Callable[[str], float] = lambda argument: 0
        self.failures: Counter[str] = Counter()
        self.stalled: set[str] = set()
        self.limit: int | None = None
        self.retry_after = 0.0
        self.calls: Counter[str] = Counter()
        self.paid: Counter[str] = Counter()
        self.left: Counter[str] = Counter()
        self.at_once = 0
        self.most_at_once = 0
        self._changed = threading.Condition()
        self._released = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def release(self) -> None:
        """Lets the stalled calls be answered, and those to come."""
        assert self._loop is not None
        self.stalled.clear()
        self._loop.call_soon_threadsafe(self._released.set)

    def wait_until(self, seen: Callable[[PaidServer], bool]) -> None:
        """Returns when what it has seen is so; not for the thread of a loop that has to go on."""
        with self._changed:
            assert self._changed.wait_for(lambda: seen(self), _PATIENCE)

    async def until(self, seen: Callable[[PaidServer], bool]) -> None:
        """The same for a loop."""
        await asyncio.to_thread(self.wait_until, seen)

    def serve(self, ready: threading.Event, stop: threading.Event) -> None:
        """Serves until it is told to stop."""
        asyncio.run(self._serve(ready, stop))

    async def _serve(self, ready: threading.Event, stop: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._handle, "127.0.0.1", 0, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await asyncio.to_thread(stop.wait)
        server.close()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                request = await reader.readuntil(b"\r\n\r\n")
                argument = urllib.parse.unquote(request.split(b" ")[1].decode()[1:])
                with self._noting():
                    self.calls[argument] += 1
                    self.at_once += 1
                    self.most_at_once = max(self.most_at_once, self.at_once)
                try:
                    status = await self._status(argument, reader)
                finally:
                    with self._noting():
                        self.at_once -= 1
                if status is not None:
                    await self._send(writer, status, argument)
        finally:
            writer.close()

    async def _status(self, argument: str, reader: asyncio.StreamReader) -> int | None:
        """What to answer; None: whoever asked has gone."""
        if self.limit is not None and self.at_once > self.limit:
            return 429
        waiting = asyncio.create_task(self._wait(argument))
        gone = asyncio.create_task(reader.read())
        await asyncio.wait([waiting, gone], return_when=asyncio.FIRST_COMPLETED)
        answered = waiting.done()
        for task in (waiting, gone):
            task.cancel()
        await asyncio.gather(waiting, gone, return_exceptions=True)
        with self._noting():
            if not answered:
                self.left[argument] += 1
                return None
            if self.failures[argument]:
                self.failures[argument] -= 1
                return 500
            self.paid[argument] += 1
            return 200

    async def _wait(self, argument: str) -> None:
        if seconds := self.latency(argument):
            await asyncio.sleep(seconds)
        if argument in self.stalled:
            await self._released.wait()

    async def _send(self, writer: asyncio.StreamWriter, status: int, argument: str) -> None:
        body = answer_to(argument).encode() if status == 200 else b""
        head = f"HTTP/1.1 {status} .\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
        if status == 429:
            head += f"Retry-After: {self.retry_after:g}\r\n"
        writer.write(head.encode() + b"\r\n" + body)
        await writer.drain()

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        with self._changed:
            yield
            self._changed.notify_all()


@contextlib.contextmanager
def serving() -> Iterator[PaidServer]:
    """A service that has seen nothing yet; it ends with the block."""
    server, ready, stop = PaidServer(), threading.Event(), threading.Event()
    thread = threading.Thread(target=server.serve, args=[ready, stop], name="paid-server")
    thread.start()
    try:
        assert ready.wait(_PATIENCE)
        yield server
    finally:
        stop.set()
        thread.join()


async def ask(port: int, argument: str) -> str:
    """Asks the service. Raises `Refused`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET /{urllib.parse.quote(argument, safe='')} HTTP/1.1\r\nHost: paid\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        # A loop that ends before the connection has would leave it to the collector, in the middle of another test.
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    lines = head.decode().split("\r\n")
    status = int(lines[0].split(" ")[1])
    if status != 200:
        waits = [line.partition(":")[2] for line in lines if line.startswith("Retry-After:")]
        raise Refused(status, float(waits[0]) if waits else None)
    return body.decode()


def ask_blocking(port: int, argument: str) -> str:
    """Asks the service, and holds the thread meanwhile. Raises `Refused`."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{urllib.parse.quote(argument, safe='')}") as response:
            found: bytes = response.read()
            return found.decode()
    except urllib.error.HTTPError as exc:
        with exc:
            wait = exc.headers.get("Retry-After")
            raise Refused(exc.code, None if wait is None else float(wait)) from None
