"""Change rows as bytes, column by column: what stands in an output file.

A line holds the table's columns, then `time` (the epoch) and `diff` (+1 or -1; a weight of n is n lines). Within an
epoch retractions come first. How values are written:

| kind | CSV | JSON lines |
|---|---|---|
| None | an empty field | null |
| int, float, bool | `1`, `0.1`, `NaN`, `inf`, `true` | the same as JSON; what is not finite is null |
| str | as it is, quoted where needed; `""` is the empty string | a string |
| bytes | base64 | a string of base64 |
| naive_datetime, utc_datetime | `2026-01-31T23:59:59.000001`, with `+00:00` if UTC | the same in a string |
| duration | nanoseconds | nanoseconds |
| pointer | `^` and 32 hexadecimal digits | the same in a string |
| list, tuple | JSON text | an array |
| json | JSON text | the value |
| array | JSON text | `{"shape": [...], "elements": [...]}` |
| future | its value; as None while it is pending | the same |
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
import polars as pl

from asyncpersist.columnar.delta import Delta
from asyncpersist.columnar.memory_file import memory_file
from asyncpersist.dtypes import DType
from asyncpersist.errors import SchemaError

__all__ = [
    "DIFF",
    "TIME",
    "FileFormat",
    "OnRestart",
    "change_rows",
    "check_output",
    "header",
    "pointer_text",
    "render",
    "written_types",
]

FileFormat = Literal["csv", "jsonlines"]
OnRestart = Literal["continue", "overwrite"]

TIME = "time"
DIFF = "diff"

_NESTED = frozenset({"list", "tuple", "array", "json"})


def check_output(path: str, columns: Mapping[str, DType], on_restart: str) -> None:
    """Raises `SchemaError` for a table with columns `TIME` or `DIFF`, `ValueError` for no `OnRestart`."""
    for name in (TIME, DIFF):
        if name in columns:
            raise SchemaError(
                f"{path}: the table has a column {name!r}, and so has every output file, which says there when and how "
                "a row changed. Rename the table's before it is written."
            )
    if on_restart not in get_args(OnRestart):
        raise ValueError(f"on_restart={on_restart!r}: it is 'continue' or 'overwrite'")


def header(format: FileFormat, columns: Mapping[str, DType]) -> bytes:
    """What stands at the beginning of a file."""
    if format == "jsonlines":
        return b""
    return pl.DataFrame(schema=dict.fromkeys([*columns, TIME, DIFF], pl.Int64)).write_csv().encode()


def render(format: FileFormat, columns: Mapping[str, DType], epoch: int, delta: Delta) -> bytes:
    """The lines of one epoch's change, which must be consolidated; each ends in a newline."""
    rows = change_rows(columns, epoch, delta)
    columns = written_types(columns)
    with memory_file() as out:
        if format == "csv":
            fields = [_csv_field(pl.col(name), dtype).alias(name) for name, dtype in columns.items()]
            rows.select(*fields, TIME, DIFF).write_csv(out, include_header=False)
        elif all(_is_plain(dtype) for dtype in columns.values()):
            fields = [_plain(pl.col(name), dtype).alias(name) for name, dtype in columns.items()]
            rows.select(*fields, TIME, DIFF).write_ndjson(out)
        else:
            rows.select(_json_line(columns)).write_csv(out, include_header=False, quote_style="never")
        out.seek(0)
        return out.read()


def written_types(columns: Mapping[str, DType]) -> dict[str, DType]:
    """The types of what is written: of a future that of its value, or None."""
    return {name: dtype.awaited.as_optional() if dtype.kind == "future" else dtype for name, dtype in columns.items()}


def change_rows(columns: Mapping[str, DType], epoch: int, delta: Delta) -> pl.DataFrame:
    """One row per unit of weight, retractions first, of `written_types`, with `TIME` and `DIFF`."""
    rows = delta.rows.select(
        pl.col(name).struct.field("value").alias(name) if dtype.kind == "future" else name
        for name, dtype in columns.items()
    )
    diffs = pl.lit(1, dtype=pl.Int64)
    if delta.weights is not None:
        weights = delta.weights
        order = np.concatenate([np.flatnonzero(weights < 0), np.flatnonzero(weights > 0)])
        sizes = np.abs(weights[order])
        if (sizes != 1).any():
            order = np.repeat(order, sizes)
        rows = rows[order]
        diffs = pl.lit(pl.Series(np.sign(weights[order])))
    return rows.with_columns(pl.lit(epoch, dtype=pl.Int64).alias(TIME), diffs.alias(DIFF))


