"""What a user derives from to give rows from Python."""

from __future__ import annotations

import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from typing import Any, ClassVar, Literal, Never, NoReturn

from asyncpersist.errors import Unsupported
from asyncpersist.io.subject_feed import TAKEN, Feed
from asyncpersist.io.subject_rows import OFFSET

__all__ = ["ConnectorSubject"]


class _NotRunning(Feed):
    """Stands where a feed is while a subject runs."""

    __slots__ = ()

    def __init__(self) -> None:
        self.entries = []
        self.limit = 0
        self.asks = False
        self.append = self._refuse_row

    def _refuse_row(self, row: Any) -> NoReturn:
        raise RuntimeError("rows can be given while the subject runs: from its run(), or from what that started")

    def give(self, rows: Any, offset: Any) -> Awaitable[None]:
        self._refuse_row(rows)

    def removed(self, row: dict[str, Any]) -> dict[str, Any]:
        self._refuse_row(row)

    def commit(self) -> None:
        pass

    def end(self, why: str) -> None:
        pass


class ConnectorSubject(ABC):
    """A source of rows that are made in Python. Derive from it, override `run`, give an object to `io.python.read`.

    ``async def run`` is a task in the loop, and calls ``await self.next(...)``; ``def run`` gets a thread, and calls
    ``self.next(...)``. Rows may also be given from other threads that `run` started. When `run` returns, or `close` was
    called, the input has ended; what it raises ends the run with that error.

    When the run is to stop while `run` goes on, a coroutine is cancelled; in a thread, every further row raises
    `RunStopped`, and `on_stop` is called in another thread, which is to wake up what `run` waits for. The run waits up
    to `stop_timeout` seconds for `run` to come to an end, then goes without it, with a warning.

    To go on after a restart, override both `offset` and `seek`. An object runs in one run at a time, in any number of
    them one after the other.
    """

    deletions_enabled: ClassVar[bool] = True
    """Whether `remove` may be called. Without it operators have less to keep. Part of what the source is."""

    stop_timeout: float = 30.0
    """Seconds a run that stops waits for `run` to end."""

    _feed: Feed = _NotRunning()

    def __init__(
        self, datasource_name: str = "python", *, session_type: Literal["native", "upsert"] = "native"
    ) -> None:
        """Need not be called. Both arguments are Pathway's and say nothing here: a primary key makes an upsert."""
        if session_type not in ("native", "upsert"):
            raise ValueError(f'session_type must be "native" or "upsert", got {session_type!r}')

    @abstractmethod
    def run(self) -> Any:
        """Gives rows until there are no more: ``def`` or ``async def``."""

    def on_stop(self) -> Any:  # noqa: B027
        """Called once for every `run`: after it, or while it still goes on in its thread when it is to end.

        May be ``async def`` where `run` is.
        """

    def offset(self) -> Any:
        """Where the subject stands, as a JSON value, asked when a row is given: the row already counts."""
        raise NotImplementedError

    def seek(self, offset: Any) -> Any:
        """Called before `run`, where that runs, with what `offset` gave with the last row that holds.

        Not called on a start from nothing. May be ``async def`` where `run` is.
        """
        raise NotImplementedError

    def next(self, /, *rows: Never, **row: Any) -> Awaitable[None]:
        """Gives a row. It is taken by this call; awaiting what it returns is for back-pressure alone.

        In a thread the call itself waits while the run is too far behind. Columns with a default and optional ones may
        be left out. A row that does not fit ends the run with `MalformedInput`, which names column and value.

        Raises `RunStopped` after `close` or when the run stops, and `RuntimeError` while there is no run.
        """
        if rows:
            raise _positional("next", rows)
        feed = self._feed
        if feed.asks:
            row[OFFSET] = feed.frozen(self.offset())
        feed.append(row)
        if len(feed.entries) > feed.limit:
            return feed.pressed()
        return TAKEN

    def next_batch(self, rows: Any) -> Awaitable[None]:
        """Gives many rows as `next` does: a list of dicts, a Polars frame, an Arrow table or stream.

        A list is turned into columns by this call, which takes about as long as making it did. Columns of a frame may
        lie in any order, and in any type that fits without loss. Raises `MalformedInput`, and `TypeError` for anything
        else.
        """
        feed = self._feed
        return feed.give(rows, feed.frozen(self.offset()) if feed.asks else None)

    def remove(self, /, *rows: Never, **row: Any) -> Awaitable[None]:
        """Takes back a row that was given; with a primary key, the row under it: only the key's columns are needed.

        With a primary key, removing what is not there means nothing. Without one, `row` has the values of a row that
        was given and not removed since. Any other is a mistake: the run ends with `InputError` where something in the
        graph keeps rows and finds it out, which may be later; a `groupby` that only counts or sums notices when a
        group has less than no rows, and what only filters and computes row by row passes it on, as a change with
        `diff` -1.

        Raises as `next` does, and `Unsupported` where rows cannot be taken back.
        """
        if rows:
            raise _positional("remove", rows)
        feed = self._feed
        if not self.deletions_enabled:
            raise Unsupported(f"{type(self).__qualname__}.deletions_enabled is False, so that no row can be removed")
        removed = feed.removed(row)
        if feed.asks:
            removed[OFFSET] = feed.frozen(self.offset())
        feed.append(removed)
        if len(feed.entries) > feed.limit:
            return feed.pressed()
        return TAKEN

    def delete(self, /, *rows: Never, **row: Any) -> Awaitable[None]:
        """The same as `remove`, under Pathway's name."""
        return self.remove(*rows, **row)

    def next_json(self, message: dict[str, Any] | str | bytes) -> Awaitable[None]:
        """Gives a row as a JSON object, decoded or not; its values are taken as they are."""
        row = json.loads(message) if isinstance(message, (str, bytes)) else message
        if not isinstance(row, dict):
            raise TypeError(f"next_json takes an object, not {row!r}")
        return self.next(**row)

    def next_str(self, message: str) -> Awaitable[None]:
        """Gives a row of the one column `data`."""
        return self.next(data=message)

    def next_bytes(self, message: bytes) -> Awaitable[None]:
        """Gives a row of the one column `data`."""
        return self.next(data=message)

    def commit(self) -> None:
        """What was given so far is to become available now, without the delay of `autocommit_duration_ms`."""
        self._feed.commit()

    def close(self) -> None:
        """No more rows come. Those that were given count; `run` may go on to clean up."""
        self._feed.end("the subject was closed")

    @classmethod
    def _resumes(cls) -> bool:
        """Whether it can go on after a restart. Raises `TypeError` for one of `offset` and `seek` alone."""
        has_offset = cls.offset is not ConnectorSubject.offset
        has_seek = cls.seek is not ConnectorSubject.seek
        if has_offset != has_seek:
            there, lacking = ("offset", "seek") if has_offset else ("seek", "offset")
            raise TypeError(f"{cls.__qualname__} has {there}() but no {lacking}(); to go on after a restart takes both")
        return has_offset

    @classmethod
    def _is_async(cls) -> bool:
        return inspect.iscoroutinefunction(cls.run)


def _positional(method: str, rows: tuple[Any, ...]) -> TypeError:
    if len(rows) == 1 and isinstance(rows[0], dict):
        several = ", and next_batch([row, ...]) takes many" if method == "next" else ""
        return TypeError(f"{method}() takes columns by name: for a dict write {method}(**row){several}")
    return TypeError(f"{method}() takes columns by name: {method}(column=value, ...)")
