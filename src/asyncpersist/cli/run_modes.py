"""What `asyncpersist run --mode` takes."""

from __future__ import annotations

import typer

from asyncpersist.errors import Unsupported
from asyncpersist.persistence import Backend, Config, PersistenceMode

__all__ = ["built_modes", "mode_of"]


def built_modes() -> list[str]:
    """The modes that a run can carry out."""
    return [mode.value for mode in PersistenceMode if _is_built(mode)]


def mode_of(text: str) -> PersistenceMode:
    """The mode of that name, in any case; one that is not built is refused where a run begins."""
    try:
        return PersistenceMode(text.lower())
    except ValueError:
        raise typer.BadParameter(f"{text!r} is none of {', '.join(built_modes())}") from None


def _is_built(mode: PersistenceMode) -> bool:
    try:
        Config(Backend.memory(), persistence_mode=mode).refuse_unbuilt()
    except Unsupported:
        return False
    return True