def _csv_field(value: pl.Expr, dtype: DType) -> pl.Expr:
    if dtype.kind not in _NESTED:
        return _plain(value, dtype)
    return pl.when(value.is_not_null()).then(_json_text(value, dtype))


def _json_line(columns: Mapping[str, DType]) -> pl.Expr:
    parts: list[pl.Expr] = []
    opening = "{"
    for name, dtype in columns.items():
        parts += [pl.lit(f"{opening}{json.dumps(name, ensure_ascii=False)}:"), _json_text(pl.col(name), dtype)]
        opening = ","
    time, diff = pl.col(TIME).cast(pl.String), pl.col(DIFF).cast(pl.String)
    return pl.concat_str([*parts, pl.lit(',"time":'), time, pl.lit(',"diff":'), diff, pl.lit("}")])


def _is_plain(dtype: DType) -> bool:
    """Whether Polars itself writes the column as JSON once `_plain` was applied to it."""
    return dtype.kind not in ("json", "tuple") and all(map(_is_plain, dtype.args))


def _plain(value: pl.Expr, dtype: DType) -> pl.Expr:
    """A plain column as one whose values Polars writes as they are to be written."""
    match dtype.kind:
        case "bytes":
            return value.bin.encode("base64")
        case "naive_datetime" | "utc_datetime":
            return value.dt.to_string("iso:strict")
        case "duration":
            return value.cast(pl.Int64).cast(pl.Int128) * 1000
        case "pointer":
            return value.map_batches(pointer_text, return_dtype=pl.String)
        case "list":
            return value.list.eval(_plain(pl.element(), dtype.args[0]))
        case "array":
            shape, elements = value.struct.field("shape"), value.struct.field("data").alias("elements")
            return pl.when(value.is_not_null()).then(pl.struct(shape, elements))
    return value


def _json_text(value: pl.Expr, dtype: DType) -> pl.Expr:
    """A column as JSON text, `null` for None."""
    if dtype.kind == "json":
        return value.fill_null("null")
    if _is_plain(dtype):
        return pl.struct(_plain(value, dtype).alias("")).struct.json_encode().str.slice(len('{"":')).str.head(-1)
    if dtype.kind == "list":
        items = value.list.eval(_json_text(pl.element(), dtype.args[0])).list.join(",")
    else:
        fields = [_json_text(value.struct.field(f"f{i}"), arg) for i, arg in enumerate(dtype.args)]
        items = pl.concat_str(fields, separator=",")
    text = pl.concat_str(pl.lit("["), items, pl.lit("]"))
    return pl.when(value.is_null()).then(pl.lit("null")).otherwise(text)


def pointer_text(pointers: pl.Series) -> pl.Series:
    """Pointers as `^` and 32 hexadecimal digits."""
    half = pl.lit(2**64, dtype=pl.UInt128)
    values = pl.DataFrame({"p": pointers}).with_columns(pl.col("p").fill_null(0))
    low = values.select(pl.col("p").cast(pl.UInt64, wrap_numerical=True)).to_series()
    high = values.select((pl.col("p") // half).cast(pl.UInt64)).to_series()
    big_endian = np.stack([high.to_numpy(), low.to_numpy()], axis=1).astype(">u8").view(np.uint8)
    nibbles = np.stack([big_endian >> 4, big_endian & 15], axis=2).reshape(-1, 32)
    text = np.empty((len(pointers), 33), np.uint8)
    text[:, 0] = ord("^")
    text[:, 1:] = np.frombuffer(b"0123456789ABCDEF", np.uint8)[nibbles]
    strings = pl.Series(pointers.name, text.reshape(-1).view("S33")).cast(pl.String)
    return strings.zip_with(pointers.is_not_null(), pl.Series([None], dtype=pl.String))
