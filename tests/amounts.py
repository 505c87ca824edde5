"""How much is tried: in `scripts/test` what pays in every run, in `scripts/torture` more."""

from __future__ import annotations

import os

from asyncpersist.disk import Disk
from asyncpersist.testing.disks import CHANGES

__all__ = ["EVERYWHERE", "PATIENCE", "PLACES", "TIMES"]

EVERYWHERE = bool(os.environ.get("ASYNCPERSIST_EVERYWHERE"))
"""Whether that is tried too which should make no difference: another kind of store, a kill where it leaves the same."""

PATIENCE = 120.0
"""Seconds after which a test says that something hangs. Nothing takes so long, however busy the machine is."""

PLACES = [("before", CHANGES), ("half", frozenset({"write"}))]
"""Where a process is killed in turn: when, and at which calls of its disk."""
if EVERYWHERE:
    PLACES += [(when, frozenset(vars(Disk))) for when in ("before", "after")]

TIMES = int(os.environ.get("ASYNCPERSIST_TIMES", "1"))
"""How many times as many random examples are tried as usually."""
