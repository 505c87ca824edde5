"""What a subject has given and no batch holds yet: rows taken in without a lock, back-pressure by bytes.

Rows are appended to a list, which needs no lock; whoever appends the one that makes it long enough turns it into
columns (a `Piece`), in its own thread. The reader takes the pieces, and what lies in the list. `limit` is the length
beyond which an append has something to do; 0 while the reader waits, so that the next row wakes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from typing import Any, NoReturn, cast

import msgspec

from asyncpersist.errors import MalformedInput, RunStopped, Unsupported
from asyncpersist.io.subject_rows import Piece, RowShape

__all__ = ["TAKEN", "Feed"]

_PENDING_BYTES = 8 << 20
"""What a subject may be ahead of its reader. The run has room for several batches more."""
_PIECE_BYTES = 1 << 20
_FIRST_ROWS = 16
"""Rows of the first piece, as nothing is known yet of how large they are."""
_TURN = 0.0005
"""Seconds after which a coroutine that never waits lets the loop go on."""
_BREATH = 0.00005
_NEVER = threading.Event()
_MOST_STEPS = 256
_PLAIN = (int, str, float, bool, type(None))


class _Taken:
    __slots__ = ()
    # An exhausted iterator gives itself: awaiting it runs no Python code.
    __await__ = iter(()).__iter__


TAKEN = cast("Awaitable[None]", _Taken())
"""To be awaited when there is nothing to wait for; any number of times."""


class _Turn:
    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        yield


_GIVE_WAY: Awaitable[None] = _Turn()


class Feed:
    """Between one subject and one reader in the loop. `append`, `pressed` and what follows may be called anywhere.

    `append` takes a row, as a dict that is not changed any more; with `asks` it holds under `OFFSET` what `frozen`
    makes of the subject's offset. It is followed by `pressed` if there are now more than `limit` `entries`. Once no row
    may come any more, it raises. `removes` says whether rows can be taken back; `max_rows` is a bound on rows beside
    that on bytes.
    """

    __slots__ = (
        "_blocked",
        "_committed",
        "_delaying",
        "_given",
        "_given_rows",
        "_lock",
        "_loop",
        "_loop_thread",
        "_max_rows",
        "_piece_rows",
        "_pieces",
        "_removes",
        "_room",
        "_shape",
        "_step",
        "_stopped",
        "_taken",
        "_taken_rows",
        "_turned",
        "_waiters",
        "_waiting",
        "_wake",
        "append",
        "asks",
        "ended",
        "entries",
        "failure",
        "limit",
    )

    def __init__(self, shape: RowShape, *, asks: bool, removes: bool, max_rows: int | None) -> None:
        self.entries: list[dict[str, Any]] = []
        self.append: Callable[[dict[str, Any]], None] = self.entries.append
        self.limit = 0
        self.asks = asks
        self.ended = False
        self.failure: BaseException | None = None
        self._shape = shape
        self._removes = removes
        self._max_rows = max_rows
        self._piece_rows = _FIRST_ROWS
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._wake = asyncio.Event()
        self._waiting = self._delaying = False
        self._step = 16
        self._turned = self._loop.time()
        # Held while rows leave `entries` and become a piece, so that pieces keep their order.
        self._lock = threading.Lock()
        self._pieces: deque[Piece] = deque()
        # Each of these is written by one side only: by who holds the lock, and by the reader.
        self._given = self._given_rows = self._taken = self._taken_rows = 0
        self._committed = False
        self._blocked = 0
        self._room = threading.Condition()
        self._waiters: list[asyncio.Future[None]] = []
        self._stopped = False

    # the subject's side

    def pressed(self) -> Awaitable[None]:
        """Goes on with what was appended: wakes the reader, makes columns of many rows, and waits for room.

        In the loop, what is to be awaited says how long; in any other thread the call itself waits. Raises
        `MalformedInput` for rows that do not fit, and `RunStopped`.
        """
        in_loop = threading.get_ident() == self._loop_thread
        many = len(self.entries) >= self._piece_rows
        if many:
            with self._lock:
                self._seal()
        limit = self._piece_rows
        if in_loop:
            now = self._loop.time()
            late = now - self._turned > _TURN
            self._step = max(1, self._step // 2) if late else min(_MOST_STEPS, self._step * 2)
            limit = min(limit, len(self.entries) + self._step)
        if self._max_rows is not None:
            limit = min(limit, max(0, self._max_rows - 1 - (self._given_rows - self._taken_rows)))
        self.limit = limit
        # After the limit was raised: a reader that began to wait meanwhile is woken, one that begins now lowers it.
        self._notify()
        if not in_loop:
            return self._wait_in_thread() if self._full or many else TAKEN
        if self._full:
            return _Room(self)
        if late:
            self._turned = now
            return _GIVE_WAY
        return TAKEN

    def give(self, rows: Any, offset: Any) -> Awaitable[None]:
        """Takes many rows at once; see `RowShape.pieces` and `pressed`."""
        pieces = self._shape.pieces(rows, offset)
        if self.ended or self._stopped:
            self.append({})  # raises
        with self._lock:
            self._seal()
            for piece in pieces:
                self._push(piece)
        return self.pressed()

    def removed(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row to be appended so that `row` is taken back. Raises `Unsupported`."""
        if not self._removes:
            raise Unsupported(
                f"{self._shape.where}: a row cannot be removed here, because rows have ids that something in the graph "
                "uses, and values do not tell which row is meant. Give the schema a primary key."
            )
        return self._shape.removed(row)

    def commit(self) -> None:
        """Ends a delay: what was given so far becomes a batch now."""
        if not self.is_empty:
            self._committed = True
            self._notify()

    def end(self, why: str) -> None:
        """No more rows come; what was given counts. A later one raises `RunStopped`, which says `why`."""
        self._refuse(why)
        self.ended = True
        self._notify()

    def fail(self, error: BaseException) -> None:
        """The run is to fail with this error."""
        if self.failure is None:
            self.failure = error
        self.end("it failed")

    def frozen(self, offset: Any) -> Any:
        """A subject's offset as it is now, whatever becomes of the object: a plain value, or JSON as bytes.

        Raises `TypeError` if it is no JSON.
        """
        if type(offset) in _PLAIN:
            return offset
        try:
            return msgspec.json.encode(offset)
        except (TypeError, ValueError, msgspec.MsgspecError) as exc:
            raise TypeError(f"{self._shape.where}: offset() gave {offset!r}, which JSON cannot hold: {exc}") from exc

    # the reader's side, in the loop

    def stop(self) -> None:
        """Nothing is taken any more: whoever waits for room is told so."""
        self._stopped = True
        self._refuse("the run has stopped")
        self._make_room()

    async def arrival(self) -> None:
        """Returns once there may be something new: rows, a commit, the end, a failure."""
        self._wake.clear()
        self._waiting = True
        self.limit = 0
        if not (self.entries or self._pieces or self.ended or self.failure):
            await self._wake.wait()
        self._waiting = False

    async def delay(self, seconds: float) -> None:
        """Returns after so long, or once a commit, the end, a failure or the bound says otherwise."""
        self._wake.clear()
        self._delaying = self._waiting = True
        if not self._is_due:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
        self._delaying = self._waiting = False

    @property
    def is_empty(self) -> bool:
        return not (self.entries or self._pieces)

    def take(self) -> list[Piece]:
        """All pieces so far, in order, and the rows of the list if no other thread is at them.

        Raises `MalformedInput`.
        """
        self._turned = self._loop.time()
        self._committed = False
        if self._lock.acquire(blocking=self.ended):
            try:
                self._seal()
            finally:
                self._lock.release()
        pieces = []
        while self._pieces:
            piece = self._pieces.popleft()
            self._taken += piece.size
            self._taken_rows += piece.rows.height
            pieces.append(piece)
        self._make_room()
        return pieces

    # within

    @property
    def _is_due(self) -> bool:
        """Whether a delay is to end."""
        return self._committed or self.ended or self._full

    @property
    def _full(self) -> bool:
        if self._stopped or self.ended:
            return False
        rows = self._given_rows - self._taken_rows + len(self.entries)
        if self._max_rows is not None and rows >= self._max_rows:
            return True
        return self._given - self._taken >= _PENDING_BYTES

    def _seal(self) -> None:
        """Makes a piece of the rows in the list; the lock is held."""
        count = len(self.entries)
        if not count:
            return
        taken = self.entries[:count]
        del self.entries[:count]
        try:
            piece = self._shape.piece(taken, offsets=self.asks)
        except MalformedInput as exc:
            self.fail(exc)
            raise
        self._push(piece)
        self._piece_rows = max(1, min(self._shape.piece_rows, 2 * self._piece_rows, _PIECE_BYTES * count // piece.size))

    def _push(self, piece: Piece) -> None:
        self._pieces.append(piece)
        self._given += piece.size
        self._given_rows += piece.rows.height

    def _notify(self) -> None:
        if not self._waiting or (self._delaying and not self._is_due):
            return
        if threading.get_ident() == self._loop_thread:
            self._wake.set()
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake.set)

    def _wait_in_thread(self) -> Awaitable[None]:
        """Lets the loop have the interpreter, which a busy thread would keep from it for 5 ms; then waits for room."""
        _NEVER.wait(_BREATH)
        if self._full:
            self._wait_for_room()
        return TAKEN

    def _wait_for_room(self) -> None:
        with self._room:
            self._blocked += 1
            try:
                while self._full:
                    self._room.wait()
            finally:
                self._blocked -= 1
        if self._stopped:
            self.append({})  # raises

    async def room(self) -> None:
        """Waits until there is room. Raises `RunStopped`."""
        while self._full:
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter
        if self._stopped:
            self.append({})  # raises

    def _make_room(self) -> None:
        if self._blocked:
            with self._room:
                self._room.notify_all()
        if self._waiters:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def _refuse(self, why: str) -> None:
        def refuse(_: Any) -> NoReturn:
            raise RunStopped(f"{self._shape.where}: no row is taken any more, because {why}")

        self.append = refuse


class _Room:
    """To be awaited until a feed has room; made only when it has none. Nothing is lost if it is never awaited."""

    __slots__ = ("_feed",)

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def __await__(self) -> Generator[Any, None, None]:
        return self._feed.room().__await__()
