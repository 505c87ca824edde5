"""Texts from files, and for each of them an answer that a server is asked for over HTTP."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import asyncpersist as ap
from asyncpersist.cli.state_location import backend_of
from asyncpersist.graph.node import SourceNode
from asyncpersist.io.file_source import FileSource
from asyncpersist.persistence import Config, PersistenceMode

__all__ = ["ask", "pay"]


class Text(ap.Schema):
    text: str


async def ask(url: str, text: str) -> str:
    """The body of the answer to GET url/text. Raises `ConnectionError` for any status but 200."""
    address = urlsplit(url)
    assert address.hostname is not None
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        writer.write(
            f"GET /{quote(text, safe='')} HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n\r\n".encode()
        )
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    status = head.split(b" ", 2)[1].decode() if head else "none"
    if status != "200":
        raise ConnectionError(f"status {status}")
    return body.decode()


async def pay(order: dict[str, Any]) -> None:
    """Task: folder, output, state, url, and optionally mode, durable, interval, how ("async", "later", "sync")."""
    url = order["url"]

    async def price(text: str) -> str:
        return await ask(url, text)

    later = order.get("how") == "later"
    executors = ap.udfs.fully_async_executor if later else ap.udfs.async_executor
    function = ap.udf(
        cache_strategy=ap.udfs.DefaultCache(durable=order.get("durable", "snapshot"))
        if order.get("cached", True)
        else None,
        executor=executors(
            capacity=8, timeout=20, retry_strategy=ap.udfs.FixedDelayRetryStrategy(max_retries=20, delay_ms=1)
        ),
        version=1,
    )(price)
    with ap.Graph() as graph:
        texts = ap.io.jsonlines.read(Path(order["folder"]), schema=Text, mode="static", name=order.get("name"))
        assert isinstance(texts.node, SourceNode)
        assert isinstance(texts.node.source, FileSource)
        texts.node.source._chunk_bytes = order.get("chunk", 1024)
        answers = texts.select(texts.text, answer=function(texts.text))
        ap.io.csv.write(answers.await_futures() if later else answers, order["output"])
    config = Config(
        backend_of(order["state"]),
        snapshot_interval_ms=order.get("interval", 0),
        persistence_mode=PersistenceMode[order.get("mode", "UDF_CACHING")],
    )
    await ap.run(graph, persistence_config=config)
