"""Calls side by side: coroutines in the application's loop, plain functions in threads."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import numpy as np
import polars as pl

from asyncpersist.clock import Clock
from asyncpersist.errors import FunctionFailed
from asyncpersist.udfs.calling.on_loop import LoopCalls
from asyncpersist.udfs.calling.runner import Answered, CallsCancelled, Failing, Positions, Wait
from asyncpersist.udfs.function import Function

__all__ = ["AsyncRunner"]


class AsyncRunner:
    """Runs a function as `LoopCalls` does; several frames of arguments may be under way, and share its capacity."""

    def __init__(
        self,
        function: Function,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        failing: Failing | None = None,
    ) -> None:
        self._loop = loop
        self._calls = LoopCalls(function, loop=loop, clock=clock, told=self._told, ended=self._ended, failing=failing)
        self._lock = threading.Lock()
        self._frames: list[_Frame] = []
        self._next = 0
        self._reason: Exception | None = None

    def begin(self, arguments: pl.DataFrame, answered: Answered) -> Wait:
        frame = _Frame(self._next, arguments.height, answered)
        self._next += arguments.height
        with self._lock:
            if self._reason is not None or not frame.open:
                frame.ended.set()
            else:
                self._frames.append(frame)
        self._calls.start(np.arange(frame.first, frame.first + arguments.height), arguments)
        return partial(self._wait, frame)

    def wind_down(self, failure: FunctionFailed) -> None:
        self._calls.wind_down(failure)

    def cancel(self) -> None:
        self._calls.cancel()

    def close(self) -> None:
        self._calls.close()

    def _wait(self, frame: _Frame) -> None:
        while not frame.ended.wait(1):
            if self._loop.is_closed():
                self.cancel()
        if frame.open:
            raise self._reason or CallsCancelled()

    def _told(self, keys: Positions, values: pl.Series) -> None:
        with self._lock:
            frames = list(self._frames)
        for frame in frames:
            own = (keys >= frame.first) & (keys < frame.first + frame.height)
            if own.all():
                frame.answered(keys - frame.first, values)
            elif own.any():
                frame.answered(keys[own] - frame.first, values.filter(pl.Series(own)))
            frame.open -= int(own.sum())
            if not frame.open:
                self._end(frame)

    def _end(self, frame: _Frame) -> None:
        with self._lock:
            self._frames.remove(frame)
        frame.ended.set()

    def _ended(self, reason: Exception) -> None:
        with self._lock:
            self._reason = reason
            frames = list(self._frames)
        for frame in frames:
            self._end(frame)


class _Frame:
    """Arguments that were begun together, and how many of them are open."""

    def __init__(self, first: int, height: int, answered: Answered) -> None:
        self.first = first
        self.height = height
        self.answered = answered
        self.open = height
        self.ended = threading.Event()
