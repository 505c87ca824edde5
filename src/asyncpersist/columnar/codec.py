"""State and source logs as bytes.

Eight bytes name the format and its version. Four give, little-endian, the length of a JSON header that follows: the
names of all `columns`, and those kept as `runs` (value, rows) because they hardly change. Then an Arrow IPC file of the
other columns, as a whole in a zstd frame where `zstd` says so.

A *state* file holds one increment of a `State`: rows in the order of the stable hash of their key, so that a
range of hashes is a range of the file; the hash itself is not stored. Rows under one key keep their order. A
*log* file holds what a source gave, in its order: `EPOCH`, the columns of the source, `ID` where there are
ids, `PART` and `ORDER` where the source has them, and `WEIGHT`.

A *joined* file is several log files end to end, so that they need not be read to become one: eight bytes as above with
another name, four with their number, eight with the length of each, and the files.

What is read back is checked only as far as it must be to be understood; whether the bytes are those that were
written is for a checksum to say.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import BinaryIO, Literal, cast

import msgspec
import numpy as np
import polars as pl

from asyncpersist.columnar.delta import PART, WEIGHT
from asyncpersist.columnar.hashing import hash_columns
from asyncpersist.columnar.memory_file import memory_file

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = [
    "EPOCH",
    "Compression",
    "Runs",
    "columns",
    "decode",
    "encode",
    "files",
    "join",
    "latest_rows",
    "merge_state",
    "parts",
]

EPOCH = "__epoch"
"""The reserved column of a log that says in which epoch a row was stepped (Int64)."""

Runs = list[tuple[int, int]]
"""A column of integers: values, and how many rows have each."""

Compression = Literal["zstd", "lz4", "uncompressed"]

_NAME = b"APSTATE"
_JOINED = b"APFILES"
_VERSION = 1
_END = b"ARROW1"
_BATCH_ROWS = 1 << 15
_MOST_RUNS = 64
_LEVEL = 1
"""Of zstd. The next ones take twice the time and save some percent."""


class _Header(msgspec.Struct):
    columns: list[str]
    runs: dict[str, Runs]
    zstd: bool


def encode(
    frame: pl.DataFrame,
    *,
    key: Sequence[str] | None,
    runs: Mapping[str, Runs] | None = None,
    compression: Compression = "zstd",
) -> bytes:
    """A state file of `frame` under `key`, or a log file where `key` is None.

    `runs`: further columns, given as runs of a value; they are the last of the file. The bytes of two calls may differ
    even for equal frames: what lies under a None is anything.
    """
    if runs is not None and any(len(some) > _MOST_RUNS for some in runs.values()):
        frame, runs = frame.with_columns([_column(name, some) for name, some in runs.items()]), None
    if key is not None and frame.height > 1:
        hashes = hash_columns(frame, key)
        order = np.argsort(hashes)
        if (np.diff(hashes[order]) == 0).any():
            order = np.argsort(hashes, kind="stable")  # four times as slow
        frame = frame[order]
    found = {name: _runs(frame, name) for name in (EPOCH, PART, WEIGHT) if name in frame.columns}
    kept = {name: some for name, some in found.items() if some is not None}
    body = frame.drop(kept)
    header = _Header([*frame.columns, *(runs or {})], {**kept, **(runs or {})}, compression == "zstd")
    text = msgspec.json.encode(header)
    with memory_file() as file:
        file.write(_NAME + bytes([_VERSION]) + len(text).to_bytes(4, "little") + text)
        compressing = _Compressing(file) if header.zstd else None
        # Strings lie end to end in the oldest layout, which is half of what they take in the newest.
        body.write_ipc(
            cast(BinaryIO, compressing or file),
            compression="lz4" if compression == "lz4" else "uncompressed",
            compat_level=pl.CompatLevel.oldest(),
            record_batch_size=_BATCH_ROWS,
        )
        if compressing is not None:
            compressing.finish()
        file.seek(0)
        return file.read()


class _Compressing:
    """What Polars takes for a file to write to: it makes one zstd frame of what it is given, in another file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._compressor = zstd.ZstdCompressor(_LEVEL)

    def write(self, data: bytes) -> int:
        if piece := self._compressor.compress(data):
            self._file.write(piece)
        return len(data)

    def finish(self) -> None:
        self._file.write(self._compressor.flush())


def join(data: Sequence[bytes | memoryview]) -> bytes:
    """One file that says the same as several log files, joined ones among them, in their order.

    Raises `ValueError` if one cannot be read as that.
    """
    pieces = [piece for file in data for piece in files(file)]
    with memory_file() as file:
        file.write(_JOINED + bytes([_VERSION]) + len(pieces).to_bytes(4, "little"))
        file.write(b"".join(piece.nbytes.to_bytes(8, "little") for piece in pieces))
        for piece in pieces:
            _write(file, piece)
        file.seek(0)
        return file.read()


