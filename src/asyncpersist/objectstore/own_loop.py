"""The event loop that a vendor's client belongs to: it works in no other one."""

from __future__ import annotations

import asyncio

__all__ = ["check_loop"]


def check_loop(owner: asyncio.AbstractEventLoop | None, store: str) -> None:
    """Raises `RuntimeError` if `store` has a client and `owner`, in which it was made, is not the loop that runs."""
    if owner is not None and owner is not asyncio.get_running_loop():
        raise RuntimeError(
            f"{store}: the store belongs to another event loop, in which it was used first. Make a store for each "
            "loop, or use Backend.s3 or Backend.azure, which have a loop of their own"
        )
