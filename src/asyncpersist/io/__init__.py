"""Connectors: where tables come from and where their changes go."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from asyncpersist import errors
from asyncpersist.io import csv, fs, jsonlines, null, parquet, plaintext, python, s3
from asyncpersist.io.formats.csv_records import CsvParserSettings
from asyncpersist.io.subscribe import subscribe

__all__ = ["CsvParserSettings", "csv", "fs", "jsonlines", "null", "parquet", "plaintext", "python", "s3", "subscribe"]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> NoReturn:
        if name == "view":
            raise errors.NotBuilt(f"asyncpersist.io.{name} is not built yet; there are {', '.join(__all__[1:])}")
        raise AttributeError(f"module 'asyncpersist.io' has no attribute {name!r}")
