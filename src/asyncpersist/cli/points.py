"""Points of a state on the command line: a snapshot's number or its name, alone or as STATE@POINT."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from asyncpersist.checkpoint.ownership import OwnerState
from asyncpersist.checkpoint.protocol import check_name
from asyncpersist.checkpoint.register import describe_owner
from asyncpersist.cli.history import History

__all__ = ["Takeover", "Yes", "checked_name", "refusal_of_owner", "split_point"]

Yes = Annotated[bool, typer.Option("--yes", help="Do it; without this it is only said what would be done.")]
Takeover = Annotated[bool, typer.Option("--takeover", help="Also if the owner runs or may run: depose it.")]


def checked_name(name: str | None) -> str | None:
    """A callback for options that take a new name."""
    try:
        return None if name is None else check_name(name)
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc


def split_point(text: str) -> tuple[str, str | None]:
    """STATE and POINT of STATE@POINT; no point where there is none, or a directory has that very name."""
    state, at, point = text.rpartition("@")
    if not at or not state or not point or "/" in point or os.path.isdir(text):
        return text, None
    return state, point


def refusal_of_owner(history: History, *, takeover: bool) -> str | None:
    """Why a command that writes would be refused because of the owner; None if it would not."""
    if history.newest is None or history.owner_state is None or takeover or history.owner_state.proven_gone:
        return None
    owner = describe_owner(history.newest.owner)
    if history.owner_state is OwnerState.RUNNING:
        return f"the state is in use by {owner}. Stop that process, or say --takeover."
    return f"the state may be in use by {owner}. Make sure that it is not, and say --takeover."
