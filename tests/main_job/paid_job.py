"""Texts from files, and for each of them an answer that a service is paid for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import asyncpersist as ap
from asyncpersist.cli.state_location import backend_of
from asyncpersist.graph.node import SourceNode
from asyncpersist.io.file_source import FileSource
from asyncpersist.persistence import Config, PersistenceMode
from tests.udfs.server import ask

__all__ = ["pay"]


class Text(ap.Schema):
    text: str


async def pay(order: dict[str, Any]) -> None:
    """Order: folder, output, state, port, and perhaps mode, durable, interval, cached, name, chunk, later."""
    later = order.get("later", False)
    executor = ap.udfs.fully_async_executor if later else ap.udfs.async_executor
    cached = ap.udfs.DefaultCache(durable=order.get("durable", "snapshot")) if order.get("cached", True) else None

    @ap.udf(
        cache_strategy=cached,
        executor=executor(capacity=8, retry_strategy=ap.udfs.FixedDelayRetryStrategy(max_retries=20, delay_ms=1)),
    )
    async def answered(text: str) -> str:
        return await ask(order["port"], text)

    with ap.Graph() as graph:
        texts = ap.io.jsonlines.read(Path(order["folder"]), schema=Text, mode="static", name=order.get("name"))
        assert isinstance(texts.node, SourceNode)
        assert isinstance(texts.node.source, FileSource)
        texts.node.source._chunk_bytes = order.get("chunk", 1024)
        answers = texts.select(texts.text, answer=answered(texts.text))
        ap.io.csv.write(answers.await_futures() if later else answers, order["output"])
    config = Config(
        backend_of(order["state"]),
        snapshot_interval_ms=order.get("interval", 0),
        persistence_mode=PersistenceMode[order.get("mode", "UDF_CACHING")],
    )
    await ap.run(graph, persistence_config=config)
