"""Reading a source to its end, for the tests of file sources."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asyncpersist.dtypes import DType
from asyncpersist.io.file_source import FileSource
from asyncpersist.io.formats.csv import Csv
from asyncpersist.io.formats.csv_records import CsvParserSettings
from asyncpersist.io.formats.format import Format
from asyncpersist.io.formats.jsonlines import JsonLines
from asyncpersist.io.formats.plaintext import PlainText
from asyncpersist.io.source import Batch, Needs, Source

TEXT = PlainText()


def json_format(defaults: Mapping[str, Any] | None = None, /, **columns: Any) -> JsonLines:
    return JsonLines({name: DType.of(column) for name, column in columns.items()}, defaults or {})


def csv_format(
    defaults: Mapping[str, Any] | None = None,
    settings: CsvParserSettings | None = None,
    encoding: str = "utf-8",
    /,
    **columns: Any,
) -> Csv:
    types = {name: DType.of(column) for name, column in columns.items()}
    return Csv(types, defaults or {}, settings or CsvParserSettings(), encoding)


async def batches(source: Source, offsets: Mapping[str, Any] | None = None, *, ids: bool = True) -> list[Batch]:
    """All that a source gives from `offsets` on; it is closed also if it fails."""
    await source.check(offsets, persistent=True)
    reader = await source.open(offsets, identity="source", needs=Needs(ids=ids))
    found = []
    try:
        while (batch := await reader.read()) is not None:
            found.append(batch)
        assert await reader.read() is None
    finally:
        await reader.aclose()
    return found


def rows(found: list[Batch]) -> list[tuple[Any, ...]]:
    """The rows of batches that carry ids, the id last."""
    return [row for batch in found for row in batch.delta.rows.rows()]


def offsets_after(found: list[Batch], start: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What a snapshot after these batches holds."""
    merged: dict[str, Any] = dict(start or {})
    for batch in found:
        merged.update(batch.offsets)
    return merged


async def values(path: Path | str, format: Format, **settings: Any) -> list[tuple[Any, ...]]:
    """The rows in files, in order, without ids."""
    return [row[:-1] for row in rows(await batches(FileSource(str(path), format, **settings)))]
