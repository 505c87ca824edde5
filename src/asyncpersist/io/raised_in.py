"""Whose function it was that raised: errors of a user's code say where in the graph they come from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["noting"]


@contextmanager
def noting(note: str) -> Iterator[None]:
    """Adds `note` to every error that comes through."""
    try:
        yield
    except Exception as exc:
        if note not in getattr(exc, "__notes__", ()):
            exc.add_note(note)
        raise
