"""What each mode and access means: which parts of a run are kept, and which of them a restart finds again.

| mode, with FULL | offsets | source logs | state | caches | outputs that go on | what is logged is |
|---|---|---|---|---|---|---|
| PERSISTING | all | all | all | all | all | for rebuilding |
| OPERATOR_PERSISTING | all | of what is taken back by parts | all | all | all | for rebuilding |
| SELECTIVE_PERSISTING | named | named | above named sources only | all | the same | for rebuilding |
| UDF_CACHING | named | named | none | all | reached by a named source | not given again |
| BATCH, SPEEDRUN_REPLAY, REALTIME_REPLAY | named | named, whole | none | all | none | replayed |

Caches of functions are found by every run, whatever its mode and access, and added to by every one that writes; those
that a run does not use it carries on.

RECORD keeps offsets and whole logs (of all sources with PERSISTING, else of the named ones), and finds nothing. REPLAY
keeps nothing, and replays every log there is. OFFSETS_ONLY keeps the offsets that the mode keeps, and outputs go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from asyncpersist.persistence.config import Config, PersistenceMode, SnapshotAccess

__all__ = ["Keeping", "Replaying", "keeping_of"]

Replaying = Literal["batch", "speedrun", "realtime"]
"""A log as one epoch, epoch by epoch, or epoch by epoch with the pauses there were."""

_REPLAYING: dict[PersistenceMode, Replaying] = {
    PersistenceMode.BATCH: "batch",
    PersistenceMode.SPEEDRUN_REPLAY: "speedrun",
    PersistenceMode.REALTIME_REPLAY: "realtime",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """What a run does with its root.

    `writes`: it claims the root and commits snapshots; `finds`: what earlier runs kept counts. `named_only`: of sources
    only those with a name are kept. `logs`: of which of these the log is kept: of all, of those whose rows are taken
    back by parts, or of none; `whole`: with their history. `states`: state of operators is kept. `outputs`: which sinks
    go on: all, those above named sources only (`"named"`), those that a named source reaches, or none. `rebuilds`:
    what has no state is given what was there before. `replay`: how the logs are replayed, if they are.
    """

    writes: bool = True
    finds: bool = True
    named_only: bool = False
    logs: Literal["all", "parts", "none"] = "all"
    whole: bool = False
    states: bool = False
    outputs: Literal["all", "named", "reached", "none"] = "all"
    rebuilds: bool = False
    replay: Replaying | None = None


def keeping_of(config: Config) -> Keeping:
    """What the run of a (valid) configuration keeps and does."""
    mode, access = config.persistence_mode, config.snapshot_access
    if access is SnapshotAccess.REPLAY:
        return Keeping(writes=False, logs="none", outputs="none", replay=_REPLAYING.get(mode, "batch"))
    if access is SnapshotAccess.RECORD:
        return Keeping(finds=False, named_only=mode in _REPLAYING, whole=True, outputs="none")
    if access is SnapshotAccess.OFFSETS_ONLY:
        selective = mode is PersistenceMode.SELECTIVE_PERSISTING
        return Keeping(logs="none", named_only=selective, outputs="named" if selective else "all")
    match mode:
        case PersistenceMode.PERSISTING:
            return Keeping(states=True, rebuilds=True)
        case PersistenceMode.OPERATOR_PERSISTING:
            return Keeping(logs="parts", states=True, rebuilds=True)
        case PersistenceMode.SELECTIVE_PERSISTING:
            return Keeping(named_only=True, states=True, rebuilds=True, outputs="named")
        case PersistenceMode.UDF_CACHING:
            return Keeping(named_only=True, outputs="reached")
        case _:
            return Keeping(named_only=True, whole=True, outputs="none", replay=_REPLAYING[mode])
