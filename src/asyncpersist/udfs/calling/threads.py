"""Threads of one's own, which a program that ends does not wait for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

__all__ = ["Threads"]


class Threads:
    """Does jobs in the order in which they come, in at most `most` threads, which start as they are needed.

    A job must not raise. A thread that hangs in one does not keep the program from ending, and another one takes its
    place if it is said to be `lost`, unless `spares` of them are.
    """

    def __init__(self, name: str, most: int, *, spares: int = 0) -> None:
        self._name = name
        self._most = most
        self._spares = spares
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._spare = 0  # threads for which there is no job
        self._backlog = 0  # jobs for which there is no thread
        self._closed = False

    def do(self, job: Callable[[], None]) -> bool:
        """Has it done as soon as a thread is free. False: it is closed, and the job will not be done."""
        with self._lock:
            if self._closed:
                return False
            if self._spare:
                self._spare -= 1
            elif len(self._threads) < self._most:
                self._start()
            else:
                self._backlog += 1
            self._jobs.put(job)
        return True

    def lost(self) -> bool:
        """A thread hangs in its job. False: so many do that no other one takes its place."""
        with self._lock:
            if self._closed or not self._spares:
                return False
            self._spares -= 1
            self._most += 1
            if self._backlog:
                self._backlog -= 1
                self._start()
        return True

    def found(self) -> None:
        """For a job at its end, whose thread was `lost`: it is there again, or another one ends."""
        with self._lock:
            self._spares += 1
            self._most -= 1

    def close(self) -> None:
        """Lets the threads end once the jobs that are there are done. Idempotent."""
        with self._lock:
            if not self._closed:
                self._closed = True
                for _ in self._threads:
                    self._jobs.put(None)

    def join(self, seconds: float) -> None:
        """Waits so long at most for each thread to end, after `close`."""
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(seconds)

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, name=self._name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job
            with self._lock:
                if len(self._threads) > self._most and not self._closed:
                    self._threads.remove(threading.current_thread())
                    return
                if self._backlog:
                    self._backlog -= 1
                else:
                    self._spare += 1
