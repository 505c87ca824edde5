"""Connectors: where tables come from and where their changes go."""

from asyncpersist.io import csv, fs, jsonlines, plaintext
from asyncpersist.io.formats.csv_records import CsvParserSettings

__all__ = ["CsvParserSettings", "csv", "fs", "jsonlines", "plaintext"]
