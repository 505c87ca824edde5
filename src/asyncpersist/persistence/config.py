"""How state is kept: what a user passes as `run(persistence_config=...)`."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Literal

from asyncpersist.persistence.backend import Backend

__all__ = ["Config", "PersistenceMode", "SnapshotAccess"]


class PersistenceMode(Enum):
    """What is kept, and what a restart does."""

    BATCH = "batch"
    SPEEDRUN_REPLAY = "speedrun_replay"
    REALTIME_REPLAY = "realtime_replay"
    PERSISTING = "persisting"
    UDF_CACHING = "udf_caching"
    SELECTIVE_PERSISTING = "selective_persisting"
    OPERATOR_PERSISTING = "operator_persisting"


class SnapshotAccess(Enum):
    """What a run may do with what is kept."""

    REPLAY = "replay"
    RECORD = "record"
    FULL = "full"
    OFFSETS_ONLY = "offsets_only"


_REPLAYING = (PersistenceMode.BATCH, PersistenceMode.SPEEDRUN_REPLAY, PersistenceMode.REALTIME_REPLAY)

_VALID: dict[SnapshotAccess, tuple[PersistenceMode, ...]] = {
    SnapshotAccess.FULL: tuple(PersistenceMode),
    SnapshotAccess.RECORD: (*_REPLAYING, PersistenceMode.PERSISTING),
    SnapshotAccess.REPLAY: (*_REPLAYING, PersistenceMode.PERSISTING),
    SnapshotAccess.OFFSETS_ONLY: (PersistenceMode.PERSISTING, PersistenceMode.SELECTIVE_PERSISTING),
}

_LONGEST_INTERVAL = 10 * 365 * 24 * 3600 * 1000
"""Milliseconds in ten years."""


@dataclass(frozen=True, slots=True)
class Config:
    """How a run persists.

    - `snapshot_interval_ms`: desired time between snapshots; 0 (default): after every epoch, grouped while one is being
      written. Larger: a snapshot may lag further behind, and costs less. At most ten years.
    - `snapshot_access`, `persistence_mode`: what is kept and what is done with it. FULL goes with every mode;
      RECORD and REPLAY with BATCH, SPEEDRUN_REPLAY, REALTIME_REPLAY and PERSISTING; OFFSETS_ONLY with PERSISTING and
      SELECTIVE_PERSISTING.
    - `continue_after_replay=False` ends the run with the replay; for the three replay modes, or with REPLAY.
    - `on_graph_change`: what a graph that is another than in the run before gets: `"replay"`, new and changed operators
      are given what is there; `"reject"`, an error. None (default): replay where a log is kept, reject where none is.
    - `on_schema_change`: what a source with another schema gets: `"reject"` (default), or `"reread"`, it is read again
      from its beginning.
    - `retain_snapshots`: how many snapshots are kept (10); `retain_for`: younger ones are kept as well (None).
    - `compression` of state files: `"zstd"` (default), `"lz4"` or `"uncompressed"`.

    What they mean is in the guide, and mode by mode in `persistence.keeping`.

    Raises `TypeError` or `ValueError`, which say what is allowed.
    """

    backend: Backend
    snapshot_interval_ms: int = field(default=0, kw_only=True)
    snapshot_access: SnapshotAccess = field(default=SnapshotAccess.FULL, kw_only=True)
    persistence_mode: PersistenceMode = field(default=PersistenceMode.PERSISTING, kw_only=True)
    continue_after_replay: bool = field(default=True, kw_only=True)
    on_graph_change: Literal["replay", "reject"] | None = field(default=None, kw_only=True)
    on_schema_change: Literal["reject", "reread"] = field(default="reject", kw_only=True)
    retain_snapshots: int = field(default=10, kw_only=True)
    retain_for: timedelta | None = field(default=None, kw_only=True)
    compression: Literal["zstd", "lz4", "uncompressed"] = field(default="zstd", kw_only=True)

    def __post_init__(self) -> None:
        _check_type("backend", self.backend, Backend)
        _check_type("snapshot_interval_ms", self.snapshot_interval_ms, int)
        _check_type("snapshot_access", self.snapshot_access, SnapshotAccess)
        _check_type("persistence_mode", self.persistence_mode, PersistenceMode)
        _check_type("continue_after_replay", self.continue_after_replay, bool)
        _check_type("retain_snapshots", self.retain_snapshots, int)
        if self.retain_for is not None:
            _check_type("retain_for", self.retain_for, timedelta)
        _check_choice("on_graph_change", self.on_graph_change, None, "replay", "reject")
        _check_choice("on_schema_change", self.on_schema_change, "reject", "reread")
        _check_choice("compression", self.compression, "zstd", "lz4", "uncompressed")
        if self.snapshot_interval_ms < 0:
            raise ValueError(f"snapshot_interval_ms must be at least 0, not {self.snapshot_interval_ms}")
        if self.snapshot_interval_ms > _LONGEST_INTERVAL:
            raise ValueError(f"snapshot_interval_ms must be at most {_LONGEST_INTERVAL}, which is ten years")
        if self.retain_snapshots < 1:
            raise ValueError(f"retain_snapshots must be at least 1, not {self.retain_snapshots}")
        if self.retain_for is not None and self.retain_for < timedelta(0):
            raise ValueError(f"retain_for must not be negative, but is {self.retain_for}")
        allowed = _VALID[self.snapshot_access]
        if self.persistence_mode not in allowed:
            raise ValueError(
                f"SnapshotAccess.{self.snapshot_access.name} does not go with "
                f"PersistenceMode.{self.persistence_mode.name}; it goes with {', '.join(mode.name for mode in allowed)}"
            )
        if not self.continue_after_replay and not (
            self.persistence_mode in _REPLAYING or self.snapshot_access is SnapshotAccess.REPLAY
        ):
            raise ValueError(
                "continue_after_replay=False goes with BATCH, SPEEDRUN_REPLAY and REALTIME_REPLAY, or with "
                f"SnapshotAccess.REPLAY, not with PersistenceMode.{self.persistence_mode.name} under "
                f"SnapshotAccess.{self.snapshot_access.name}"
            )

    @classmethod
    def simple_config(
        cls,
        backend: Backend,
        snapshot_interval_ms: int = 0,
        snapshot_access: SnapshotAccess = SnapshotAccess.FULL,
        persistence_mode: PersistenceMode = PersistenceMode.PERSISTING,
        continue_after_replay: bool = True,
    ) -> Config:
        """The deprecated spelling of `Config(...)`; warns with `DeprecationWarning`."""
        warnings.warn("Config.simple_config(...) is deprecated: use Config(...)", DeprecationWarning, stacklevel=2)
        return cls(
            backend,
            snapshot_interval_ms=snapshot_interval_ms,
            snapshot_access=snapshot_access,
            persistence_mode=persistence_mode,
            continue_after_replay=continue_after_replay,
        )

    @property
    def graph_change(self) -> Literal["replay", "reject"]:
        """What a changed graph gets: `on_graph_change`, or what is usual where a log is kept or is not."""
        if self.on_graph_change is not None:
            return self.on_graph_change
        offsets_only = self.snapshot_access is SnapshotAccess.OFFSETS_ONLY
        return "reject" if offsets_only or self.persistence_mode is PersistenceMode.OPERATOR_PERSISTING else "replay"


def _check_type(name: str, value: object, expected: type) -> None:
    if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
        raise TypeError(f"{name} must be of type {expected.__name__}, not {type(value).__name__}")


def _check_choice(name: str, value: object, *allowed: object) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}")
