"""Hints of changes, and the period without them."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from pathlib import Path

import pytest

from asyncpersist.clock import Clock, SystemClock
from asyncpersist.io.file_source import FileSource
from asyncpersist.io.source import Needs
from asyncpersist.io.watch import Watch
from tests.io.following import Followed
from tests.io.reading import TEXT

NEVER = 1e6


async def hinted(watch: Watch, change: Path) -> None:
    """Changes a file until there is a hint: the first changes may come before the system listens."""
    waiting = asyncio.create_task(watch.wait())
    for i in range(1000):
        change.write_text(f"{i}\n")
        done, _ = await asyncio.wait({waiting}, timeout=0.05)
        if done:
            return
    raise AssertionError("no hint")


@pytest.mark.parametrize("path", ["", "a", "*.x", "sub/**/*.x"])
async def test_a_change_is_hinted_at(tmp_path: Path, path: str) -> None:
    (tmp_path / "sub/deep").mkdir(parents=True)
    (tmp_path / "a").write_text("")
    watch = Watch(f"{tmp_path}/{path}", SystemClock(), period=NEVER)
    try:
        await hinted(watch, tmp_path / "sub/deep/b.x" if "*" in path else tmp_path / "a")
    finally:
        await watch.aclose()
        await watch.aclose()
    assert "asyncpersist-watch" not in {thread.name for thread in threading.enumerate()}


async def test_without_hints_there_is_the_period(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    watch = Watch(f"{tmp_path}/nowhere/*.csv", SystemClock(), period=0.01)
    for _ in range(3):
        await watch.wait()
        watch.scanned(0.0)
    await watch.aclose()
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "no hints of changes" in record.message


class Jumping(SystemClock):
    """Time that passes by itself alone when it is asked for."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


async def test_scanning_takes_a_tenth_of_the_time_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Jumping()
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.now += seconds

    watch = Watch(str(tmp_path), clock, period=NEVER)
    try:
        await hinted(watch, tmp_path / "a")
        watch.scanned(0.5)
        monkeypatch.setattr(asyncio, "sleep", sleep)
        (tmp_path / "a").write_text("more\n")
        await watch.wait()
        assert slept == [4.5]
    finally:
        await watch.aclose()


async def test_files_are_followed_by_hints(tmp_path: Path) -> None:
    followed = Followed()
    source = FileSource(str(tmp_path), TEXT, mode="streaming", rounds=_never_by_itself)
    reader = await source.open(None, identity="source", needs=Needs(parts=True))
    reading = asyncio.create_task(reader.read())
    path = tmp_path / "a"
    for i in range(1000):
        with path.open("a") as file:
            file.write(f"{i}\n")
        done, _ = await asyncio.wait({reading}, timeout=0.05)
        if done:
            break
    batch = reading.result()
    assert batch is not None
    followed.take(batch)
    assert followed.values <= Counter(str(i) for i in range(1000))
    assert followed.values["0"] == 1
    await reader.aclose()


def _never_by_itself(path: str, clock: Clock) -> Watch:
    return Watch(path, clock, period=NEVER)
