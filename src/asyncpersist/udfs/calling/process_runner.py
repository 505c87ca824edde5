"""Calls in processes of their own."""

from __future__ import annotations

import multiprocessing
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from queue import Empty, SimpleQueue

import polars as pl

from asyncpersist.clock import Clock
from asyncpersist.errors import FunctionFailed
from asyncpersist.udfs.calling.failures import crashed, failed
from asyncpersist.udfs.calling.in_process import Done, answer, begin, packed
from asyncpersist.udfs.calling.runner import Answered, CallsCancelled, Failing, Wait
from asyncpersist.udfs.calling.threads import Threads
from asyncpersist.udfs.executors import ProcessExecutor
from asyncpersist.udfs.function import Function

__all__ = ["ProcessRunner"]

_CHUNK = 0.03
"""Seconds that a chunk of rows is to take: long beside its way there and back, short beside a group of answers."""

_MOST_ROWS = 1 << 16

_GRACE = 5.0
"""Seconds for which chunks may go on after a call has failed."""

_LAST = 0.5
"""The same after a cancellation."""

_Flying = dict[Future[Done], tuple[int, pl.DataFrame]]
"""Chunks under way, and where each begins."""


class ProcessRunner:
    """Runs a plain function in processes, which are started with the first rows and end with the runner.

    The function is looked up in each of them, in its module, which is imported there; so is the program itself, which
    therefore must start its run under `if __name__ == "__main__":`. Rows go there in chunks of some ten milliseconds.
    """

    def __init__(
        self, function: Function, executor: ProcessExecutor, clock: Clock, failing: Failing | None = None
    ) -> None:
        self._function = function
        self._processes = executor.processes
        self._clock = clock
        self._failing = failing
        self._failure: FunctionFailed | None = None  # of another function
        self._packed = packed(function)
        self._driver = Threads("asyncpersist-processes", 1)
        self._pool: ProcessPoolExecutor | None = None
        self._finished: SimpleQueue[Future[Done] | None] = SimpleQueue()
        self._rows = 1  # of a chunk
        self._cancelled = False

    def begin(self, arguments: pl.DataFrame, answered: Answered) -> Wait:
        frame = _Frame(arguments, answered)
        if not self._driver.do(partial(self._answer, frame)):
            frame.end(CallsCancelled())
        return frame.wait

    def wind_down(self, failure: FunctionFailed) -> None:
        self._failure = failure
        self._finished.put(None)

    def cancel(self) -> None:
        self._cancelled = True
        self._finished.put(None)
        self._driver.do(self._end)
        self._driver.close()

    def close(self) -> None:
        self.cancel()
        self._driver.join(2 * _GRACE)

    def _answer(self, frame: _Frame) -> None:
        flying: _Flying = {}
        try:
            self._send_all(frame, flying)
        except BaseException as exc:
            if self._failing is not None and isinstance(exc, FunctionFailed):
                self._failing(exc)
            self._land(frame, flying)
            frame.end(exc)
        else:
            frame.end(None)

    def _send_all(self, frame: _Frame, flying: _Flying) -> None:
        start, height = 0, frame.arguments.height
        while start < height or flying:
            if self._cancelled:
                raise CallsCancelled
            if self._failure is not None:
                raise self._failure
            if start < height and len(flying) < 2 * self._processes:
                rows = min(self._rows, -((start - height) // self._processes))
                chunk = frame.arguments.slice(start, rows)
                flying[self._send(chunk)] = start, chunk
                start += rows
            else:
                self._take(frame, flying)

    def _send(self, chunk: pl.DataFrame) -> Future[Done]:
        if self._pool is None:
            spawn = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._processes, spawn, initializer=begin)
        try:
            future = self._pool.submit(answer, self._packed, chunk)
        except BrokenProcessPool as exc:
            raise crashed(self._function, chunk, exc) from exc
        future.add_done_callback(self._finished.put)
        return future

    def _take(self, frame: _Frame, flying: _Flying, seconds: float | None = None) -> None:
        """Tells what came of the next chunk. Raises `FunctionFailed`, and `Empty` after so many seconds."""
        future = self._finished.get(timeout=seconds)
        if future is None or future not in flying:
            return
        start, chunk = flying.pop(future)
        if future.cancelled():
            return
        try:
            done = future.result()
        except BrokenProcessPool as exc:
            raise crashed(self._function, chunk, exc) from exc
        except Exception as exc:
            raise failed(self._function, chunk, exc) from exc
        if len(done.positions):
            frame.answered(done.positions + start, done.answers)
        fit = int(chunk.height * _CHUNK / max(done.seconds, 1e-9))
        self._rows = max(min(fit, max(self._rows, 8 * chunk.height), _MOST_ROWS), 1)
        if done.failed is not None:
            raise done.failed.error()

    def _land(self, frame: _Frame, flying: _Flying) -> None:
        """Waits for chunks under way, if they do not take long."""
        for future in list(flying):
            future.cancel()
        began = self._clock.monotonic()
        while flying:
            grace = _LAST if self._cancelled else _GRACE
            try:
                self._take(frame, flying, max(began + grace - self._clock.monotonic(), 0))
            except Empty:
                self._kill()
                return
            except Exception:  # the first failure is the one that counts
                continue

    def _kill(self) -> None:
        if self._pool is not None:
            for process in list((self._pool._processes or {}).values()):  # there is no public way before Python 3.14
                process.kill()

    def _end(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


class _Frame:
    """Arguments that were begun together, and how that ended."""

    def __init__(self, arguments: pl.DataFrame, answered: Answered) -> None:
        self.arguments = arguments
        self.answered = answered
        self._ended = threading.Event()
        self._reason: BaseException | None = None

    def end(self, reason: BaseException | None) -> None:
        self._reason = reason
        self._ended.set()

    def wait(self) -> None:
        self._ended.wait()
        if self._reason is not None:
            raise self._reason
