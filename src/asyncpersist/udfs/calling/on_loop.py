"""Calls of one function in the application's loop, each known by a key: so many at once, cut off, made again."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from asyncpersist.clock import Clock
from asyncpersist.errors import FunctionFailed
from asyncpersist.udfs.calling.callables import is_coroutine_function
from asyncpersist.udfs.calling.failures import TookTooLong, failed
from asyncpersist.udfs.calling.in_threads import InThreads
from asyncpersist.udfs.calling.runner import CallsCancelled, Failing, Positions
from asyncpersist.udfs.calling.threads import Threads
from asyncpersist.udfs.calling.turns import Turns
from asyncpersist.udfs.calling.units import BatchUnits, RowUnits, Unit, Units
from asyncpersist.udfs.executors import AsyncExecutor
from asyncpersist.udfs.function import Function

__all__ = ["Ended", "LoopCalls", "Told"]

Told = Callable[[Positions, pl.Series], None]
"""Told the answers to calls, by keys, in the function's own type. Called in a thread of its own; must be quick."""

Ended = Callable[[Exception], None]
"""Told once, after the last answer, why there will be no more: `FunctionFailed` for the first call that failed for
good, `CallsCancelled`, or what `Told` raised. Called in the same thread."""

_MOST = 1000
"""Calls at once where nothing is said of it."""

_MOST_THREADS = 64
"""The same for plain functions, which take a thread each."""

_MOST_HANGING = 64
"""Threads that are replaced when calls in them have taken too long, and have not ended yet."""

_GRACE = 5.0
"""Seconds: how long calls may go on after another one has failed, since what they answer may be paid for; and how long
they may take to end once they are cancelled."""

_TELL_AFTER = 0.01
"""Seconds for which answers are gathered while others are awaited."""

_NOTHING: Any = object()
_NONE = -1


