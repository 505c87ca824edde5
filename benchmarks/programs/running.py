"""How our programs run a graph as their task says."""

from __future__ import annotations

from typing import Any

import asyncpersist as ap

__all__ = ["configured", "run"]


async def run(graph: ap.Graph, job: dict[str, Any], figures: dict[str, Any]) -> None:
    """Runs to the end as `configured`; puts epochs and started_in_ms into `figures`."""
    async with ap.Runtime(graph, persistence_config=configured(job)) as runtime:
        await runtime.wait()
    statistics = runtime.statistics()
    figures |= {"epochs": statistics.epochs, "started_in_ms": statistics.started_in * 1e3}


def configured(job: dict[str, Any]) -> ap.persistence.Config | None:
    """The configuration of a task: state (null: nothing is kept) and interval_ms.

    There may be `s3`, the settings of a bucket that takes the place of the directory `state`; `mode` and `access`, by
    name; `continue_after_replay`.
    """
    if not job["state"]:
        return None
    if "s3" in job:
        backend = ap.persistence.Backend.s3("root", ap.io.s3.AwsS3Settings(**job["s3"]))
    else:
        backend = ap.persistence.Backend.filesystem(job["state"])
    return ap.persistence.Config(
        backend,
        snapshot_interval_ms=job["interval_ms"],
        persistence_mode=ap.PersistenceMode[job.get("mode", "PERSISTING")],
        snapshot_access=ap.SnapshotAccess[job.get("access", "FULL")],
        continue_after_replay=job.get("continue_after_replay", True),
    )
