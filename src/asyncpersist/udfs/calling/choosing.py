"""Which runner a function gets."""

from __future__ import annotations

import asyncio

from asyncpersist.clock import Clock
from asyncpersist.errors import GraphError
from asyncpersist.udfs.calling.async_runner import AsyncRunner
from asyncpersist.udfs.calling.callables import is_coroutine_function, is_generator_function
from asyncpersist.udfs.calling.elsewhere import named
from asyncpersist.udfs.calling.process_runner import ProcessRunner
from asyncpersist.udfs.calling.runner import Failing, Runner
from asyncpersist.udfs.calling.sync_runner import SyncRunner
from asyncpersist.udfs.executors import AsyncExecutor, ProcessExecutor, SyncExecutor
from asyncpersist.udfs.function import Function

__all__ = ["check_executor", "runner_for"]


def check_executor(function: Function) -> None:
    """Raises `GraphError` if its executor cannot run the function. For when the graph is built."""
    call, executor = function.call, function.executor
    if is_generator_function(call):
        raise GraphError(f"function {function.name} is a generator. A function returns one value: use `return`.")
    if is_coroutine_function(call) and isinstance(executor, SyncExecutor | ProcessExecutor):
        kind = "sync_executor" if isinstance(executor, SyncExecutor) else "process_executor"
        raise GraphError(
            f"function {function.name} is defined with `async def`, which {kind} cannot run. "
            "Use async_executor, or no executor."
        )
    if isinstance(executor, ProcessExecutor):
        named(function)


def runner_for(
    function: Function, *, loop: asyncio.AbstractEventLoop, clock: Clock, failing: Failing | None = None
) -> Runner:
    """What runs the function as its executor says; coroutines run in `loop`.

    A fully asynchronous one runs as an asynchronous one does. Whoever asks for a runner closes it in the end. Raises
    `GraphError` as `check_executor` does.
    """
    check_executor(function)
    executor = function.executor
    if isinstance(executor, ProcessExecutor):
        return ProcessRunner(function, executor, clock, failing)
    if isinstance(executor, AsyncExecutor) or is_coroutine_function(function.call):
        return AsyncRunner(function, loop, clock, failing)
    return SyncRunner(function, clock, failing)
