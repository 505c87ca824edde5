"""What a run tells of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["FunctionStatistics", "Statistics"]


class FunctionStatistics(NamedTuple):
    """What was done for one function in one run."""

    calls: int = 0
    """How often it was run, with success or not; attempts are not counted apart."""
    hits: int = 0
    """Rows that were answered without a call of their own: from a cache, or with equal ones."""
    failures: int = 0
    """Calls that failed for good."""


class Statistics(NamedTuple):
    """Figures of one run, taken at one moment."""

    rows_read: int
    """Rows that went through the dataflow in this run, counted by weight."""
    rows_skipped: int
    """Malformed rows left out under `on_error="skip"` in this run."""
    epochs: int
    """Epochs stepped in this run."""
    epoch: int
    """The last epoch; 0 before the first."""
    snapshots: int
    """Snapshots committed in this run."""
    snapshot: int
    """The number of the newest commit in the state root; 0 without one."""
    snapshot_age: float
    """Seconds since what is committed was the present; 0 when nothing is uncommitted."""
    uncommitted_bytes: int
    """Bytes of input that no committed snapshot covers yet."""
    state_bytes_written: int
    """Bytes of operator state and offsets written in this run, merging included."""
    log_bytes_written: int
    """Bytes of source logs written in this run, merging included."""
    snapshot_seconds: float
    """Seconds that the last snapshot of this run took, from its barrier until it was committed."""
    snapshot_bytes: int
    """Bytes written for the last snapshot of this run: state, offsets and logs since the one before."""
    started_in: float
    """Seconds from the start until the state was loaded."""
    recovered_epoch: int | None
    """The epoch of the snapshot this run went on from; None if it began empty."""
    functions: Mapping[str, FunctionStatistics]
    """By the qualified names of the functions that are called."""
