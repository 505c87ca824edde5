"""Whether the recorded owner of a root still runs: a decision over facts."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

from asyncpersist.checkpoint.manifest import Owner

__all__ = ["UNREADABLE", "OwnerState", "Process", "judge", "owner_of"]

UNREADABLE = -1.0
"""In place of the start of a process that lives but cannot be looked at."""


class OwnerState(Enum):
    """What is known of a recorded owner."""

    NONE = "none"
    """The root has never been claimed."""
    RELEASED = "released"
    """It ended cleanly."""
    ENDED = "ended"
    """Proven to be gone: its process is, its machine was restarted, or it is an ended run of this process."""
    RUNNING = "running"
    """It is alive on this machine, perhaps stopped, perhaps this process itself."""
    ELSEWHERE = "elsewhere"
    """On another machine or in another container, from which nothing can be proven."""

    @property
    def proven_gone(self) -> bool:
        return self in (OwnerState.NONE, OwnerState.RELEASED, OwnerState.ENDED)


@dataclass(frozen=True, slots=True)
class Process:
    """A process as its machine knows it; the fields are those of `Owner`."""

    host: str
    machine: str
    boot: str
    namespace: str
    pid: int
    started: float


def owner_of(process: Process, run: str, since: float) -> Owner:
    """What a claim by a run of a process says of its owner."""
    return Owner(
        host=process.host,
        machine=process.machine,
        boot=process.boot,
        namespace=process.namespace,
        pid=process.pid,
        started=process.started,
        run=run,
        since=since,
    )


def judge(owner: Owner | None, here: Process, live_runs: Collection[str], started: float | None) -> OwnerState:
    """What is known of `owner`.

    `here` is this process, `live_runs` the tokens of its runs that have not ended. `started` is the start of the
    process that lives under the owner's pid on this machine now; None if there is none, or only a zombie is left.
    A stopped process lives, and one that cannot be looked at is taken to be the owner.
    """
    if owner is None:
        return OwnerState.NONE
    if owner.released:
        return OwnerState.RELEASED
    if (owner.boot, owner.namespace) != (here.boot, here.namespace):
        restarted = (
            owner.boot != here.boot and owner.machine and (owner.machine, owner.host) == (here.machine, here.host)
        )
        return OwnerState.ENDED if restarted else OwnerState.ELSEWHERE
    if not owner.boot and owner.host != here.host:
        return OwnerState.ELSEWHERE
    if owner.pid == here.pid and owner.started == here.started:
        return OwnerState.RUNNING if owner.run in live_runs else OwnerState.ENDED
    return OwnerState.RUNNING if started in (owner.started, UNREADABLE) else OwnerState.ENDED
