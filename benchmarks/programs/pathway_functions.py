"""Pathway calling a trivial function. Task: input, output, state, how ("sync" or "async")."""

from __future__ import annotations

import pathway as pw
from measured import report, task, timed


class Document(pw.Schema):
    text: str


job, figures = task(), {"calls": 0}


def turned(text: str) -> str:
    figures["calls"] += 1
    return text[::-1]


async def turned_later(text: str) -> str:
    figures["calls"] += 1
    return text[::-1]


with timed(figures):
    chosen = turned if job["how"] == "sync" else turned_later
    function = pw.udf(cache_strategy=pw.udfs.DefaultCache())(chosen)
    documents = pw.io.jsonlines.read(job["input"], schema=Document, mode="static")
    pw.io.csv.write(documents.select(pw.this.text, turned=function(pw.this.text)), job["output"])
    config = pw.persistence.Config(
        pw.persistence.Backend.filesystem(job["state"]), persistence_mode=pw.PersistenceMode.UDF_CACHING
    )
    pw.run(monitoring_level=pw.MonitoringLevel.NONE, persistence_config=config)
report(figures)
