"""`asyncpersist replay`: what sources gave is given again."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from asyncpersist.cli.printing import PLACES
from asyncpersist.cli.run import AsJsonLines, Every, Target, Traceback
from asyncpersist.cli.running import Order, carry_out
from asyncpersist.cli.state_location import backend_of
from asyncpersist.persistence import Config, PersistenceMode, SnapshotAccess

__all__ = ["Pace", "replay"]


class Pace(Enum):
    """How fast, and in how many epochs."""

    BATCH = "batch"
    SPEEDRUN = "speedrun"
    REALTIME = "realtime"


_MODES = {
    Pace.BATCH: PersistenceMode.BATCH,
    Pace.SPEEDRUN: PersistenceMode.SPEEDRUN_REPLAY,
    Pace.REALTIME: PersistenceMode.REALTIME_REPLAY,
}


def replay(
    target: Target,
    recording: Annotated[
        str,
        typer.Argument(
            metavar="PLACE", help=f"A recording, or the state of a run that keeps logs: {PLACES}.", show_default=False
        ),
    ],
    mode: Annotated[
        Pace,
        typer.Option(
            help="batch: all as one epoch; speedrun: the recorded epochs, as fast as they go; realtime: with the "
            "recorded pauses."
        ),
    ] = Pace.SPEEDRUN,
    goes_on: Annotated[
        bool, typer.Option("--continue", help="Then go on with what the sources have now; else end with the replay.")
    ] = False,
    every: Every = 2.0,
    as_json: AsJsonLines = False,
    show_traceback: Traceback = False,
) -> None:
    """Give a graph again what its sources gave: a recording, or what a run has in its logs, which is only read.

    Outputs are new files, in the place of what is there; those of a run that goes on with this state are refused. The
    graph may be another one, as long as its sources are the same. Signals and exit codes are as in `asyncpersist run`.
    """
    config = Config(
        backend_of(recording),
        persistence_mode=_MODES[mode],
        snapshot_access=SnapshotAccess.REPLAY,
        continue_after_replay=goes_on,
    )
    carry_out(Order(target=target, config=config), every=every, as_json=as_json, show_traceback=show_traceback)
