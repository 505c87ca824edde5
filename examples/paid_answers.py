"""Documents that a model is asked about, each once: run it, kill it, run it again, add documents to `documents/`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import asyncpersist as ap


class Document(ap.Schema):
    title: str
    text: str


@ap.udf(
    cache_strategy=ap.udfs.DefaultCache(durable="each"),
    executor=ap.udfs.async_executor(
        capacity=16, timeout=30, retry_strategy=ap.udfs.ExponentialBackoffRetryStrategy(max_retries=5)
    ),
    version=1,
)
async def summary(text: str) -> str:
    """Stands for a model that takes its time and wants to be paid."""
    await asyncio.sleep(0.05)
    print(f"paid for: {text[:20]}")
    return text.split(".", 1)[0]


def example() -> None:
    folder = Path("documents")
    if not folder.exists():
        folder.mkdir()
        documents = [{"title": f"No {n}", "text": f"Document {n} is short. It ends."} for n in range(100)]
        (folder / "first.jsonl").write_text("".join(f"{json.dumps(document)}\n" for document in documents))


async def main() -> None:
    example()
    documents = ap.io.jsonlines.read("documents/", schema=Document, mode="static", name="documents")
    ap.io.jsonlines.write(documents.select(ap.this.title, summary=summary(ap.this.text)), "summaries.jsonl")
    config = ap.persistence.Config(ap.persistence.Backend.filesystem("state"), snapshot_interval_ms=1000)
    await ap.run(persistence_config=config)


if __name__ == "__main__":
    asyncio.run(main())
