"""State and source logs as bytes: eight bytes that name the format and its version, then an Arrow IPC file.

A *state* file holds one increment of a `State`: rows in the order of the stable hash of their key, so that a
range of hashes is a range of the file; the hash itself is not stored. Rows under one key keep their order. A
*log* file holds what a source gave, in its order: `EPOCH`, the columns of the source, `ID` where there are
ids, and `WEIGHT`.

What is read back is checked only as far as it must be to be understood; whether the bytes are those that were
written is for a checksum to say.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Literal

import polars as pl

from asyncpersist.columnar.consolidate import promises_fewer
from asyncpersist.columnar.delta import WEIGHT
from asyncpersist.columnar.hashing import hash_columns

__all__ = [
    "EPOCH",
    "Compression",
    "compact_log",
    "compact_log_if_smaller",
    "decode",
    "encode",
    "latest_rows",
    "merge_log",
    "merge_state",
]

EPOCH = "__epoch"
"""The reserved column of a log that says in which epoch a row was stepped (Int64)."""

Compression = Literal["zstd", "lz4", "uncompressed"]

_HASH = "__hash"
_NAME = b"APSTATE"
_VERSION = 1
_END = b"ARROW1"
_BATCH_ROWS = 1 << 17
_SAMPLE_ROWS = 8192
_FEW = 0.1


def encode(frame: pl.DataFrame, *, key: Sequence[str] | None, compression: Compression = "zstd") -> bytes:
    """A state file of `frame` under `key`, or a log file where `key` is None.

    The bytes of two calls may differ even for equal frames: what lies under a None is anything.
    """
    if key is not None and frame.height > 1:
        frame = _by_hash(frame, key)
    buffer = io.BytesIO(_NAME + bytes([_VERSION]))
    buffer.seek(0, io.SEEK_END)
    if key is None:
        # A log is hardly ever read: as it lies in memory, which takes a quarter less time and a tenth more room.
        layout = pl.CompatLevel.newest()
    else:
        # Strings lie end to end in the oldest layout, which compresses best: a quarter below that of views.
        layout, frame = pl.CompatLevel.oldest(), frame.rechunk()
    # In batches, as each is copied into the buffer while other threads are held up.
    frame.write_ipc(buffer, compression=compression, compat_level=layout, record_batch_size=_BATCH_ROWS)
    return buffer.getvalue()


def decode(data: bytes) -> pl.DataFrame:
    """The frame of a state or log file. Raises `ValueError` if this version cannot read the bytes as one."""
    header = len(_NAME) + 1
    if len(data) < header or not data.startswith(_NAME):
        raise ValueError(f"{len(data)} bytes that are no state or log file: they begin otherwise")
    if data[header - 1] != _VERSION:
        raise ValueError(f"a state or log file of format {data[header - 1]}; this version reads {_VERSION}")
    if not data.endswith(_END):
        raise ValueError(f"{len(data)} bytes of a state or log file without its end: cut off or damaged")
    try:
        return pl.read_ipc(data[header:])
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as exc:
        raise ValueError(f"a damaged state or log file of {len(data)} bytes: {exc}") from exc


def latest_rows(frames: Sequence[pl.DataFrame], key: Sequence[str], *, drop_tombstones: bool) -> pl.DataFrame:
    """Of increments in the order in which they apply, the last row under each key.

    Rows of `WEIGHT` 0 hide what is under their key, and are themselves left out only with `drop_tombstones`:
    where nothing older remains. In no particular order. Raises `ValueError` if the frames have different
    columns.
    """
    rows = _concatenated(frames)
    if rows.height > 1:
        rows = rows.unique(subset=list(key), keep="last") if key else rows.tail(1)
    return rows.filter(pl.col(WEIGHT) != 0) if drop_tombstones else rows


def merge_state(
    parts: Sequence[bytes],
    key: Sequence[str],
    *,
    drop_tombstones: bool,
    compression: Compression = "zstd",
) -> bytes:
    """One state file that says the same as `parts`, in the order in which they apply; see `latest_rows`."""
    rows = latest_rows([decode(part) for part in parts], key, drop_tombstones=drop_tombstones)
    return encode(rows, key=key, compression=compression)


def merge_log(parts: Sequence[bytes], *, consolidate: bool, compression: Compression = "zstd") -> bytes:
    """One log file of `parts`, in their order.

    With `consolidate`, rows that are equal but for `EPOCH` become one with the sum of their weights, rows of
    weight 0 vanish, order is lost, and all get the largest epoch of the parts: for where only the present
    content counts. Raises `ValueError`.
    """
    rows = _concatenated([decode(part) for part in parts])
    return encode(compact_log(rows) if consolidate else rows, key=None, compression=compression)


def compact_log(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows of a log in which equal ones, but for `EPOCH`, are one of the largest epoch; see `merge_log`."""
    if not rows.height:
        return rows
    columns = [name for name in rows.columns if name not in (EPOCH, WEIGHT)]
    merged = rows.group_by(columns).agg(pl.col(WEIGHT).sum()).filter(pl.col(WEIGHT) != 0)
    last = pl.lit(rows[EPOCH].max(), dtype=pl.Int64).alias(EPOCH)
    return merged.with_columns(last).select(rows.columns)


def compact_log_if_smaller(rows: pl.DataFrame) -> pl.DataFrame:
    """`compact_log` where rows taken evenly from all over promise that few of them remain.

    Finding equal rows costs twice what encoding them does.
    """
    sample = rows.drop(EPOCH, WEIGHT).gather_every(max(1, rows.height // _SAMPLE_ROWS))
    return compact_log(rows) if sample.width and promises_fewer(sample, total=rows.height, share=_FEW) else rows


def _by_hash(frame: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    hashes = pl.Series(_HASH, hash_columns(frame, key))
    return frame.with_columns(hashes).sort(_HASH, maintain_order=True).drop(_HASH)


def _concatenated(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    if not frames:
        raise ValueError("nothing to merge")
    try:
        return pl.concat(frames, how="vertical", rechunk=False)
    except pl.exceptions.PolarsError as exc:
        raise ValueError(f"state or log files whose columns differ cannot be merged: {exc}") from exc
