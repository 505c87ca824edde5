"""Threads of one's own, which a program that ends does not wait for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

__all__ = ["Threads"]


class Threads:
    """Does jobs in the order in which they come, in at most `most` threads, which start as they are needed.

    A job must not raise. A thread that hangs in one does not keep the program from ending.
    """

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._most = most
        self._jobs: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._closed = False

    def do(self, job: Callable[[], None]) -> bool:
        """Has it done as soon as a thread is free. False: it is closed, and the job will not be done."""
        with self._changed:
            if self._closed:
                return False
            self._jobs.append(job)
            if self._idle < len(self._jobs) and len(self._threads) < self._most:
                thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify()
            return True

    def close(self) -> None:
        """Lets the threads end once the jobs that are there are done. Idempotent."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def join(self, seconds: float) -> None:
        """Waits so long at most for each thread to end, after `close`."""
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(seconds)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._jobs:
                    if self._closed:
                        return
                    self._idle += 1
                    self._changed.wait()
                    self._idle -= 1
                job = self._jobs.popleft()
            job()
            del job