def _write(file: BinaryIO, data: memoryview) -> None:
    while data.nbytes:
        data = data[file.write(data) :]


def files(data: bytes | memoryview) -> list[memoryview]:
    """The files that a joined one consists of; of any other file, itself. Raises `ValueError`."""
    view = memoryview(data)
    named = len(_JOINED) + 1
    if view[: named - 1] != _JOINED:
        return [view]
    if view[named - 1 : named] != bytes([_VERSION]):
        raise ValueError(f"a joined file of format {view[named - 1]}; this version reads {_VERSION}")
    count = int.from_bytes(view[named : named + 4], "little")
    start = named + 4 + 8 * count
    if len(view) < start:
        raise ValueError(f"a joined file of {len(view)} bytes that is cut off")
    edges = [start]
    for i in range(named + 4, start, 8):
        edges.append(edges[-1] + int.from_bytes(view[i : i + 8], "little"))
    if edges[-1] != len(view):
        raise ValueError(f"a joined file of {len(view)} bytes that should have {edges[-1]}: it is cut off or damaged")
    return [view[first:last] for first, last in pairwise(edges)]


def parts(data: bytes | memoryview) -> Iterator[pl.DataFrame]:
    """The frames of a file, of a joined one those of its files in their order, decoded as they are asked for.

    Raises `ValueError` as `decode` does.
    """
    for file in files(data):
        yield _decode(file)


def decode(data: bytes | memoryview) -> pl.DataFrame:
    """The frame of a state, log or joined file. Raises `ValueError` if this version cannot read the bytes as one."""
    frames = list(parts(data))
    return frames[0] if len(frames) == 1 else _concatenated([_like(frame, frames[0]) for frame in frames])


def _like(frame: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    """The frame with its columns in the order of the other one's, if they are the same."""
    return frame.select(other.columns) if set(frame.columns) == set(other.columns) else frame


def columns(file: memoryview) -> list[str]:
    """The names of all columns of a state or log file, without decoding it. Raises `ValueError`."""
    return _header(file)[0].columns


def _header(file: memoryview) -> tuple[_Header, int]:
    """The header, and where the body begins."""
    named = len(_NAME) + 1
    if len(file) < named or file[: named - 1] != _NAME:
        raise ValueError(f"{len(file)} bytes that are no state or log file: they begin otherwise")
    if file[named - 1] != _VERSION:
        raise ValueError(f"a state or log file of format {file[named - 1]}; this version reads {_VERSION}")
    start = named + 4 + int.from_bytes(file[named : named + 4], "little")
    try:
        return msgspec.json.decode(file[named + 4 : start], type=_Header), start
    except msgspec.MsgspecError as exc:
        raise ValueError(f"a state or log file of {len(file)} bytes that is cut off or damaged: {exc}") from exc


def _decode(data: memoryview) -> pl.DataFrame:
    header, start = _header(data)
    try:
        body = zstd.decompress(data[start:]) if header.zstd else bytes(data[start:])
        if not body.endswith(_END):
            raise ValueError("it has no end")
        frame = pl.read_ipc(body).rechunk()
        runs = [_column(name, some) for name, some in header.runs.items()]
        return (frame.with_columns(runs) if frame.width else pl.DataFrame(runs)).select(header.columns)
    except (
        pl.exceptions.PolarsError,
        pl.exceptions.PanicException,
        zstd.ZstdError,
        OSError,
        ValueError,
    ) as exc:
        raise ValueError(f"a state or log file of {len(data)} bytes that is cut off or damaged: {exc}") from exc


def _runs(frame: pl.DataFrame, name: str) -> Runs | None:
    """The values of an integer column with how often each follows itself; None if they are many."""
    # By expressions, as other threads go on while one is computed.
    column = pl.col(name)
    changed = (column != column.shift()).fill_null(True)
    if frame.select(changed.sum()).item() > _MOST_RUNS:
        return None
    runs = frame.select(column.rle().alias("run")).unnest("run")
    return list(zip(runs["value"].to_list(), runs["len"].to_list(), strict=True))


def _column(name: str, runs: Runs) -> pl.Series:
    pairs = np.array(runs, np.int64).reshape(-1, 2)
    return pl.Series(name, np.repeat(pairs[:, 0], pairs[:, 1]))


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


def _concatenated(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    if not frames:
        raise ValueError("nothing to merge")
    try:
        return pl.concat(frames, how="vertical", rechunk=False)
    except pl.exceptions.PolarsError as exc:
        raise ValueError(f"state or log files whose columns differ cannot be merged: {exc}") from exc