class LoopCalls:
    """Calls one function for rows of arguments, each under a key: a whole number of at least 0 that is used once.

    Coroutines run in `loop`, plain functions in threads: at most `capacity` of the executor at once, each attempt
    within its `timeout`, and made again as its retry strategy says. A plain function that takes longer cannot be ended:
    its thread is replaced, as long as no more than 64 hang; from then on a call fails as well that finds no thread
    within its timeout. They see a copy of the context in which this was
    made; calls that follow each other may share one.

    Calls take half a millisecond of each turn of the loop. What is asked for from outside, from any thread, is done in
    the loop a moment later. When a call has failed for good no other one begins, not even once more; those under way
    have some seconds to end, and are told if they succeed, before they are cancelled. A coroutine that does not end
    although it was cancelled is left behind after some seconds more. `failing` is told of the failure at once, in the
    loop.
    """

    def __init__(
        self,
        function: Function,
        *,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        told: Told,
        ended: Ended,
        failing: Failing | None = None,
    ) -> None:
        executor = function.executor if isinstance(function.executor, AsyncExecutor) else AsyncExecutor()
        self._function = function
        self._loop = loop
        self._clock = clock
        self._told = told
        self._ended = ended
        self._failing = failing
        self._context = contextvars.copy_context()
        self._interruptible = is_coroutine_function(function.call)
        self._capacity = executor.capacity or (_MOST if self._interruptible else _MOST_THREADS)
        self._timeout = executor.timeout
        self._retries = executor.retry_strategy
        self._teller = Threads("asyncpersist-answers", 1)
        self._threads = Threads("asyncpersist-calls", self._capacity, spares=_MOST_HANGING)
        self._by_row = not (function.columns or function.max_batch_size)
        self._units: Units = RowUnits(function, clock)
        if not self._by_row:
            self._units = BatchUnits(function, clock, InThreads(self._teller, loop, self._context).awaitable)
        self._call = self._units.call
        if not self._interruptible:
            self._call = InThreads(self._threads, loop, self._context, self._timeout).awaitable(self._units.call)
        self._attempt = self._timed if self._interruptible and self._timeout is not None else self._call
        self._gone = threading.Event()

        # All that follows is for the loop's thread alone.
        self._queue: deque[tuple[Positions, pl.DataFrame]] = deque()
        self._waiting = 0  # rows for which no call has begun
        self._cut: Iterator[Unit] = iter(())  # the next of them
        self._dropped: set[int] = set()  # withdrawn, among the rows that were cut last
        self._tasks: dict[asyncio.Task[None], int] = {}  # and the (first) key each is at
        self._unwanted: set[int] = set()  # withdrawn, among those
        self._pausing: set[asyncio.Task[None]] = set()  # between two attempts
        self._turns = Turns(loop, clock, self._begin, self._capacity)
        # Answers, in lists side by side: what the collector of garbage need not look at costs it no time.
        self._covered: list[Any] = []
        self._given: list[Any] = []
        self._answers: list[Any] = []
        self._telling: asyncio.TimerHandle | None = None
        self._reason: Exception | None = None  # why it ends
        self._ending: asyncio.Task[None] | None = None
        self._over = False

    def start(self, keys: Positions, arguments: pl.DataFrame) -> None:
        """Begins calls, in this order, for rows of arguments, the columns in the order of `Function.takes`.

        Once it has ended nothing comes of it.
        """
        if len(keys):
            self._post(self._add, keys, arguments)

    def withdraw(self, keys: Positions) -> None:
        """Does without the answers under these keys; some may still be told.

        Calls that have not begun are not made, and a coroutine for one of these rows is cancelled. A plain function
        goes on, and so does a call for many rows.
        """
        self._post(self._withdraw, keys)

    def wind_down(self, failure: FunctionFailed) -> None:
        """Ends as if a call had failed so. Idempotent."""
        self._post(self._stop, failure)

    def cancel(self) -> None:
        """Cancels all calls at once, and ends when they have ended. Idempotent."""
        self._post(self._cancel)

    def close(self) -> None:
        """Cancels, and waits, for some seconds at most, until all has ended. Not in the loop's thread. Idempotent."""
        for _ in range(int(3 * _GRACE)):
            self.cancel()
            if self._gone.wait(1):
                break
        self._teller.join(1)
        self._threads.join(0)

    def _post(self, step: Callable[..., None], *given: Any) -> None:
        """Has a step done in the loop."""
        try:
            self._loop.call_soon_threadsafe(step, *given)
        except RuntimeError:  # the loop is closed, and with it all calls
            self._reason = self._reason or CallsCancelled()
            self._finish()

    # Which calls are to be made.

    def _add(self, keys: Positions, arguments: pl.DataFrame) -> None:
        if self._reason is None:
            self._queue.append((keys, arguments))
            self._waiting += len(keys)
            self._turns.schedule()

    def _next(self) -> Unit | None:
        """The next call; None if there is none at the moment."""
        while True:
            for unit in self._cut:
                self._waiting -= 1 if self._by_row else len(unit[2])
                if not self._dropped or unit[0] not in self._dropped:
                    return unit
            self._dropped.clear()
            if not self._queue:
                return None
            keys, arguments = self._queue.popleft()
            rows = self._units.at_once or len(keys)
            if rows < len(keys):
                self._queue.appendleft((keys[rows:], arguments.slice(rows)))
            self._cut = self._units.cut(keys[:rows], arguments.slice(0, rows))

    def _withdraw(self, keys: Positions) -> None:
        queue, self._queue = list(self._queue), deque()
        for waiting, arguments in queue:
            wanted = ~np.isin(waiting, keys)
            self._waiting -= len(wanted) - int(wanted.sum())
            if wanted.any():
                self._queue.append((waiting[wanted], arguments.filter(pl.Series(wanted))))
        if self._by_row:
            gone = set(keys.tolist())
            self._dropped |= gone
            for task, key in self._tasks.items():
                if key in gone and key not in self._unwanted:
                    self._unwanted.add(key)
                    self._interrupt(task)

    # The calls.

    def _begin(self, most: int) -> int:
        if self._answers and self._telling is None and not self._over:
            self._telling = self._loop.call_later(_TELL_AFTER, self._tell)
        count = 0 if self._reason else max(min(most, self._waiting, self._capacity - len(self._tasks)), 0)
        for _ in range(count):
            task = self._loop.create_task(self._work(), context=self._context.copy())
            if not task.done():
                self._tasks.setdefault(task, _NONE)
            task.add_done_callback(self._worked)
        return count

    async def _work(self) -> None:
        """Makes one call after the other as long as there is time."""
        task = asyncio.current_task()
        assert task is not None
        attempt, upcoming, now = self._attempt, self._next, self._clock.monotonic
        tasks, turns = self._tasks, self._turns
        covered, given, answers = self._covered.append, self._given.append, self._answers.append
        try:
            while self._reason is None and (now() < turns.until or turns.has_begun()) and (unit := upcoming()):
                tasks[task] = unit[0]
                cause = None
                try:
                    value = await attempt(*unit[1])
                except BaseException as exc:
                    cause = exc
                if cause is not None:
                    value = await self._once_more(task, unit, cause)
                if self._unwanted and unit[0] in self._unwanted:
                    self._unwanted.discard(unit[0])
                    _forget_cancelling(task)
                elif value is not _NOTHING:
                    covered(unit[2])
                    given(unit[1])
                    answers(value)
        finally:
            tasks.pop(task, None)
            if self._reason is not None or (not tasks and not self._waiting):
                self._tell()

    def _worked(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if task.cancelled():  # before it began, by who ends the loop
            self._cancel()
        elif (exc := task.exception()) is not None:
            self._stop(exc if isinstance(exc, Exception) else CallsCancelled())
        if self._reason is not None and not self._tasks:
            self._finish()

    async def _timed(self, *values: Any) -> Any:
        try:
            async with asyncio.timeout(self._timeout) as scope:
                return await self._call(*values)
        except TimeoutError as exc:
            if not scope.expired():
                raise
            raise TookTooLong(f"no answer within {self._timeout:g} s") from exc

    async def _once_more(self, task: asyncio.Task[None], unit: Unit, cause: BaseException | None) -> Any:
        """The answer to a later attempt, or nothing, after the first one has raised `cause`."""
        attempts, delays = 1, None
        while cause is not None and self._may_go_on(task, unit, cause):
            try:
                delays = delays or self._retries.delays(self._clock.chance)
                pause = next(delays, None)
            except Exception as exc:  # a strategy of the user's own
                cause, pause = exc, None
            if pause is None:
                given = unit[1] if self._by_row else unit[1][0]
                self._stop(failed(self._function, given, cause, attempts))
                break
            cause = await self._pause(task, pause)
            if cause is None and self._reason is None:
                attempts += 1
                try:
                    return await self._attempt(*unit[1])
                except BaseException as exc:
                    cause = exc
        return _NOTHING

    def _may_go_on(self, task: asyncio.Task[None], unit: Unit, cause: BaseException) -> bool:
        """Whether what an attempt raised is a failure, of a call that is still wanted."""
        wanted = unit[0] not in self._unwanted
        if isinstance(cause, KeyboardInterrupt):
            raise cause
        if not isinstance(cause, asyncio.CancelledError):
            _forget_cancelling(task)
        elif task.cancelling() and wanted and self._reason is None:  # by who ends the loop
            self._cancel()
        return wanted and self._reason is None

    async def _pause(self, task: asyncio.Task[None], seconds: float) -> BaseException | None:
        """What was raised instead of a pause."""
        self._pausing.add(task)
        try:
            await self._clock.sleep(seconds)
        except BaseException as exc:
            return exc
        finally:
            self._pausing.discard(task)
        return None

    # What came of them.

    def _tell(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        if self._answers:
            self._teller.do(partial(self._tell_now, self._covered[:], self._given[:], self._answers[:]))
            for each in (self._covered, self._given, self._answers):
                each.clear()

    def _tell_now(self, covered: list[Any], given: list[Any], answers: list[Any]) -> None:
        failure: Exception | None
        try:
            keys, column, failure = self._units.answers(covered, given, answers)
            if len(keys):
                self._told(keys, column)
        except Exception as exc:
            failure = exc
        if failure is not None:
            self._post(self._stop, failure)

    # The end.

    def _stop(self, reason: Exception) -> None:
        """Begins nothing any more; cancels what takes long."""
        if self._reason is None:
            self._reason = reason
            if self._failing is not None and isinstance(reason, FunctionFailed):
                self._failing(reason)
            self._begin_nothing()
            for task in self._pausing:
                task.cancel()
            self._end_soon(_GRACE)
            if not self._tasks:
                self._finish()

    def _cancel(self) -> None:
        if not self._over:
            self._reason = self._reason or CallsCancelled()
            self._begin_nothing()
            self._interrupt(*self._tasks)
            self._end_soon(0)
            if not self._tasks:
                self._finish()

    def _begin_nothing(self) -> None:
        self._queue.clear()
        self._waiting = 0

    def _interrupt(self, *tasks: asyncio.Task[None]) -> None:
        for task in tasks:
            if self._interruptible or task in self._pausing:
                task.cancel()

    def _end_soon(self, grace: float) -> None:
        if self._ending is not None:
            self._ending.cancel()
        self._ending = self._loop.create_task(self._end(grace))

    async def _end(self, grace: float) -> None:
        """Gives calls so many seconds before they are cancelled, and leaves behind those that go on then."""
        if grace:
            await self._clock.sleep(grace)
            self._interrupt(*self._tasks)
        await self._clock.sleep(_GRACE)
        self._finish()

    def _finish(self) -> None:
        if self._over:
            return
        self._over = True
        self._tell()
        if not self._loop.is_closed():
            for task in (*self._tasks, *filter(None, [self._ending])):
                task.cancel()
        assert self._reason is not None
        self._teller.do(partial(self._ended, self._reason))
        self._teller.do(self._gone.set)
        self._teller.close()
        self._threads.close()


def _forget_cancelling(task: asyncio.Task[None]) -> None:
    while task.cancelling():
        task.uncancel()
