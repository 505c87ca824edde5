"""The signals that end `asyncpersist run`."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["asked_to_end"]

_ENDING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def asked_to_end() -> Iterator[asyncio.Future[signal.Signals]]:
    """The first signal that asks for the end. A second one does what signals do by default: it kills the process."""
    loop = asyncio.get_running_loop()
    asked: asyncio.Future[signal.Signals] = loop.create_future()

    def release() -> None:
        for number in _ENDING:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    def ask(number: signal.Signals) -> None:
        release()
        if not asked.done():
            asked.set_result(number)

    for number in _ENDING:
        loop.add_signal_handler(number, ask, number)
    try:
        yield asked
    finally:
        release()
