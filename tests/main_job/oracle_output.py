"""Change streams of any columns read back from files, checked line by line and summed up."""

from __future__ import annotations

import base64
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from asyncpersist.dtypes import DType
from tests.operators.oracle import plain

Columns = Mapping[str, DType]


def final_rows(path: Path, columns: Columns) -> Counter[Any]:
    """The rows that are there at the end, having checked that no row is retracted that was not there, that epochs only
    grow, and that retractions come first in each and are of other rows than its insertions.
    """
    live: Counter[tuple[str, ...]] = Counter()
    last, retracted, inserted = 0, set[tuple[str, ...]](), False
    for fields, time, diff in _changes(path, list(columns)):
        assert time >= last, f"epoch {time} after {last}"
        if time > last:
            last, retracted, inserted = time, set(), False
        assert diff in (1, -1)
        if diff == 1:
            inserted = True
            # JSON has null for NaN and the infinities too: such rows may only look the same.
            assert fields not in retracted or "null" in fields, f"{fields} retracted and inserted in epoch {time}"
        else:
            assert not inserted, f"{fields} retracted after an insertion in epoch {time}"
            assert live[fields] > 0, f"{fields} retracted in epoch {time}, but it was not there"
            retracted.add(fields)
        live[fields] += diff
    read = _from_json if path.suffix == ".jsonl" else _from_field
    total: Counter[Any] = Counter()
    for fields, count in live.items():
        row = tuple(plain(read(field, dtype)) for field, dtype in zip(fields, columns.values(), strict=True))
        total[row] += count
    return +total


def expected_rows(path: Path, columns: Columns, rows: Iterable[Mapping[str, Any]]) -> Counter[Any]:
    """The same of the right answer, as far as the file's format can tell values apart."""
    in_json = path.suffix == ".jsonl"
    return Counter(tuple(plain(_shown(row[n], dtype, in_json)) for n, dtype in columns.items()) for row in rows)


def _changes(path: Path, names: list[str]) -> Iterable[tuple[tuple[str, ...], int, int]]:
    text = path.read_bytes().decode()
    assert text == "" or text.endswith("\n"), f"{path} ends in a torn line"
    if path.suffix == ".jsonl":
        for line in text.split("\n")[:-1]:
            row = json.loads(line)
            assert list(row) == [*names, "time", "diff"]
            yield tuple(json.dumps(row[name]) for name in names), row["time"], row["diff"]
        return
    records = iter(_csv_records(text))
    assert [field.strip('"') for field in next(records)] == [*names, "time", "diff"]
    for record in records:
        yield record[:-2], int(record[-2]), int(record[-1])


def _csv_records(text: str) -> Iterable[tuple[str, ...]]:
    """The fields of each record with their quotes, which tell an empty string from None."""
    record, start, quoted = list[str](), 0, False
    for at, char in enumerate(text):
        if char == '"':
            quoted = not quoted
        elif char in ",\n" and not quoted:
            record.append(text[start:at])
            start = at + 1
            if char == "\n":
                yield tuple(record)
                record = []


def _from_field(field: str, dtype: DType) -> Any:
    if not field:
        return None
    if field.startswith('"'):
        field = field[1:-1].replace('""', '"')
    match dtype.kind:
        case "int" | "duration":
            return int(field)
        case "float":
            return float(field)
        case "bool":
            return {"true": True, "false": False}[field]
        case "list" | "tuple" | "json" | "array":
            return _from_json(field, dtype)
    return _value(field, dtype)


def _from_json(field: str, dtype: DType) -> Any:
    return _value(json.loads(field), dtype)


def _value(value: Any, dtype: DType) -> Any:
    if value is None:
        return None
    match dtype.kind:
        case "naive_datetime" | "utc_datetime":
            return datetime.fromisoformat(value)
        case "pointer":
            assert value[0] == "^"
            return int(value[1:], 16)
        case "bytes":
            return base64.b64decode(value)
        case "list":
            return [_value(item, dtype.args[0]) for item in value]
        case "tuple":
            return [_value(item, arg) for item, arg in zip(value, dtype.args, strict=True)]
        case "float":
            return float(value)
    return value


def _shown(value: Any, dtype: DType, in_json: bool) -> Any:
    if value is None:
        return None
    match dtype.kind:
        case "float":
            return value if math.isfinite(value) or not in_json else None
        case "duration":
            return value // timedelta(microseconds=1) * 1000
        case "list":
            return [_shown(item, dtype.args[0], True) for item in value]
        case "tuple":
            return [_shown(item, arg, True) for item, arg in zip(value, dtype.args, strict=True)]
    return value
