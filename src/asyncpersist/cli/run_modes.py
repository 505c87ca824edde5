"""What `asyncpersist run --mode` takes."""

from __future__ import annotations

import typer

from asyncpersist.persistence import PersistenceMode

__all__ = ["MODES", "mode_of"]

MODES = ", ".join(mode.value for mode in PersistenceMode)
"""The names of all modes."""


def mode_of(text: str) -> PersistenceMode:
    """The mode of that name, in any case."""
    try:
        return PersistenceMode(text.lower())
    except ValueError:
        raise typer.BadParameter(f"{text!r} is none of {MODES}") from None
