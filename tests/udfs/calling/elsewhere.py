"""Functions that other processes find by their names."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any


class Decorated:
    """As a decorator leaves a function behind."""

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func = func

    def __call__(self, *values: Any) -> Any:
        raise AssertionError("not what is to be called")


class TwoArguments(Exception):
    """Pickled, but not to be made again."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def everything(text: str | None, times: int) -> str:
    match text:
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "two":
            raise TwoArguments("not", "picklable")
        case "local":
            raise type("Local", (Exception,), {})("nor this one")
        case "value":
            raise ValueError("boom")
        case "wrong":
            return 5  # type: ignore[return-value]
        case None:
            return "none"
    return f"{text}{'!' * times}{os.getpid()}"


class Adding:
    """An instance that is called."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __call__(self, n: int) -> int:
        return n + self.n


@Decorated
def stuck(path: str) -> str:
    if not path:
        return path
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    signal.pause()
    return path
